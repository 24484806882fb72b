"""node-lifecycle-controller: nodes of which nothing is heard any longer, and what that means for their pods.

    lease not renewed for 50 s ─▶ conditions Unknown ─▶ NoExecute taint ─▶ taint-eviction-controller
                                └▶ pods not Ready     └ not where all nodes are silent: then it is us who hear nothing

Source: https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller
"""

from __future__ import annotations

import time
from typing import Any, Final

from windlass.kube.api import times
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.events import NORMAL, EventRecorder
from windlass.kube.controllers.node_taints import NOT_READY, UNREACHABLE
from windlass.kube.controllers.runner import Controller, Key

_PERIOD: Final = 5.0
GRACE: Final = 50.0
_LEASES: Final = ("coordination.k8s.io", "leases")
_NAMESPACE: Final = "kube-node-lease"
_KINDS: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class NodeLifecycleController(Controller):
    """See the module. Keys are nodes. What counts is when we saw a sign of life, not what a node's clock says."""

    name = "node-controller"

    def __init__(self, client: Client, grace: float = GRACE) -> None:
        super().__init__(client)
        self._grace = grace
        self._recorder = EventRecorder(self.client, "node-controller")
        self._seen: dict[str, tuple[Any, float]] = {}

    def subscribe(self) -> None:
        """See `Controller`."""
        self.listen("", "nodes", self._node_changed)
        self.listen(*_LEASES, self._lease_changed)

    def _node_changed(self, event: str, node: Object) -> None:
        name = node["metadata"]["name"]
        if event == "DELETED":
            self._seen.pop(name, None)
        else:
            ready = pod_state.condition(node, "Ready") or {}
            if ready.get("status") != "Unknown":
                self._alive(name, ("status", ready.get("lastHeartbeatTime")))
        self.queue.add(("", name))

    def _lease_changed(self, event: str, lease: Object) -> None:
        if event != "DELETED" and lease["metadata"]["namespace"] == _NAMESPACE:
            self._alive(lease["metadata"]["name"], ("lease", (lease.get("spec") or {}).get("renewTime")))

    def _alive(self, name: str, sign: Any) -> None:
        known = self._seen.get(name)
        signs = dict(known[0]) if known is not None else {}
        if known is None or signs.get(sign[0]) != sign[1]:
            signs[sign[0]] = sign[1]
            self._seen[name] = (signs, time.monotonic())

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        name = key[1]
        node = self.cache.get("", "nodes", "", name)
        if node is None:
            return None
        known = self._seen.setdefault(name, ({}, time.monotonic()))
        if time.monotonic() - known[1] >= self._grace:
            node = await self._silent(node)
        await self._taint(node)
        # A node that says itself that it is not ready tells of its pods, too.
        if (pod_state.condition(node, "Ready") or {}).get("status") == "Unknown":
            await self._unready_pods(name)
        return _PERIOD

    async def _silent(self, node: Object) -> Object:
        """Say that nothing is known of a node."""
        if all((pod_state.condition(node, kind) or {}).get("status") == "Unknown" for kind in _KINDS):
            return node
        now = times.format_time(time.time())

        def change(live: Object) -> None:
            conditions = live.setdefault("status", {}).setdefault("conditions", [])
            by_kind = {each["type"]: each for each in conditions}
            for kind in _KINDS:
                found = by_kind.get(kind)
                if found is None:
                    reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
                    made = {"type": kind, "lastHeartbeatTime": live["metadata"]["creationTimestamp"]}
                    conditions.append(
                        made | {"status": "Unknown", "reason": reason, "message": message, "lastTransitionTime": now}
                    )
                elif found["status"] != "Unknown":
                    found["status"], found["reason"] = "Unknown", "NodeStatusUnknown"
                    found["message"], found["lastTransitionTime"] = "Kubelet stopped posting node status.", now

        name = node["metadata"]["name"]
        self._recorder.event(node, NORMAL, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        return await self.client.update("", "nodes", "", name, change, subresource="status")

    async def _taint(self, node: Object) -> None:
        """NoExecute taints of nodes that are not ready, as long as some others are."""
        ready = (pod_state.condition(node, "Ready") or {}).get("status")
        wanted = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(str(ready), "")
        if wanted and self._all_silent():
            wanted = ""
        ours = {NOT_READY, UNREACHABLE}
        taints = (node.get("spec") or {}).get("taints") or ()
        has = {each["key"] for each in taints if each["effect"] == "NoExecute" and each["key"] in ours}
        if has == ({wanted} if wanted else set()):
            return
        added = times.format_time(time.time())

        def change(live: Object) -> None:
            now = (live.get("spec") or {}).get("taints") or ()
            kept = [
                each
                for each in now
                if each["effect"] != "NoExecute" or each["key"] not in ours or each["key"] == wanted
            ]
            if wanted and not any(each["key"] == wanted and each["effect"] == "NoExecute" for each in kept):
                kept.append({"key": wanted, "effect": "NoExecute", "timeAdded": added})
            live.setdefault("spec", {})["taints"] = kept

        await self.client.update("", "nodes", "", node["metadata"]["name"], change)

    def _all_silent(self) -> bool:
        return not any(pod_state.is_true(each, "Ready") for each in self.cache.list("", "nodes"))

    async def _unready_pods(self, name: str) -> None:
        """Nobody should go to pods of which nothing is known."""
        for pod in self.cache.list("", "pods"):
            if pod["spec"].get("nodeName") != name or not pod_state.is_ready(pod) or pod_state.is_over(pod):
                continue
            now = times.format_time(time.time())

            def change(live: Object, now: str = now) -> None:
                for each in (live.get("status") or {}).get("conditions") or ():
                    if each["type"] == "Ready" and each["status"] == "True":
                        each["status"], each["lastTransitionTime"] = "False", now

            metadata = pod["metadata"]
            try:
                await self.client.update(
                    "", "pods", metadata["namespace"], metadata["name"], change, subresource="status"
                )
            except StatusError as error:
                if error.code != 404:
                    raise
            self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")
