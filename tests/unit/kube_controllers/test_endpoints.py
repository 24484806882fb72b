"""Services, their pods, and what becomes of them in EndpointSlices and Endpoints."""

from __future__ import annotations

from typing import Any

from support.controlplane import ControlPlane
from windlass.kube.controllers import slices
from windlass.kube.controllers.endpoints import EndpointsController
from windlass.kube.controllers.endpointslice import EndpointSliceController
from windlass.kube.controllers.endpointslice_mirroring import EndpointSliceMirroringController

Object = dict[str, Any]
SLICES = ("discovery.k8s.io", "endpointslices")


async def make_service(plane: ControlPlane, name: str = "web", **spec: Any) -> Object:
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}], **spec}
    return await plane.create("", "services", {"metadata": {"name": name, "labels": {"of": "user"}}, "spec": spec})


async def make_pods(plane: ControlPlane, count: int, app: str = "web", first: int = 0) -> list[str]:
    container = {"name": "c", "image": "x", "ports": [{"name": "web", "containerPort": 8080}]}
    names = [f"{app}-{number:03}" for number in range(first, first + count)]
    for number, name in enumerate(names, first):
        await plane.make_pod(name, node="n1", labels={"app": app}, spec={"containers": [container]})
        await plane.set_pod(name, ips=[f"10.42.{number // 250}.{number % 250 + 1}"])
    return names


def start(plane: ControlPlane) -> None:
    client = plane.client
    plane.run(EndpointSliceController(client), EndpointsController(client), EndpointSliceMirroringController(client))


