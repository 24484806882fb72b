"""DaemonSets where nodes come and go. Oracle: the documentation of DaemonSet."""

from __future__ import annotations

from support.controlplane import ControlPlane
from windlass.kube.controllers.daemonset.controller import DaemonSetController
from windlass.kube.controllers.daemonset.placement import target_of

TEMPLATE = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}


async def test_a_node_that_was_removed_and_is_there_again_gets_its_pod_again(plane: ControlPlane) -> None:
    await plane.make_node("one")
    await plane.make_node("two")
    spec = {"selector": {"matchLabels": {"app": "d"}}, "template": TEMPLATE}
    await plane.create("apps", "daemonsets", {"metadata": {"name": "d"}, "spec": spec})
    plane.run(DaemonSetController(plane.client))
    await plane.settle()
    assert sorted(map(target_of, plane.list("", "pods"))) == ["one", "two"]
    await plane.client.delete("", "nodes", "", "two")
    await plane.settle()
    assert [target_of(each) for each in plane.list("", "pods")] == ["one"]
    await plane.make_node("two")
    await plane.settle()
    assert sorted(map(target_of, plane.list("", "pods"))) == ["one", "two"]
