"""RollingUpdate and Recreate: how large each replica set is next.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from windlass.kube.api.resource import Object
from windlass.kube.controllers.deployment import revisions, scaling
from windlass.kube.controllers.deployment.scaling import replicas_of, reported

Step = tuple[Object, int]
"""A replica set and its next size."""


def grow(deployment: Object, sets: Sequence[Object], new: Object) -> Step | None:
    """The new replica set's next size, None where it has it already."""
    wanted = replicas_of(deployment)
    size = wanted if replicas_of(new) > wanted else scaling.new_size(deployment, sets, new)
    return None if size == replicas_of(new) else (new, size)


def shrink(deployment: Object, old: Sequence[Object], new: Object) -> list[Step]:
    """The old replica sets' next sizes: pods that do not work go first, then as many as are not needed."""
    if not sum(map(replicas_of, old)):
        return []
    least = replicas_of(deployment) - scaling.limits(deployment)[1]
    missing = replicas_of(new) - reported([new], "availableReplicas")
    spare = sum(map(replicas_of, [*old, new])) - least - missing
    if spare <= 0:
        return []
    sizes = {each["metadata"]["uid"]: replicas_of(each) for each in old}
    for each, count in _unhealthy(old, spare):
        sizes[each["metadata"]["uid"]] -= count
    # Of those that are available, as many as there are more than needed.
    spare = reported([*old, new], "availableReplicas") - least
    for each in revisions.oldest_first(old):
        if spare <= 0:
            break
        count = min(sizes[each["metadata"]["uid"]], spare)
        sizes[each["metadata"]["uid"]] -= count
        spare -= count
    return [(each, size) for each in old if (size := sizes[each["metadata"]["uid"]]) != replicas_of(each)]


def _unhealthy(old: Sequence[Object], most: int) -> Iterator[tuple[Object, int]]:
    """How many pods of each old replica set are not available, `most` of all."""
    for each in revisions.oldest_first(old):
        count = min(replicas_of(each) - reported([each], "availableReplicas"), most)
        if count > 0:
            most -= count
            yield each, count
