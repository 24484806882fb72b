"""Nodes that fall silent, and what their taints do to pods. Oracle: the documentation of nodes and of taints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from support.controlplane import ControlPlane
from windlass.kube.api import times
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.node_lifecycle import NodeLifecycleController
from windlass.kube.controllers.node_taints import NodeTaintController
from windlass.kube.controllers.taint_eviction import TaintEvictionController

LEASES = ("coordination.k8s.io", "leases")


async def until(check: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while not (found := check()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return found


async def node(plane: ControlPlane, name: str) -> None:
    status = {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}
    await plane.create("", "nodes", {"metadata": {"name": name}, "status": status})


async def pod(plane: ControlPlane, name: str, where: str, *tolerations: Any) -> None:
    spec = {
        "nodeName": where,
        "containers": [{"name": "c", "image": "i"}],
        "tolerations": list(tolerations),
        "terminationGracePeriodSeconds": 0,
    }
    await plane.create("", "pods", {"metadata": {"name": name, "namespace": "default"}, "spec": spec})

    def ready(live: Any) -> None:
        live["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}

    await plane.client.update("", "pods", "default", name, ready, subresource="status")


def is_gone(plane: ControlPlane, name: str) -> bool:
    """Whether a pod is gone or on its way out: no node ends it here."""
    found = plane.cache.get("", "pods", "default", name)
    return found is None or pod_state.is_terminating(found)


async def beat(plane: ControlPlane, name: str) -> None:
    """Renew a lease again and again."""
    for number in range(10_000):
        now = times.format_micro_time(time.time() + number / 1000)
        lease = {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {"renewTime": now}}
        if number == 0:
            await plane.create(*LEASES, lease, "kube-node-lease")
        else:
            await plane.client.patch(*LEASES, "kube-node-lease", name, {"spec": lease["spec"]})
        await asyncio.sleep(0.05)


async def test_a_silent_node_is_unknown_tainted_and_left_by_its_pods(plane: ControlPlane) -> None:
    await node(plane, "alive")
    await node(plane, "silent")
    await pod(plane, "goes", "silent")
    await pod(plane, "stays", "silent", {"operator": "Exists"})
    await pod(plane, "elsewhere", "alive")
    beating = asyncio.create_task(beat(plane, "alive"))
    lifecycle = NodeLifecycleController(plane.client, grace=0.4)
    plane.run(lifecycle, NodeTaintController(plane.client), TaintEvictionController(plane.client))
    try:
        await asyncio.sleep(0.5)
        lifecycle.queue.add(("", "silent"))

        def taints() -> set[tuple[str, str]]:
            found = plane.cache.get("", "nodes", "", "silent")
            return {(each["key"], each["effect"]) for each in (found.get("spec") or {}).get("taints") or ()}

        key = "node.kubernetes.io/unreachable"
        await until(lambda: taints() == {(key, "NoSchedule"), (key, "NoExecute")})
        ready = pod_state.condition(plane.cache.get("", "nodes", "", "silent"), "Ready")
        assert ready and (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
        await until(lambda: is_gone(plane, "goes"))
        await until(lambda: not pod_state.is_ready(plane.cache.get("", "pods", "default", "stays")))
        assert pod_state.is_ready(plane.cache.get("", "pods", "default", "elsewhere"))
    finally:
        beating.cancel()


async def test_where_all_nodes_are_silent_nobody_is_evicted(plane: ControlPlane) -> None:
    await node(plane, "only")
    await pod(plane, "stays", "only")
    lifecycle = NodeLifecycleController(plane.client, grace=0.1)
    plane.run(lifecycle, TaintEvictionController(plane.client))
    await asyncio.sleep(0.2)
    lifecycle.queue.add(("", "only"))
    await until(lambda: not pod_state.is_ready(plane.cache.get("", "pods", "default", "stays")))
    assert not (plane.cache.get("", "nodes", "", "only").get("spec") or {}).get("taints")


async def test_tolerations_for_a_time_are_over_when_it_is(plane: ControlPlane) -> None:
    await node(plane, "n")
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    for name, toleration in (
        ("no", {"key": "other", "operator": "Exists"}),
        ("short", {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}),
        ("for-ever", {"key": "k", "value": "v"}),
    ):
        await pod(plane, name, "n", toleration)
    plane.run(TaintEvictionController(plane.client))

    def add(live: Any) -> None:
        live.setdefault("spec", {})["taints"] = [taint]

    begun = time.monotonic()
    await plane.client.update("", "nodes", "", "n", add)
    await until(lambda: is_gone(plane, "no"))
    assert not is_gone(plane, "short")
    await until(lambda: is_gone(plane, "short"))
    assert time.monotonic() - begun >= 0.9
    assert not is_gone(plane, "for-ever")
