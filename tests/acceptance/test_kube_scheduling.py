"""The scheduler by what people see of it: nodes are objects alone here, so thousands of places cost nothing.

Oracle: https://kubernetes.io/docs/concepts/scheduling-eviction/
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cluster import PrivateCluster
from support.kubeapi import Api

pytestmark = pytest.mark.timeout(120)
_numbers = itertools.count()
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}


class World:
    """Nodes and pods of one test."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.pods_path = f"/api/v1/namespaces/{namespace}/pods"
        self.nodes: list[str] = []

    def node(
        self,
        labels: dict[str, str] | None = None,
        taints: list[Any] | None = None,
        images: list[Any] | None = None,
        **resources: str,
    ) -> str:
        """A node that is ready; its name."""
        name = f"node-{next(_numbers)}"
        capacity = {"cpu": "4", "memory": "8Gi", "pods": "110"} | {k.replace("_", "/"): v for k, v in resources.items()}
        self.nodes.append(name)
        status = {"capacity": capacity, "allocatable": capacity, "conditions": [READY], "images": images or []}
        made = {
            "metadata": {"name": name, "labels": {HOST: name, "world": self.namespace} | (labels or {})},
            "spec": {"taints": taints or []},
            "status": status,
        }
        self.api.post("/api/v1/nodes", made)
        deadline = time.monotonic() + 10
        while any(
            each["key"] == "node.kubernetes.io/not-ready"
            for each in self.api.get(f"/api/v1/nodes/{name}")["spec"].get("taints") or ()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return name

    def pod(self, name: str, labels: dict[str, str] | None = None, requests: Any = None, **spec: Any) -> None:
        """A pod for this world's nodes."""
        container = {"name": "c", "image": spec.pop("image", "none"), "ports": spec.pop("ports", [])}
        if requests:
            container["resources"] = {"requests": requests} | (
                {"limits": requests} if any("/" in each for each in requests) else {}
            )
        spec.setdefault("nodeSelector", {"world": self.namespace})
        made = {"metadata": {"name": name, "labels": labels or {}}, "spec": {"containers": [container]} | spec}
        self.api.post(self.pods_path, made)

    def get(self, name: str) -> Any:
        """A pod."""
        return self.api.get(f"{self.pods_path}/{name}")

    def place(self, name: str) -> str:
        """The node that a pod gets."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if node := self.get(name)["spec"].get("nodeName"):
                return str(node)
            time.sleep(0.02)
        raise AssertionError(f"{name} is not scheduled: {self.get(name)['status']}")

    def refused(self, name: str) -> str:
        """What the condition of a pod says that fits nowhere."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for each in self.get(name)["status"].get("conditions") or ():
                if each["type"] == "PodScheduled" and each["status"] == "False":
                    assert each["reason"] == "Unschedulable"
                    return str(each["message"])
            time.sleep(0.02)
        raise AssertionError(f"{name} was not refused: {self.get(name)}")


@pytest.fixture(scope="module")
def api(cluster: PrivateCluster) -> Iterator[Api]:
    """Requests to the module's server."""
    with Api(cluster) as api:
        yield api


@pytest.fixture
def world(api: Api) -> Iterator[World]:
    """A namespace and nodes of the test's own."""
    name = f"world-{next(_numbers)}"
    api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    deadline = time.monotonic() + 10
    while not api.get(f"/api/v1/namespaces/{name}/serviceaccounts")["items"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    world = World(api, name)
    yield world
    for each in api.get(world.pods_path)["items"]:
        api.delete(f"{world.pods_path}/{each['metadata']['name']}", {"gracePeriodSeconds": 0})
    for node in world.nodes:
        api.delete(f"/api/v1/nodes/{node}")


def test_a_pod_gets_the_emptiest_node_and_an_event(world: World) -> None:
    small, large = world.node(cpu="2"), world.node(cpu="8")
    world.pod("first", requests={"cpu": "1", "memory": "1Gi"})
    assert world.place("first") == large
    for number in range(6):
        world.pod(f"more-{number}", requests={"cpu": "1500m"})
    places = Counter(world.place(f"more-{number}") for number in range(5))
    assert places == {large: 4, small: 1}
    message = world.refused("more-5")
    found = len(world.api.get("/api/v1/nodes")["items"])
    assert message.startswith(f"0/{found} nodes are available: ")
    assert "2 Insufficient cpu" in message and message.endswith("No preemption victims found for incoming pod.")
    deadline = time.monotonic() + 10
    events: list[Any] = []
    while not any(each["reason"] == "Scheduled" for each in events):
        events = world.api.get(f"/api/v1/namespaces/{world.namespace}/events")["items"]
        assert time.monotonic() < deadline
    said = {each["involvedObject"]["name"]: each["message"] for each in events if each["reason"] == "Scheduled"}
    assert said["first"] == f"Successfully assigned {world.namespace}/first to {large}"
    conditions = {each["type"]: each["status"] for each in world.get("first")["status"]["conditions"]}
    assert conditions["PodScheduled"] == "True"


def test_a_pod_that_did_not_fit_comes_when_there_is_room(world: World) -> None:
    world.node(cpu="1")
    world.pod("one", requests={"cpu": "1"})
    world.place("one")
    world.pod("two", requests={"cpu": "1"})
    world.refused("two")
    world.api.delete(f"{world.pods_path}/one", {"gracePeriodSeconds": 0})
    world.place("two")
    world.pod("three", requests={"cpu": "2"})
    world.refused("three")
    assert world.place("two") != world.node(cpu="2") == world.place("three")


def test_taints_keep_pods_away_that_do_not_tolerate_them(world: World) -> None:
    taint = {"key": "own", "value": "gpu", "effect": "NoSchedule"}
    tainted = world.node(taints=[taint])
    world.pod("plain")
    assert "1 node(s) had untolerated taint(s)" in world.refused("plain")
    world.pod("tolerant", tolerations=[{"key": "own", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}])
    assert world.place("tolerant") == tainted
    world.api.patch(f"/api/v1/nodes/{tainted}", {"spec": {"taints": [taint | {"effect": "PreferNoSchedule"}]}})
    assert world.place("plain") == tainted
    better = world.node()
    world.pod("other")
    assert world.place("other") == better


def test_cordoned_nodes_take_nothing_until_they_are_open(world: World) -> None:
    node = world.node()
    world.api.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}})
    world.pod("waits")
    assert "node(s) were unschedulable" in world.refused("waits")
    world.api.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": None}})
    assert world.place("waits") == node


