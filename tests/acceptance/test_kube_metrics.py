"""What pods and nodes use: by kubectl top, Python's client, and the kubelet's own API, on its port and by its rules."""

from __future__ import annotations

import json
import time
from typing import Any

import kubernetes
import pytest
import urllib3

from support.cluster import PrivateCluster
from support.kube_pods import Object, Pods, shell

BUSY = "while true; do :; done"


@pytest.fixture
def busy(pods: Pods) -> Pods:
    """A pod with a container that uses half a core, and one that sleeps."""
    limits = {"cpu": "500m", "memory": "64Mi"}
    pods.make(
        "busy",
        {**shell(BUSY, resources={"limits": limits}), "name": "hot"},
        {**shell("sleep 1000", readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1}), "name": "cold"},
    )
    pods.ready("busy")
    return pods


def kubelet(cluster: PrivateCluster, path: str, token: str = "", method: str = "GET") -> tuple[int, str]:
    """Ask the node's own API, as a client that trusts the cluster."""
    node = json.loads(cluster.kubectl("get", "node", "n1", "-o", "json"))
    address = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    authority = cluster.root / "data" / "tls" / "ca.crt"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib3.PoolManager(ca_certs=str(authority), retries=urllib3.Retry(5, backoff_factor=0.1)) as pool:
        answer = pool.request(method, f"https://{address}:{port}{path}", headers=headers)
        return answer.status, answer.data.decode()


def containers_of(cluster: PrivateCluster, namespace: str) -> dict[str, Object]:
    """The usage of each container of the pod."""
    api = kubernetes.client.CustomObjectsApi(cluster.client())
    found: Any = api.list_namespaced_custom_object("metrics.k8s.io", "v1beta1", namespace, "pods")
    return {each["name"]: each["usage"] for item in found["items"] for each in item["containers"]}


def test_top_shows_who_is_busy(busy: Pods) -> None:
    def half_a_core() -> bool:
        usage = containers_of(busy.cluster, busy.namespace).get("hot", {"cpu": "0n"})
        return 350_000_000 < int(usage["cpu"].removesuffix("n")) < 650_000_000

    busy.until(half_a_core, 30)
    usage = containers_of(busy.cluster, busy.namespace)
    assert usage["cold"]["cpu"] == "0" or int(usage["cold"]["cpu"].removesuffix("n")) < 50_000_000
    assert usage["hot"]["memory"].endswith("Ki") or usage["hot"]["memory"].endswith("Mi")
    rows = [line.split() for line in busy.kubectl("top", "pods", "--containers", "--no-headers").splitlines()]
    assert {(row[0], row[1]) for row in rows} == {("busy", "hot"), ("busy", "cold")}
    name, cpu, share, *_ = busy.kubectl("top", "node", "--no-headers").split()
    assert name == "n1" and int(cpu.removesuffix("m")) > 100 and share.endswith("%")
    assert busy.kubectl("top", "pod", "-l", "app=other", check=False).startswith("No resources found")
    assert "hot" not in busy.kubectl("get", "podmetrics", "busy")
    groups = busy.kubectl("api-versions").splitlines()
    assert "metrics.k8s.io/v1beta1" in groups


def test_who_may_view_sees_usage(busy: Pods) -> None:
    busy.kubectl("create", "serviceaccount", "viewer")
    busy.kubectl("create", "rolebinding", "viewer", "--clusterrole=view", f"--serviceaccount={busy.namespace}:viewer")
    user = f"--as=system:serviceaccount:{busy.namespace}:viewer"
    busy.until(lambda: "busy" in busy.kubectl("top", "pods", user, check=False))
    assert "cannot list resource" in busy.kubectl("top", "nodes", user, check=False)


