"""Clusters of other forms: two servers over one etcd; nodes that share a network and wrap nothing."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.__main__ import busybox_root

from support import leaks
from support.kube_hosts import IMAGE, KubeHosts, kube_hosts, until
from support.remains import left_of
from windlass.cluster.tokens import JoinToken


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


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
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
    hosts.make_pod("p", "n1")
    hosts.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    # It also starts without the server that its flag names.
    agent.stop()
    hosts.front = "server"
    hosts.start_agent(agent, token="")
    hosts.front = "other"
    until(lambda: agent.log.read_text().count("is part of the cluster") == 2, 60, agent.tail)
    hosts.kubectl("delete", "pod", "p", "--timeout=60s")


def test_pods_reach_each_other_by_routes_alone(hosts: KubeHosts) -> None:
    # The agent may come first, with a token that the administrator chose and that believes whoever answers.
    hosts.add("server", 1)
    agent = hosts.add("n1", 11)
    token = JoinToken.generate().bootstrap
    hosts.start_agent(agent, token=token)
    until(lambda: "(again in 5 s)" in agent.log.read_text(), 20, agent.tail)
    hosts.start_server(f"--token={token}", "--flannel-backend=host-gw", node=True)
    for host in hosts.hosts.values():
        host.import_image(busybox_root(), IMAGE)
    hosts.wait_for_nodes("server", "n1")
    assert hosts.token.endswith(f"::{token}")
    assert "is believed" in agent.log.read_text()
    addresses = {}
    for name in hosts.hosts:
        hosts.make_pod(f"web-{name}", name)
        addresses[name] = hosts.address_of(f"web-{name}")
    for name, other in (("server", "n1"), ("n1", "server")):
        asker = hosts.hosts[name].exec(f"web-{name}", "wget", "-qO-", f"http://{addresses[other]}:8080/cgi-bin/asker")
        assert addresses[name] in asker
        asker = hosts.hosts[name].run("curl", "-s", f"http://{addresses[other]}:8080/cgi-bin/asker")
        assert hosts.hosts[name].address in asker
    assert "windlass.1" not in agent.run("ip", "link")
    # Nothing is wrapped: the largest packets are the network's own.
    ping = agent.exec("web-n1", "ping", "-c1", "-W2", "-s", str(1500 - 28), addresses["server"])
    assert "1 packets received" in ping
    hosts.kubectl("delete", "pods", "--all", "--timeout=60s")
