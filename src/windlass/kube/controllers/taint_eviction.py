"""taint-eviction-controller: pods go from nodes with NoExecute taints that they do not tolerate, or not for longer.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from windlass.kube.api import objects
from windlass.kube.api.nodeselection import tolerates
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers import disruption_target, pod_state
from windlass.kube.controllers.events import NORMAL, EventRecorder
from windlass.kube.controllers.runner import Controller, Key

_MESSAGE: Final = "Taint manager: deleting due to NoExecute taint"


def seconds_left(
    pod: Object, taints: Sequence[Object], since: dict[tuple[str, str], float], now: float
) -> float | None:
    """Seconds for which a pod may stay, None for ever.

    Args:
        taints: the node's, of the effect NoExecute.
        since: when each of them (key, value) was added, in seconds.
    """
    found: list[float] = []
    for taint in taints:
        key = taint["key"], taint.get("value") or ""
        matching = [each for each in pod["spec"].get("tolerations") or () if tolerates([each], (*key, "NoExecute"))]
        if not matching:
            return 0.0
        limits = [int(each["tolerationSeconds"]) for each in matching if each.get("tolerationSeconds") is not None]
        if limits:
            found.append(max(since[key] + max(min(limits), 0) - now, 0.0))
    return min(found) if found else None


class TaintEvictionController(Controller):
    """See the module. Keys are pods."""

    name = "taint-eviction-controller"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, "taint-eviction-controller")
        self._first_seen: dict[tuple[str, str, str], float] = {}
        self._told: set[Key] = set()
        self._taints: dict[str, Any] = {}

    def subscribe(self) -> None:
        """See `Controller`."""
        self.listen("", "nodes", self._node_changed)
        self.watch("", "pods", self._if_tainted)

    def _node_changed(self, event: str, node: Object) -> None:
        name = node["metadata"]["name"]
        taints = [] if event == "DELETED" else _no_execute(node)
        if taints == self._taints.get(name, []):
            return
        if taints:
            self._taints[name] = taints
        else:
            del self._taints[name]
        for pod in self.cache.list("", "pods"):
            if pod["spec"].get("nodeName") == name:
                self.queue.add((pod["metadata"]["namespace"], pod["metadata"]["name"]))

    def _if_tainted(self, pod: Object) -> Iterable[Key]:
        if not self._taints.get(pod["spec"].get("nodeName") or ""):
            return ()
        return [(pod["metadata"]["namespace"], pod["metadata"]["name"])]

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        pod = self.cache.get("", "pods", *key)
        if pod is None or not pod["spec"].get("nodeName") or pod_state.is_terminating(pod):
            self._told.discard(key)
            return None
        node = self.cache.get("", "nodes", "", pod["spec"]["nodeName"])
        taints = _no_execute(node) if node is not None else []
        now = time.time()
        left = seconds_left(pod, taints, self._since(pod["spec"]["nodeName"], taints, now), now)
        path = f"{key[0]}/{key[1]}"
        if left is None:
            if key in self._told:
                self._told.discard(key)
                self._recorder.event(pod, NORMAL, "TaintManagerEviction", f"Cancelling deletion of Pod {path}")
            return None
        if left > 0:
            self._told.add(key)
            return left
        self._told.discard(key)
        self._recorder.event(pod, NORMAL, "TaintManagerEviction", f"Marking for deletion Pod {path}")
        await self._evict(pod)
        return None

    def _since(self, node: str, taints: Sequence[Object], now: float) -> dict[tuple[str, str], float]:
        found = {}
        for taint in taints:
            key = taint["key"], taint.get("value") or ""
            added = taint.get("timeAdded")
            found[key] = float(objects.seconds(added)) if added else self._first_seen.setdefault((node, *key), now)
        for known in [each for each in self._first_seen if each[0] == node and each[1:] not in found]:
            del self._first_seen[known]
        return found

    async def _evict(self, pod: Object) -> None:
        metadata = pod["metadata"]
        await disruption_target.mark(self.client, pod, "DeletionByTaintManager", _MESSAGE)
        try:
            await self.client.delete("", "pods", metadata["namespace"], metadata["name"], uid=metadata["uid"])
        except StatusError as error:
            if error.code != 409:
                raise


def _no_execute(node: Object) -> list[Object]:
    return [each for each in (node.get("spec") or {}).get("taints") or () if each["effect"] == "NoExecute"]
