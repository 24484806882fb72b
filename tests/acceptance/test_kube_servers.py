"""A cluster with two servers over one etcd: agents go on when the one that they joined by is gone."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.__main__ import busybox_root

from support import leaks
from support.kube_hosts import KubeHosts, kube_hosts, until
from support.remains import left_of

pytestmark = pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
IMAGE = "busybox:1"


@pytest.fixture
def hosts() -> Iterator[KubeHosts]:
    before = leaks.look()
    root = Path(tempfile.mkdtemp(prefix="wlh-"))
    try:
        with kube_hosts(root) as made:
            yield made
        for host in made.hosts.values():
            assert not left_of(host, before), host.tail()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def start_etcd(hosts: KubeHosts) -> str:
    host = hosts.add("etcd", 9)
    url, peer = f"http://{host.address}:2379", f"http://{host.address}:2380"
    words = ["--data-dir", str(host.root / "data"), "--listen-client-urls", url, "--advertise-client-urls", url]
    words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--unsafe-no-fsync"]
    host.start("etcd", *words, "--initial-cluster", f"default={peer}")
    until(lambda: "true" in host.run("curl", "-s", f"{url}/health", check=False), 20, host.tail)
    return url


def test_an_agent_goes_on_with_another_server(hosts: KubeHosts) -> None:
    flag = f"--datastore-endpoint={start_etcd(hosts)}"
    hosts.start_server(flag)
    hosts.start_server(flag, name="other", number=2)
    agent = hosts.add("n1", 11)
    hosts.start_agent(agent)
    agent.import_image(busybox_root(), IMAGE)
    hosts.wait_for_nodes("n1")
    first, hosts.front = hosts.server, "other"
    # Both have the same token, and both are known to the agent.
    assert (first.root / "data" / "token").read_text() == (hosts.server.root / "data" / "token").read_text()
    until(lambda: hosts.server.address in (agent.root / "data" / "agent" / "servers").read_text(), 20, hosts.tails)
    first.stop(signal.SIGKILL)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {
            "nodeName": "n1",
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": IMAGE, "command": ["sleep", "1000"]}],
        },
    }
    hosts.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    hosts.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    # It also starts without the server that its flag names.
    agent.stop()
    hosts.front = "server"
    hosts.start_agent(agent, token="")
    hosts.front = "other"
    until(lambda: agent.log.read_text().count("is part of the cluster") == 2, 60, agent.tail)
    hosts.kubectl("delete", "pod", "p", "--timeout=60s")
