"""Taints that say in a node's spec what its conditions say: nothing new comes while it is not ready, cordoned or full.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-nodes-by-condition
"""

from __future__ import annotations

from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.controllers.runner import Controller, Key

NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"

_BY_CONDITION: Final = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_OURS: Final = frozenset((*_BY_CONDITION.values(), UNSCHEDULABLE))


def wanted_taints(node: Object) -> list[str]:
    """Keys of the NoSchedule taints that a node should have of this controller's."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    found = [key for each in conditions if (key := _BY_CONDITION.get((each["type"], each["status"])))]
    if not any(each["type"] == "Ready" for each in conditions):
        found.append(NOT_READY)  # nothing has been heard of it yet
    if (node.get("spec") or {}).get("unschedulable"):
        found.append(UNSCHEDULABLE)
    return found


class NodeTaintController(Controller):
    """See the module."""

    name = "node-controller"

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", "nodes")

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        node = self.cache.get("", "nodes", *key)
        if node is None or not _differs(node):
            return None

        def change(live: Object) -> Object | None:
            if not _differs(live):
                return None
            spec = live.setdefault("spec", {})
            now = list(spec.get("taints") or ())
            wanted = wanted_taints(live)
            kept = [each for each in now if not _is_ours(each) or each["key"] in wanted]
            there = {each["key"] for each in kept if _is_ours(each)}
            kept += [{"key": each, "effect": "NoSchedule"} for each in wanted if each not in there]
            spec["taints"] = kept
            return live

        await self.client.update("", "nodes", "", key[1], change)
        return None


def _is_ours(taint: Object) -> bool:
    return taint["effect"] == "NoSchedule" and taint["key"] in _OURS


def _differs(node: Object) -> bool:
    has = {each["key"] for each in (node.get("spec") or {}).get("taints") or () if _is_ours(each)}
    return has != set(wanted_taints(node))
