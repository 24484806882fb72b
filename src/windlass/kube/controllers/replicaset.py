"""replicaset-controller and replication-controller: as many pods of a template as were asked for.

One implementation for both kinds; `ReplicationController` is the older name of the same thing.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from windlass.kube.api import objects, times
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.events import EventRecorder
from windlass.kube.controllers.ownership import OwnedIndex, claim, controller_of, selector_of, takers
from windlass.kube.controllers.pod_control import (
    BURST,
    PodControl,
    at_once,
    is_namespace_ending,
    pod_of,
    slow_start,
)
from windlass.kube.controllers.runner import Controller, Key

_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_FAILURE: Final = "ReplicaFailure"


class _Kind(NamedTuple):
    group: str
    plural: str
    kind: str


_REPLICA_SET: Final = _Kind("apps", "replicasets", "ReplicaSet")
_REPLICATION_CONTROLLER: Final = _Kind("", "replicationcontrollers", "ReplicationController")


class _Replicas(Controller):
    """Both kinds. Keys are their objects."""

    workers = 5
    _kind: _Kind

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, self.name)
        self._pods = PodControl(self.client, self._recorder)
        self._index = OwnedIndex(self._pod_touched)

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch(self._kind.group, self._kind.plural)
        self.listen("", "pods", self._index.changed)

    def _pod_touched(self, owner: Object | None, pod: Object) -> None:
        namespace = pod["metadata"]["namespace"]
        if owner is not None:
            if owner["kind"] == self._kind.kind:
                self.queue.add((namespace, owner["name"]))
            return
        if pod["metadata"].get("deletionTimestamp"):
            return
        for key in takers(self.cache, self._kind.group, self._kind.plural, pod):
            self.queue.add(key)

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        group, plural, _ = self._kind
        live = self.cache.get(group, plural, *key)
        if live is None:
            return None
        pods = await claim(self.client, "", "pods", live, plural, selector_of(live), self._index)
        active = [pod for pod in pods if pod_state.is_active(pod)]
        failure: StatusError | None = None
        if not live["metadata"].get("deletionTimestamp"):
            try:
                await self._scale(live, active)
            except StatusError as error:
                if is_namespace_ending(error):
                    return None
                failure = error
        # What was made or deleted just now is in the cache already.
        pods = [pod for pod in self._index.owned(live["metadata"]["uid"]) if not pod_state.is_over(pod)]
        wait = await self._tell(live, pods, failure)
        if failure is not None:
            raise failure
        return wait

    async def _scale(self, live: Object, active: Sequence[Object]) -> None:
        missing = int(live["spec"].get("replicas", 1)) - len(active)
        if missing > 0:
            template = pod_of(live["spec"]["template"], live)
            await slow_start(min(missing, BURST), lambda _: self._pods.create(objects.copy(template), live))
        elif missing < 0:
            chosen = ranked_for_deletion(active, self._neighbours(live))[: min(-missing, BURST)]
            await at_once([self._pods.delete(pod, live) for pod in chosen])

    def _neighbours(self, live: Object) -> Mapping[str, int]:
        """How many active pods of the same family are on each node: of all sets that one Deployment has."""
        owner = controller_of(live)
        family = [live]
        if owner is not None:
            siblings = self.cache.list(self._kind.group, self._kind.plural, live["metadata"]["namespace"])
            family = [each for each in siblings if (controller_of(each) or {}).get("uid") == owner["uid"]]
        return Counter(
            pod["spec"].get("nodeName") or ""
            for each in family
            for pod in self._index.owned(each["metadata"]["uid"])
            if pod_state.is_active(pod)
        )

    async def _tell(self, live: Object, pods: Sequence[Object], failure: StatusError | None) -> float | None:
        """Write the status where it has changed; seconds until a pod becomes available, None if none will."""
        status, wait = self._status(live, pods, failure)
        await self.write_status(self._kind.group, self._kind.plural, live, status)
        return wait

    def _status(self, live: Object, pods: Sequence[Object], failure: StatusError | None) -> tuple[Object, float | None]:
        spec, now = live["spec"], time.time()
        active = [pod for pod in pods if not pod_state.is_terminating(pod)]
        minimum = int(spec.get("minReadySeconds") or 0)
        waits = [wait for pod in active if (wait := pod_state.available_in(pod, minimum, now)) is not None]
        wanted = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        labelled = sum(wanted.items() <= (pod["metadata"].get("labels") or {}).items() for pod in active)
        status: Object = {"replicas": len(active), "observedGeneration": live["metadata"].get("generation", 0)}
        counts = {
            "fullyLabeledReplicas": labelled,
            "readyReplicas": len(waits),
            "availableReplicas": waits.count(0.0),
        }
        if self._kind is _REPLICA_SET:
            # Unlike the others, this one says 0, too: a Deployment has to know it.
            status["terminatingReplicas"] = len(pods) - len(active)
        status |= {name: count for name, count in counts.items() if count}
        conditions = [each for each in (live.get("status") or {}).get("conditions") or () if each["type"] != _FAILURE]
        if failure is not None:
            before = pod_state.condition(live, _FAILURE) or {}
            reason = "FailedCreate" if len(active) < int(spec.get("replicas", 1)) else "FailedDelete"
            since = before.get("lastTransitionTime") or times.format_time(now)
            conditions.append(
                {
                    "type": _FAILURE,
                    "status": "True",
                    "reason": reason,
                    "message": failure.message,
                    "lastTransitionTime": since,
                }
            )
        if conditions:
            status["conditions"] = conditions
        later = [wait for wait in waits if wait]
        return status, min(later) if later else None


class ReplicaSetController(_Replicas):
    """See the module."""

    name = "replicaset-controller"
    _kind = _REPLICA_SET


class ReplicationControllerController(_Replicas):
    """See the module."""

    name = "replication-controller"
    _kind = _REPLICATION_CONTROLLER


def ranked_for_deletion(pods: Iterable[Object], on_node: Mapping[str, int]) -> list[Object]:
    """Pods, those first that are missed least.

    `on_node` says how many pods of the same family each node has.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset
    """
    now = time.time()
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}

    def rank(pod: Object) -> tuple[Any, ...]:
        node = pod["spec"].get("nodeName") or ""
        ready = pod_state.ready_since(pod)
        created = objects.seconds(pod["metadata"]["creationTimestamp"])
        return (
            bool(node),
            phases.get(pod_state.phase(pod), 0),
            pod_state.is_ready(pod),
            _deletion_cost(pod),
            -on_node.get(node, 0),
            _magnitude(now - ready) if ready else -1,
            -pod_state.restarts(pod),
            _magnitude(now - created),
            pod["metadata"]["uid"],
        )

    return sorted(pods, key=rank)


def _magnitude(age: float) -> int:
    """Ages that differ little are alike: which of such pods goes is left to chance (their uid)."""
    return int(math.log2(age)) if age >= 1 else 0


def _deletion_cost(pod: Object) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(_DELETION_COST, "0")
    try:
        return int(text)
    except ValueError:
        return 0