def test_the_summary_tells_of_all_that_is_used(busy: Pods) -> None:
    found = json.loads(busy.cluster.request("GET", "/api/v1/nodes/n1/proxy/stats/summary")[1])
    node = found["node"]
    assert node["nodeName"] == "n1" and node["memory"]["workingSetBytes"] > 1 << 20
    assert node["fs"]["capacityBytes"] > node["fs"]["availableBytes"] > 0
    pod = next(each for each in found["pods"] if each["podRef"]["namespace"] == busy.namespace)
    hot = next(each for each in pod["containers"] if each["name"] == "hot")
    assert hot["cpu"]["usageCoreNanoSeconds"] > 0 and hot["rootfs"]["capacityBytes"] > 0
    assert hot["memory"]["availableBytes"] < 64 << 20
    assert pod["network"]["name"] == "eth0" and pod["process_stats"]["process_count"] >= 2
    assert "volume" in pod and pod["ephemeral-storage"]["usedBytes"] >= 0


def test_metrics_have_upstreams_names(busy: Pods) -> None:
    base = "/api/v1/nodes/n1/proxy/metrics"
    labels = f'container="hot",namespace="{busy.namespace}",pod="busy"'
    text = busy.cluster.request("GET", f"{base}/resource")[1]
    assert f"container_cpu_usage_seconds_total{{{labels}}} " in text
    assert "\nnode_memory_working_set_bytes " in text and "\nresource_scrape_error 0" in text
    text = busy.cluster.request("GET", f"{base}/cadvisor")[1]
    assert f"container_memory_working_set_bytes{{{labels},id=" in text
    assert "container_cpu_cfs_throttled_periods_total{" in text
    assert f'container_network_receive_bytes_total{{namespace="{busy.namespace}",pod="busy",interface="eth0"}}' in text
    assert "kubelet_running_pods 1" in busy.cluster.request("GET", base)[1]
    wanted = f'prober_probe_total{{container="cold",namespace="{busy.namespace}",pod="busy",'
    busy.until(lambda: wanted in busy.cluster.request("GET", f"{base}/probes")[1])
    assert 'probe_type="Readiness",result="successful"}' in busy.cluster.request("GET", f"{base}/probes")[1]


def test_the_kubelets_port_asks_who_it_is_and_what_he_may(busy: Pods) -> None:
    assert kubelet(busy.cluster, "/pods") == (401, "Unauthorized\n")
    assert kubelet(busy.cluster, "/pods", "nonsense")[0] == 401
    busy.kubectl("create", "serviceaccount", "scraper")
    token = busy.kubectl("create", "token", "scraper").strip()
    code, text = kubelet(busy.cluster, "/metrics/resource", token)
    who = f"user=system:serviceaccount:{busy.namespace}:scraper, verb=get, resource=nodes, subresource(s)=[metrics]"
    assert (code, text) == (403, f"Forbidden ({who})\n")
    busy.kubectl("create", "clusterrole", busy.namespace, "--verb=get", "--resource=nodes/metrics,nodes/log")
    account = f"--serviceaccount={busy.namespace}:scraper"
    busy.kubectl("create", "clusterrolebinding", busy.namespace, f"--clusterrole={busy.namespace}", account)
    try:
        busy.until(lambda: kubelet(busy.cluster, "/metrics/resource", token)[0] == 200)
        assert "hot" in kubelet(busy.cluster, "/metrics/resource", token)[1]
        assert kubelet(busy.cluster, "/logs/", token)[0] == 200
        assert kubelet(busy.cluster, "/logs/../../etc/passwd", token)[0] in (403, 404)
        assert kubelet(busy.cluster, "/configz", token)[0] == 403
        assert kubelet(busy.cluster, f"/run/{busy.namespace}/busy/cold?cmd=id", token, "POST")[0] == 403
    finally:
        busy.kubectl("delete", "clusterrole,clusterrolebinding", busy.namespace)


def test_a_metrics_server_that_is_installed_has_precedence(pods: Pods) -> None:
    service: Object = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": "metrics-server", "namespace": pods.namespace},
        },
    }
    pods.apply(service)
    try:
        code, _ = pods.cluster.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes")
        assert code == 503
    finally:
        pods.kubectl("delete", "apiservice", "v1beta1.metrics.k8s.io")
    deadline = time.monotonic() + 10
    while pods.cluster.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