def test_node_affinity_required_and_preferred(world: World) -> None:
    ssd = world.node({"disk": "ssd", "rank": "5"})
    hdd = world.node({"disk": "hdd", "rank": "2"})

    def required(key: str, operator: str, *values: str) -> Any:
        expression = {"key": key, "operator": operator} | ({"values": list(values)} if values else {})
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}

    for name, node, expression in (
        ("in", ssd, ("disk", "In", "ssd", "nvme")),
        ("not-in", hdd, ("disk", "NotIn", "ssd")),
        ("gt", ssd, ("rank", "Gt", "3")),
        ("lt", hdd, ("rank", "Lt", "3")),
    ):
        world.pod(name, affinity=required(*expression))
        assert world.place(name) == node
    fields = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [hdd]}]}
    only = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [fields]}}
    world.pod("by-name", affinity={"nodeAffinity": only})
    assert world.place("by-name") == hdd
    world.pod("nowhere", affinity=required("disk", "In", "tape"))
    assert "node(s) didn't match Pod's node affinity/selector" in world.refused("nowhere")
    assert "Preemption is not helpful for scheduling" in world.refused("nowhere")
    term = {
        "weight": 100,
        "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["hdd"]}]},
    }
    for number in range(3):
        world.pod(
            f"prefers-{number}",
            affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}},
        )
        assert world.place(f"prefers-{number}") == hdd


