"""Which volume suits a claim.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#binding
"""

from __future__ import annotations

from collections.abc import Iterable

from windlass.kube.api import nodeselection, quantity, selectors
from windlass.kube.api.resource import Object

_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def class_of(obj: Object) -> str:
    """The storage class that a claim or a volume names, "" for none."""
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get(_BETA_CLASS) or (obj.get("spec") or {}).get("storageClassName") or "")


def wanted_bytes(claim: Object) -> int:
    """How much a claim asks for."""
    requests = (claim["spec"].get("resources") or {}).get("requests") or {}
    return quantity.parse(requests.get("storage", "0")).value


def is_for(volume: Object, claim: Object) -> bool:
    """Whether a volume names this claim, bound or not yet."""
    reference = volume["spec"].get("claimRef")
    metadata = claim["metadata"]
    return (
        reference is not None
        and (reference.get("namespace"), reference.get("name")) == (metadata["namespace"], metadata["name"])
        and reference.get("uid") in (None, "", metadata["uid"])
    )


def find(claim: Object, volumes: Iterable[Object], node: Object | None) -> Object | None:
    """The smallest volume that suits a claim: one that was made for it first. `node`: where it has to be reachable."""
    best: tuple[int, str, Object] | None = None
    for volume in volumes:
        if volume["metadata"].get("deletionTimestamp"):
            continue
        if is_for(volume, claim):
            return volume
        if volume["spec"].get("claimRef") is not None or not suits(volume, claim):
            continue
        if (volume.get("status") or {}).get("phase") not in ("Available", "Pending", None):
            continue
        if node is not None and not reaches(volume, node):
            continue
        size = quantity.parse((volume["spec"].get("capacity") or {}).get("storage", "0")).value
        candidate = (size, volume["metadata"]["name"], volume)
        if best is None or candidate[:2] < best[:2]:
            best = candidate
    return None if best is None else best[2]


def suits(volume: Object, claim: Object) -> bool:
    """Whether a volume is of the class, modes, size and labels that a claim asks for."""
    spec, wanted = volume["spec"], claim["spec"]
    return (
        class_of(volume) == class_of(claim)
        and set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
        and (spec.get("volumeMode") or "Filesystem") == (wanted.get("volumeMode") or "Filesystem")
        and quantity.parse((spec.get("capacity") or {}).get("storage", "0")).value >= wanted_bytes(claim)
        and (
            wanted.get("selector") is None
            or selectors.matches_label_selector(wanted["selector"], volume["metadata"].get("labels") or {})
        )
    )


def reaches(volume: Object, node: Object) -> bool:
    """Whether a volume can be had on a node."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return required is None or nodeselection.matches_terms(required.get("nodeSelectorTerms") or (), node)
