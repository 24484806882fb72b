"""What nodes and pods use, as kubelets tell it and clients read it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from windlass.kube.api.request import parse_request
from windlass.kube.api.status import StatusError, service_unavailable
from windlass.kube.metrics import ResourceMetrics
from windlass.kube.metrics.api import ResourceMetricsAPI

Object = dict[str, Any]


def use(rate: int, memory: int, window: int = 10_002_000_000) -> Object:
    return {
        "cpu": {"time": "2026-01-01T00:00:00Z", "usageNanoCores": rate, "windowNanoSeconds": window},
        "memory": {"workingSetBytes": memory},
    }


def node(name: str, port: int) -> Object:
    status = {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
    return {"metadata": {"name": name, "labels": {"zone": name}}, "status": status}


def pod(name: str, node: str, phase: str = "Running") -> Object:
    metadata = {"name": name, "namespace": "n", "uid": f"u-{name}", "labels": {"app": name}}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase}}


def measured(name: str, *containers: Object) -> Object:
    return {
        "podRef": {"name": name, "namespace": "n", "uid": f"u-{name}"},
        "containers": [{"name": f"c{number}", **each} for number, each in enumerate(containers)],
        **use(1, 1),
    }


class World:
    """Objects, and kubelets that answer with their summaries."""

    def __init__(self) -> None:
        self.objects: dict[str, list[Object]] = {
            "nodes": [node("n1", 10250), node("n2", 10250), node("hollow", 0)],
            "pods": [pod("a", "n1"), pod("new", "n1"), pod("over", "n1", "Succeeded"), pod("far", "n2"), pod("no", "")],
        }
        self.summaries: dict[str, Object] = {
            "n1": {
                "node": use(1_500_000_000, 3 << 30),
                "pods": [measured("a", use(2_000_000, 4096 * 3), use(0, 1 << 20)), measured("new", use(5, 1, 0))],
            }
        }
        self.asked: list[str] = []
        self.now = 0.0

    def list(self, group: str, resource: str, namespace: str = "") -> list[Object]:
        """See `Reader`."""
        del group, namespace
        return self.objects[resource]

    def get(self, group: str, resource: str, namespace: str, name: str) -> Object | None:
        """See `Reader`."""
        return next((each for each in self.list(group, resource, namespace) if each["metadata"]["name"] == name), None)

    def find(self, name: str) -> Any:
        """See `Kubelets`."""
        world = self

        class Kubelet:
            async def read(self, path: str, query: object) -> bytes:
                assert (path, query) == ("/stats/summary", (("only_cpu_and_memory", "true"),))
                world.asked.append(name)
                await asyncio.sleep(0)
                if name not in world.summaries:
                    raise service_unavailable("gone")
                return orjson.dumps(world.summaries[name])

        return Kubelet()

    def metrics(self) -> ResourceMetrics:
        """Over all of it."""
        source: Any = self
        return ResourceMetrics(source, source, lambda: self.now)


async def test_nodes_that_answer_are_shown() -> None:
    found = await World().metrics().nodes()
    (node,) = found
    assert (node["kind"], node["apiVersion"]) == ("NodeMetrics", "metrics.k8s.io/v1beta1")
    assert node["metadata"]["labels"] == {"zone": "n1"}
    assert node["usage"] == {"cpu": "1500000000n", "memory": "3Gi"}
    assert (node["timestamp"], node["window"]) == ("2026-01-01T00:00:00Z", "10.002s")


async def test_pods_that_run_and_were_measured_whole_are_shown() -> None:
    world = World()
    (found,) = await world.metrics().pods("n")
    assert found["metadata"]["name"] == "a"
    assert found["containers"] == [
        {"name": "c0", "usage": {"cpu": "2000000n", "memory": "12Ki"}},
        {"name": "c1", "usage": {"cpu": "0", "memory": "1Mi"}},
    ]
    assert sorted(world.asked) == ["n1", "n2"]
    assert await world.metrics().pods("n", lambda labels: labels.get("app") == "new") == []


async def test_many_who_ask_at_once_cost_one_question() -> None:
    world = World()
    metrics = world.metrics()
    asking = asyncio.create_task(metrics.pods())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(*(metrics.nodes(name="n1") for _ in range(5)))
    assert world.asked.count("n1") == 1
    world.now = 6.0
    await metrics.nodes(name="n1")
    assert world.asked.count("n1") == 2
    await metrics.close()


class Asked:
    """A request."""

    def __init__(self, path: str, accept: str = "", query: list[tuple[str, str]] | None = None) -> None:
        self.path, self.query = path, query or []
        self.headers = {"accept": accept} if accept else {}


async def ask(path: str, accept: str = "", **query: str) -> Any:
    world = World()
    api = ResourceMetricsAPI(world.metrics(), lambda group, version: None)
    pairs = list(query.items())
    request: Any = Asked(path, accept, pairs)
    info = parse_request("GET", path, pairs)
    user: Any = None
    if not info.is_resource:
        page = await api.page(request, user)
        return None if page is None else orjson.loads(page.body)
    assert api.outside(info) is api
    return orjson.loads((await api(request, info, user)).body)


BASE = "/apis/metrics.k8s.io/v1beta1"


async def test_clients_get_one_or_a_list() -> None:
    found = await ask(f"{BASE}/nodes")
    assert (found["kind"], [each["metadata"]["name"] for each in found["items"]]) == ("NodeMetricsList", ["n1"])
    assert "kind" not in found["items"][0]
    assert (await ask(f"{BASE}/nodes/n1"))["kind"] == "NodeMetrics"
    assert (await ask(f"{BASE}/namespaces/n/pods/a"))["kind"] == "PodMetrics"
    assert (await ask(f"{BASE}/pods", labelSelector="app=a"))["items"]
    assert not (await ask(f"{BASE}/pods", fieldSelector="metadata.name!=a"))["items"]
    with pytest.raises(StatusError) as refused:
        await ask(f"{BASE}/namespaces/n/pods/x")
    assert refused.value.message == 'podmetrics.metrics.k8s.io "n/x" not found'


async def test_people_get_a_table() -> None:
    found = await ask(f"{BASE}/pods", "application/json;as=Table;v=v1;g=meta.k8s.io")
    assert [each["name"] for each in found["columnDefinitions"]] == ["Name", "cpu", "memory", "Window"]
    assert found["rows"][0]["cells"] == ["a", "2m", "1036Ki", "10.002s"]


async def test_the_group_is_discovered_unless_somebody_else_serves_it() -> None:
    assert (await ask("/apis/metrics.k8s.io"))["preferredVersion"]["version"] == "v1beta1"
    assert [each["kind"] for each in (await ask(BASE))["resources"]] == ["NodeMetrics", "PodMetrics"]
    assert await ask("/apis/other") is None
    metrics = World().metrics()
    assert ResourceMetricsAPI(metrics, lambda group, version: None).discovered()
    assert ResourceMetricsAPI(metrics, lambda group, version: {}).discovered() == []
