"""Sizes of replica sets: how much more or less there may be, and each one's share of a change.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#proportional-scaling
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from windlass.kube.api.resource import Object
from windlass.kube.controllers.deployment import revisions


def replicas_of(obj: Object) -> int:
    """How many pods were asked for."""
    return int(obj["spec"].get("replicas", 1))


def reported(sets: Iterable[Object], field: str) -> int:
    """The sum of a number in the status of replica sets."""
    return sum(int((each.get("status") or {}).get(field) or 0) for each in sets)


def resolve(value: Any, total: int, *, up: bool) -> int:
    """A number, or a percentage of a total."""
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total
        return -(-share // 100) if up else share // 100
    return int(value or 0)


def limits(deployment: Object) -> tuple[int, int]:
    """maxSurge and maxUnavailable, as numbers. Both 0 would never move: then one may be missing."""
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return 0, 0
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    total = replicas_of(deployment)
    surge = resolve(rolling.get("maxSurge", "25%"), total, up=True)
    missing = resolve(rolling.get("maxUnavailable", "25%"), total, up=False)
    if surge == 0 and missing == 0:
        missing = 1
    return surge, min(missing, total)


def new_size(deployment: Object, sets: Sequence[Object], new: Object) -> int:
    """The new replica set's size, as large as the surge allows now."""
    wanted = replicas_of(deployment)
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return wanted
    room = wanted + limits(deployment)[0] - sum(map(replicas_of, sets))
    if room <= 0:
        return replicas_of(new)
    return replicas_of(new) + max(min(room, wanted - replicas_of(new)), 0)


def is_saturated(deployment: Object, new: Object | None) -> bool:
    """Whether the new replica set has all pods that were asked for, and all are available."""
    if new is None:
        return False
    annotations = new["metadata"].get("annotations") or {}
    wanted = replicas_of(deployment)
    return (
        annotations.get(revisions.DESIRED) == str(wanted)
        and replicas_of(new) == wanted
        and reported([new], "availableReplicas") == wanted
    )


def shares(deployment: Object, active: Sequence[Object]) -> list[tuple[Object, int]]:
    """The sizes of several replica sets that share a Deployment's replicas when their number has changed."""
    wanted = replicas_of(deployment)
    surge = limits(deployment)[0]
    allowed = wanted + surge if wanted else 0
    change = allowed - sum(map(replicas_of, active))
    # More goes to the newer one first, less is taken from the older one first, of those of one size.
    age = sorted(active, key=lambda each: each["metadata"]["creationTimestamp"], reverse=change > 0)
    ordered = sorted(age, key=replicas_of, reverse=True)
    found: list[tuple[Object, int]] = []
    done = 0
    for each in ordered:
        part = 0
        if change:
            left = change - done
            part = _part(deployment, each, surge)
            part = max(min(part, left), 0) if change > 0 else min(max(part, left), 0)
        found.append((each, replicas_of(each) + part))
        done += part
    if found and done != change:
        each, size = found[0]
        found[0] = (each, max(size + change - done, 0))
    return found


def _part(deployment: Object, replica_set: Object, surge: int) -> int:
    """The change of one replica set in proportion to its size before."""
    size, wanted = replicas_of(replica_set), replicas_of(deployment)
    if wanted == 0:
        return -size
    text = (replica_set["metadata"].get("annotations") or {}).get(revisions.MOST, "")
    before = int(text) if text.isdigit() and int(text) else reported([replica_set], "replicas") or size or 1
    return int(size * (wanted + surge) / before + 0.5) - size
