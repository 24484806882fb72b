"""Revisions of a Deployment: its template's replica set is the new one, the others are history.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label and
#rolling-back-a-deployment
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.controllers.ownership import owner_reference

HASH: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
HISTORY: Final = "deployment.kubernetes.io/revision-history"
DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
MOST: Final = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED: Final = frozenset(
    (
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        HISTORY,
        DESIRED,
        MOST,
        "deprecated.deployment.rollback.to",
    )
)
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST_HISTORY: Final = 2000


def template_of(obj: Object) -> Object:
    """A pod template without the label that only tells replica sets apart."""
    template: Object = objects.copy(obj["spec"]["template"])
    metadata = template.get("metadata") or {}
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH}
    template["metadata"] = {
        name: value for name, value in (metadata | {"labels": labels}).items() if value and name != "creationTimestamp"
    }
    return template


def template_hash(template: Object, collisions: int | None) -> str:
    """A short name for a template; `collisions` makes another one where two templates had the same.

    FNV-1a of 32 bits over the template's canonical JSON, in letters that spell no words.
    """
    value = 2166136261
    text = orjson.dumps(template, option=orjson.OPT_SORT_KEYS)
    for byte in text if collisions is None else text + collisions.to_bytes(8, "little", signed=True):
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return "".join(_LETTERS[ord(digit) % len(_LETTERS)] for digit in str(value))


def oldest_first(sets: Iterable[Object]) -> list[Object]:
    """Replica sets in the order in which they were made."""
    return sorted(sets, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))


def find_new(deployment: Object, sets: Iterable[Object]) -> Object | None:
    """The replica set of the present template, the oldest one where there are several."""
    wanted = template_of(deployment)
    return next((each for each in oldest_first(sets) if template_of(each) == wanted), None)


def number_of(obj: Object) -> int:
    """An object's revision, 0 where it has none."""
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "")
    return int(text) if text.isdigit() else 0


def next_number(old: Sequence[Object]) -> int:
    """The revision after all former ones."""
    return max(map(number_of, old), default=0) + 1


def annotated(deployment: Object, replica_set: Object, number: int, *, exists: bool) -> dict[str, str]:
    """The annotations that the new replica set should have: the Deployment's, its revision, and the ones it had."""
    before: dict[str, str] = dict(replica_set["metadata"].get("annotations") or {})
    found = dict(before)
    copied = deployment["metadata"].get("annotations") or {}
    found |= {name: value for name, value in copied.items() if name not in _NOT_COPIED}
    old = before.get(REVISION, "")
    if (int(old) if old.isdigit() else 0) < number:
        found[REVISION] = str(number)
        if old:
            history = [*filter(None, before.get(HISTORY, "").split(",")), old]
            while len(",".join(history)) > _LONGEST_HISTORY:
                history.pop(0)
            found[HISTORY] = ",".join(history)
    if not exists:
        found |= sized(deployment, 0)
    return found


def sized(deployment: Object, surge: int) -> dict[str, str]:
    """The annotations by which a later change of the Deployment's size is noticed, and its share found."""
    replicas = int(deployment["spec"].get("replicas", 1))
    return {DESIRED: str(replicas), MOST: str(replicas + surge)}


def make(deployment: Object, number: int) -> Object:
    """The replica set of the present template, of no replicas yet."""
    template = template_of(deployment)
    collisions = (deployment.get("status") or {}).get("collisionCount")
    short = template_hash(template, collisions)
    labels = {**(template["metadata"].get("labels") or {}), HASH: short}
    template["metadata"]["labels"] = labels
    selector: Object = objects.copy(deployment["spec"]["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH: short}
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{deployment['metadata']['name']}-{short}",
            "namespace": deployment["metadata"]["namespace"],
            "labels": dict(labels),
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {
            "replicas": 0,
            "minReadySeconds": int(deployment["spec"].get("minReadySeconds") or 0),
            "selector": selector,
            "template": template,
        },
    }
    made["metadata"]["annotations"] = annotated(deployment, made, number, exists=False)
    return made