def _anti(labels: dict[str, str], topology: str) -> Any:
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": topology}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_pods_that_want_to_be_apart_or_together(world: World) -> None:
    nodes = {world.node({ZONE: zone}): zone for zone in ("a", "a", "b")}
    for number in range(3):
        world.pod(f"apart-{number}", {"app": "db"}, affinity=_anti({"app": "db"}, HOST))
    assert {world.place(f"apart-{number}") for number in range(3)} == set(nodes)
    world.pod("fourth", {"app": "db"}, affinity=_anti({"app": "db"}, HOST))
    assert "node(s) didn't match pod anti-affinity rules" in world.refused("fourth")
    world.pod("shy", {"app": "shy"}, affinity=_anti({"app": "web"}, ZONE))
    zone = nodes[world.place("shy")]
    for number in range(3):
        world.pod(f"web-{number}", {"app": "web"})
    assert all(nodes[world.place(f"web-{number}")] != zone for number in range(3))
    together = {"labelSelector": {"matchLabels": {"app": "shy"}}, "topologyKey": ZONE}
    world.pod("near", affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [together]}})
    assert nodes[world.place("near")] == zone
    alone = {"labelSelector": {"matchLabels": {"app": "group"}}, "topologyKey": ZONE}
    group = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [alone]}}
    for number in range(3):
        world.pod(f"group-{number}", {"app": "group"}, affinity=group)
    assert len({nodes[world.place(f"group-{number}")] for number in range(3)}) == 1
    missing = {"labelSelector": {"matchLabels": {"app": "nobody"}}, "topologyKey": ZONE}
    world.pod("lonely", affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [missing]}})
    assert "node(s) didn't match pod affinity rules" in world.refused("lonely")


def test_topology_spread_keeps_the_skew(world: World) -> None:
    nodes = {world.node({ZONE: zone}): zone for zone in ("a", "a", "a", "b")}
    constraint = {
        "maxSkew": 1,
        "topologyKey": ZONE,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}},
    }
    for number in range(6):
        world.pod(f"x-{number}", {"app": "x"}, topologySpreadConstraints=[constraint])
    assert Counter(nodes[world.place(f"x-{number}")] for number in range(6)) == {"a": 3, "b": 3}
    only_b = next(name for name, zone in nodes.items() if zone == "b")
    world.api.patch(f"/api/v1/nodes/{only_b}", {"spec": {"unschedulable": True}})
    world.pod("seventh", {"app": "x"}, topologySpreadConstraints=[constraint])
    world.place("seventh")
    world.pod("eighth", {"app": "x"}, topologySpreadConstraints=[constraint])
    assert "node(s) didn't match pod topology spread constraints" in world.refused("eighth")


def test_pods_of_one_service_go_to_different_nodes_by_themselves(world: World) -> None:
    for _ in range(4):
        world.node()
    world.api.post(
        f"/api/v1/namespaces/{world.namespace}/services",
        {"metadata": {"name": "s"}, "spec": {"selector": {"app": "s"}, "ports": [{"port": 80}]}},
    )
    world.pod("heavy", requests={"cpu": "100m"})
    for number in range(4):
        world.pod(f"s-{number}", {"app": "s"})
    assert len({world.place(f"s-{number}") for number in range(4)}) == 4


def test_host_ports_and_extended_resources_are_had_once(world: World) -> None:
    first = world.node(**{"example.com_gpu": "2"})
    second = world.node()
    ports = [{"containerPort": 80, "hostPort": 8080}]
    world.pod("one", ports=ports)
    world.pod("two", ports=ports)
    assert {world.place("one"), world.place("two")} == {first, second}
    world.pod("three", ports=ports)
    assert "2 node(s) didn't have free ports for the requested pod ports" in world.refused("three")
    world.pod("gpus", requests={"example.com/gpu": "2"})
    assert world.place("gpus") == first
    world.pod("more-gpus", requests={"example.com/gpu": "1"})
    assert "2 Insufficient example.com/gpu" in world.refused("more-gpus")


def test_scheduling_gates_hold_a_pod(world: World) -> None:
    world.node()
    world.pod("gated", schedulingGates=[{"name": "example.com/wait"}])
    deadline = time.monotonic() + 10
    while True:
        conditions = world.get("gated")["status"].get("conditions") or []
        if any(each.get("reason") == "SchedulingGated" for each in conditions):
            break
        assert time.monotonic() < deadline
    assert not world.get("gated")["spec"].get("nodeName")
    world.api.patch(f"{world.pods_path}/gated", {"spec": {"schedulingGates": []}})
    world.place("gated")


