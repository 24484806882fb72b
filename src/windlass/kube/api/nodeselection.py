"""Which nodes a node selector and tolerations mean, for one node at a time. The scheduler looks at all at once.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/ and .../taint-and-toleration/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from windlass.kube.api import selectors
from windlass.kube.api.identity import Requirement

Object = dict[str, Any]
Taint = tuple[str, str, str]
"""Key, value and effect."""


def taints_of(node: Object) -> list[Taint]:
    """A node's taints."""
    listed = (node.get("spec") or {}).get("taints") or ()
    return [(each["key"], each.get("value") or "", each["effect"]) for each in listed]


def tolerates(tolerations: Iterable[Object], taint: Taint) -> bool:
    """Whether a taint does not matter."""
    key, value, effect = taint
    for each in tolerations:
        if each.get("effect") not in (None, "", effect):
            continue
        if (each.get("operator") or "Equal") == "Exists":
            if each.get("key") in (None, "", key):
                return True
        elif each.get("key") == key and (each.get("value") or "") == value:
            return True
    return False


def matches_terms(terms: Iterable[Object], node: Object) -> bool:
    """Whether a node meets one of the terms; a term that asks for nothing is met by none."""
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and selectors.label_matcher(_requirements(term.get("matchExpressions") or ()))(labels)
        and selectors.label_matcher(_requirements(term.get("matchFields") or ()))(fields)
        for term in terms
    )


def _requirements(expressions: Sequence[Object]) -> list[Requirement]:
    return [Requirement(each["key"], each["operator"], tuple(each.get("values") or ())) for each in expressions]
