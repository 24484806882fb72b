"""`windlass simulate`: nodes and the lives of pods on a real API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cluster import PrivateCluster
from support.kubeapi import Api

pytestmark = pytest.mark.timeout(60)
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def api(cluster: PrivateCluster) -> Iterator[Api]:
    """Requests to a cluster with five hollow nodes."""
    command = [
        str(Path(sys.executable).parent / "windlass"),
        "simulate",
        "--nodes",
        "5",
        "--zones",
        "2",
        "--run",
        "0.2s",
    ]
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    with (
        Api(cluster) as api,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("5 hollow nodes at https://")
            yield api
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert not api.get("/api/v1/nodes")["items"]
        assert not api.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")["items"]


def wait_for(what: Callable[[], Any]) -> Any:
    """The first answer that is true."""
    deadline = time.monotonic() + 15
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def pod(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> Any:
    spec = {"containers": [{"name": "c", "image": "none"}]} | spec
    return {"metadata": {"name": name, "annotations": annotations or {}}, "spec": spec}


def phase(api: Api, name: str) -> str:
    return str(api.get(f"{PODS}/{name}")["status"]["phase"])


def test_nodes_are_ready_and_in_zones(api: Api, cluster: PrivateCluster) -> None:
    nodes = api.get("/api/v1/nodes")["items"]
    assert {each["metadata"]["labels"]["topology.kubernetes.io/zone"] for each in nodes} == {"zone-0", "zone-1"}
    assert cluster.kubectl("get", "nodes").count(" Ready ") == 5


def test_pods_run_and_go(api: Api) -> None:
    for number in range(20):
        api.post(PODS, pod(f"many-{number}"))
    for number in range(20):
        wait_for(lambda number=number: phase(api, f"many-{number}") == "Running")
    found = [each for each in api.get(PODS)["items"] if each["metadata"]["name"].startswith("many-")]
    assert len({each["status"]["podIP"] for each in found}) == 20
    assert len({each["spec"]["nodeName"] for each in found}) == 5
    assert all(
        {"type": "Ready", "status": "True"}.items()
        <= next(condition for condition in each["status"]["conditions"] if condition["type"] == "Ready").items()
        for each in found
    )
    for number in range(20):
        api.delete(f"{PODS}/many-{number}")
    wait_for(lambda: not any(each["metadata"]["name"].startswith("many-") for each in api.get(PODS)["items"]))


def test_pods_end_as_their_annotations_say(api: Api) -> None:
    api.post(PODS, pod("well", restartPolicy="Never"))
    exit_code = {"windlass.dev/hollow-exit": "3", "windlass.dev/hollow-run": "100ms"}
    api.post(PODS, pod("badly", exit_code, restartPolicy="Never"))
    api.post(PODS, pod("late", {"windlass.dev/hollow-start": "1h"}))
    wait_for(lambda: phase(api, "well") == "Succeeded")
    wait_for(lambda: phase(api, "badly") == "Failed")
    states = api.get(f"{PODS}/badly")["status"]["containerStatuses"]
    assert states[0]["state"]["terminated"]["exitCode"] == 3
    assert phase(api, "late") == "Pending"
    for name in ("well", "badly", "late"):
        api.delete(f"{PODS}/{name}")
    wait_for(lambda: not api.get(PODS)["items"])