def test_more_important_pods_take_the_place_of_others(world: World) -> None:
    for name, value, policy in (("low", 1, ""), ("high", 1000, ""), ("meek", 1000, "Never")):
        path = "/apis/scheduling.k8s.io/v1/priorityclasses"
        named = {"metadata": {"name": f"{name}-{world.namespace}"}, "value": value}
        world.api.post(path, named | ({"preemptionPolicy": policy} if policy else {}))
    low, high, meek = (f"{name}-{world.namespace}" for name in ("low", "high", "meek"))
    guarded, free = world.node(cpu="1"), world.node(cpu="1")
    for name, node in (("guarded", guarded), ("free", free)):
        world.pod(name, {"app": name}, {"cpu": "1"}, priorityClassName=low, nodeSelector={HOST: node})
        assert world.place(name) == node
    world.api.post(
        f"/apis/policy/v1/namespaces/{world.namespace}/poddisruptionbudgets",
        {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}},
    )
    world.pod("meek", {}, {"cpu": "1"}, priorityClassName=meek)
    world.refused("meek")
    world.api.delete(f"{world.pods_path}/meek", {"gracePeriodSeconds": 0})
    world.pod("urgent", {}, {"cpu": "1"}, priorityClassName=high)
    # Nobody ends pods on these nodes: the victim is marked, and the place is kept.
    deadline = time.monotonic() + 10
    while world.get("urgent")["status"].get("nominatedNodeName") != free:
        assert time.monotonic() < deadline, world.get("urgent")["status"]
        time.sleep(0.02)
    while not (victim := world.get("free"))["metadata"].get("deletionTimestamp"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    conditions = {each["type"]: each for each in victim["status"]["conditions"]}
    assert conditions["DisruptionTarget"]["reason"] == "PreemptionByScheduler"
    assert "deletionTimestamp" not in world.get("guarded")["metadata"]
    world.api.delete(f"{world.pods_path}/free", {"gracePeriodSeconds": 0})
    assert world.place("urgent") == free


def test_images_that_are_there_draw_pods(world: World) -> None:
    world.node()
    has = world.node(images=[{"names": ["example.com/big:1"], "sizeBytes": 900 << 20}])
    world.node()
    world.pod("wants", image="example.com/big:1")
    assert world.place("wants") == has


def test_a_pod_of_another_scheduler_is_left_alone(world: World) -> None:
    node = world.node()
    world.pod("foreign", schedulerName="somebody-else")
    world.pod("own")
    assert world.place("own") == node
    assert not world.get("foreign")["spec"].get("nodeName")
    target = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "foreign"}, "target": {"kind": "Node"}}
    target["target"]["name"] = node  # type: ignore[index]
    world.api.post(f"{world.pods_path}/foreign/binding", target)
    assert world.place("foreign") == node


def test_a_claim_that_is_missing_is_named(world: World) -> None:
    world.node()
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "gone"}}
    world.pod("claims", volumes=[volume])
    assert 'persistentvolumeclaim "gone" not found' in world.refused("claims")


def test_profiles_are_read_from_a_file() -> None:
    with tempfile.TemporaryDirectory(prefix="wlk-") as directory:
        root = Path(directory)
        configuration = root / "scheduler.yaml"
        configuration.write_text(
            """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packer
  plugins:
    score:
      disabled: [{name: NodeResourcesBalancedAllocation}]
      enabled: [{name: NodeResourcesFit, weight: 10}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy: {type: MostAllocated}
"""
        )
        cluster = PrivateCluster(root, f"--scheduler-config={configuration}")
        cluster.start()
        try:
            with Api(cluster) as api:
                world = World(api, "default")
                nodes = {world.node() for _ in range(3)}
                for number in range(4):
                    world.pod(f"p-{number}", requests={"cpu": "500m", "memory": "1Gi"}, schedulerName="packer")
                assert len({world.place(f"p-{number}") for number in range(4)}) == 1
                for number in range(2):
                    world.pod(f"d-{number}", requests={"cpu": "500m", "memory": "1Gi"})
                assert len({world.place(f"d-{number}") for number in range(2)} & nodes) == 2
        finally:
            cluster.stop()
        configuration.write_text(configuration.read_text().replace("MostAllocated", "Fullest"))
        with pytest.raises(AssertionError, match=r"profiles\[1\].pluginConfig\[0\].args.scoringStrategy.type"):
            cluster.start()