async def test_pods_become_endpoints_and_their_conditions_follow(plane: ControlPlane) -> None:
    start(plane)
    await plane.make_node("n1", topology__x="y", **{"topology.kubernetes.io/zone": "z1"})
    await make_service(plane)
    await plane.settle()
    (placeholder,) = plane.list(*SLICES)
    assert placeholder["endpoints"] == [] and placeholder["ports"] == []
    (name,) = await make_pods(plane, 1)
    await plane.settle()
    (found,) = plane.list(*SLICES)
    assert found["metadata"]["labels"] == {
        "of": "user",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert found["metadata"]["ownerReferences"][0]["kind"] == "Service"
    assert found["addressType"] == "IPv4" and found["metadata"]["name"].startswith("web-")
    assert found["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    (endpoint,) = found["endpoints"]
    assert endpoint["addresses"] == ["10.42.0.1"] and endpoint["targetRef"]["name"] == name
    assert (endpoint["nodeName"], endpoint["zone"]) == ("n1", "z1")
    assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
    legacy = plane.get("", "endpoints", "web")
    assert legacy and legacy["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"] == "endpoint-controller"
    assert [each["ip"] for each in legacy["subsets"][0]["addresses"]] == ["10.42.0.1"]
    assert legacy["subsets"][0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    await plane.set_pod(name, ready=False)
    await plane.settle()
    assert plane.list(*SLICES)[0]["endpoints"][0]["conditions"]["ready"] is False
    legacy = plane.get("", "endpoints", "web")
    assert legacy and "addresses" not in legacy["subsets"][0] and legacy["subsets"][0]["notReadyAddresses"]
    await plane.set_pod(name, ready=True)
    await plane.client.delete("", "pods", "default", name)
    await plane.settle()
    conditions = plane.list(*SLICES)[0]["endpoints"][0]["conditions"]
    assert conditions == {"ready": False, "serving": True, "terminating": True}
    legacy = plane.get("", "endpoints", "web")
    assert legacy and not legacy.get("subsets")
    await plane.client.delete("", "pods", "default", name, grace_period=0)
    await plane.settle()
    assert plane.list(*SLICES)[0]["endpoints"] == []
    await plane.client.delete("", "services", "default", "web")
    await plane.settle()
    assert plane.get("", "endpoints", "web") is None


async def test_slices_hold_a_hundred_and_change_one_at_a_time(plane: ControlPlane) -> None:
    start(plane)
    await plane.make_node("n1")
    names = await make_pods(plane, 250)
    await make_service(plane)
    await plane.settle()
    sizes = sorted(len(each["endpoints"]) for each in plane.list(*SLICES))
    assert sizes == [50, 100, 100]
    before = {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in plane.list(*SLICES)}
    await plane.set_pod(names[3], ready=False)
    await plane.settle()
    after = {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in plane.list(*SLICES)}
    assert before.keys() == after.keys()
    assert sum(before[name] != after[name] for name in before) == 1
    for name in names[:210]:
        await plane.client.delete("", "pods", "default", name, grace_period=0)
    await plane.settle()
    addresses = {a for each in plane.list(*SLICES) for e in each["endpoints"] for a in e["addresses"]}
    assert len(addresses) == 40


async def test_publishing_pods_that_are_not_ready(plane: ControlPlane) -> None:
    start(plane)
    await make_service(plane, clusterIP="None", publishNotReadyAddresses=True)
    spec = {"hostname": "zero", "subdomain": "web", "containers": [{"name": "c", "image": "x"}]}
    await plane.make_pod("p", node="nowhere", labels={"app": "web"}, spec=spec)
    await plane.set_pod("p", "Pending", ready=False, ips=["10.42.0.9"])
    await plane.settle()
    (found,) = plane.list(*SLICES)
    assert found["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    (endpoint,) = found["endpoints"]
    assert endpoint["conditions"] == {"ready": True, "serving": False, "terminating": False}
    assert endpoint["hostname"] == "zero"
    legacy = plane.get("", "endpoints", "web")
    # The pod has no port of that name, so there is nothing to lead to.
    assert legacy and not legacy.get("subsets") and found["ports"] == []


async def test_pods_of_nodes_that_do_not_exist_wait(plane: ControlPlane) -> None:
    start(plane)
    await make_service(plane)
    await make_pods(plane, 1)
    await plane.settle()
    assert plane.list(*SLICES)[0]["endpoints"] == []
    await plane.make_node("n1")
    await plane.settle()
    assert len(plane.list(*SLICES)[0]["endpoints"]) == 1


async def test_pods_that_lose_the_label_leave(plane: ControlPlane) -> None:
    start(plane)
    await plane.make_node("n1")
    await make_service(plane)
    (name,) = await make_pods(plane, 1)
    await plane.settle()
    await plane.change("", "pods", name, lambda pod: pod["metadata"].update(labels={"app": "other"}))
    await plane.settle()
    assert plane.list(*SLICES)[0]["endpoints"] == []


async def test_families_have_slices_of_their_own_and_hints_name_zones(plane: ControlPlane) -> None:
    start(plane)
    await plane.make_node("n1", **{"topology.kubernetes.io/zone": "z1"})
    await make_service(
        plane,
        clusterIP="None",
        ipFamilies=["IPv4", "IPv6"],
        ipFamilyPolicy="RequireDualStack",
        trafficDistribution="PreferSameNode",
    )
    (name,) = await make_pods(plane, 1)
    await plane.set_pod(name, ips=["10.42.0.1", "fd00::1"])
    await plane.settle()
    found = {each["addressType"]: each["endpoints"] for each in plane.list(*SLICES)}
    assert found["IPv4"][0]["addresses"] == ["10.42.0.1"] and found["IPv6"][0]["addresses"] == ["fd00::1"]
    assert found["IPv4"][0]["hints"] == {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}
    await plane.change("", "services", "web", lambda each: each["spec"].update(trafficDistribution="PreferClose"))
    await plane.settle()
    assert plane.list(*SLICES)[0]["endpoints"][0]["hints"] == {"forZones": [{"name": "z1"}]}


async def test_somebody_elses_change_of_a_slice_is_undone(plane: ControlPlane) -> None:
    start(plane)
    await plane.make_node("n1")
    await make_service(plane)
    await make_pods(plane, 2)
    await plane.settle()
    name = plane.list(*SLICES)[0]["metadata"]["name"]
    await plane.change(*SLICES, name, lambda each: each.update(endpoints=[]))
    await plane.settle()
    assert len(plane.list(*SLICES)[0]["endpoints"]) == 2
    await plane.client.delete(*SLICES, "default", plane.list(*SLICES)[0]["metadata"]["name"])
    await plane.settle()
    assert len(plane.list(*SLICES)[0]["endpoints"]) == 2


async def test_endpoints_of_users_are_mirrored_as_long_as_they_are_theirs(plane: ControlPlane) -> None:
    start(plane)
    await plane.create("", "services", {"metadata": {"name": "out"}, "spec": {"ports": [{"port": 80}]}})
    subset: Object = {"addresses": [{"ip": "192.0.2.7"}, {"ip": "192.0.2.8"}], "ports": [{"port": 9000}]}
    metadata = {"name": "out", "labels": {"mine": "1"}}
    await plane.create("", "endpoints", {"metadata": metadata, "subsets": [subset]})
    await plane.settle()
    (found,) = plane.list(*SLICES)
    labels = found["metadata"]["labels"]
    assert labels["endpointslice.kubernetes.io/managed-by"] == "endpointslicemirroring-controller.k8s.io"
    assert labels["mine"] == "1" and found["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"
    assert [each["addresses"] for each in found["endpoints"]] == [["192.0.2.7"], ["192.0.2.8"]]
    assert found["endpoints"][0]["conditions"] == {"ready": True}
    assert found["ports"] == [{"name": "", "port": 9000, "protocol": "TCP"}]

    def move(each: Object) -> None:
        each["subsets"][0]["addresses"] = [{"ip": "192.0.2.9"}]

    await plane.change("", "endpoints", "out", move)
    await plane.settle()
    assert [each["addresses"] for each in plane.list(*SLICES)[0]["endpoints"]] == [["192.0.2.9"]]
    skip = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    await plane.change("", "endpoints", "out", lambda each: each["metadata"].update(labels=skip))
    await plane.settle()
    assert plane.list(*SLICES) == []


def endpoint(number: int) -> Object:
    return {"addresses": [f"10.0.0.{number}"], "targetRef": {"uid": str(number)}}


def test_new_endpoints_fill_a_slice_that_they_just_fit() -> None:
    def of(name: str, numbers: range) -> Object:
        return {"metadata": {"name": name}, "endpoints": [endpoint(number) for number in numbers]}

    existing = [of("a", range(3)), of("b", range(3, 4))]
    made = slices.plan(existing, [endpoint(number) for number in range(6)], 5)
    assert list(made.update) == ["a"] and not made.create and not made.delete
    made = slices.plan(existing, [endpoint(number) for number in (0, 1, 3)], 5)
    assert list(made.update) == ["a"] and len(made.update["a"]) == 2
    made = slices.plan(existing, [endpoint(number) for number in range(3)], 5)
    assert made.delete == ["b"] and not made.update
