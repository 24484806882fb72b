"""A cluster over three machines: they join, their pods reach each other, one is drained, one is lost."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.__main__ import busybox_root

from support import leaks
from support.kube_hosts import IMAGE, WINDLASS, KubeHosts, kube_hosts, until
from support.remains import left_of
from windlass.cluster.tokens import JoinToken

Object = dict[str, Any]


@pytest.fixture(scope="module")
def hosts() -> Iterator[KubeHosts]:
    """A server that is a node itself, and two agents. Nothing of them may be left."""
    before = leaks.look()
    root = Path(tempfile.mkdtemp(prefix="wlh-"))
    try:
        with kube_hosts(root) as made:
            made.start_server(node=True)
            for number, name in enumerate(("n1", "n2")):
                made.start_agent(made.add(name, 11 + number), f"--node-label=disk={name}")
            for host in made.hosts.values():
                host.import_image(busybox_root(), IMAGE)
            made.wait_for_nodes("server", "n1", "n2")
            yield made
        for host in made.hosts.values():
            left = left_of(host, before)
            assert not left, "left behind:\n" + "\n".join(left) + host.tail()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def test_nodes_have_names_addresses_and_parts_of_the_range(hosts: KubeHosts) -> None:
    nodes = {each["metadata"]["name"]: each for each in hosts.get("nodes")["items"]}
    assert set(nodes) == {"server", "n1", "n2"}
    assert len({each["spec"]["podCIDR"] for each in nodes.values()}) == 3
    assert {"type": "InternalIP", "address": "192.0.2.11"} in nodes["n1"]["status"]["addresses"]
    assert nodes["n1"]["metadata"]["labels"]["disk"] == "n1"
    assert nodes["n1"]["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"


def test_certificates_are_the_nodes_own(hosts: KubeHosts) -> None:
    directory = hosts.hosts["n1"].root / "data" / "agent"
    until(lambda: (directory / "serving-kubelet.pem").exists(), 20, hosts.tails)
    for name in ("client-kubelet.pem", "client-agent.pem", "serving-kubelet.pem"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((hosts.server.root / "data" / "token").stat().st_mode) == 0o600
    requests = hosts.get("csr")["items"]
    of_n1 = {
        (each["spec"]["signerName"], each["spec"]["username"])
        for each in requests
        if each["spec"]["username"].endswith(":n1")
    }
    assert of_n1 == {
        ("kubernetes.io/kubelet-serving", "system:node:n1"),
        ("windlass.dev/agent", "system:node:n1"),
    }
    # A kubelet reads its own; what the network needs is read by another name.
    curl = ("curl", "-sk", "--cert", str(directory / "client-kubelet.pem"))
    agent = ("curl", "-sk", "--cert", str(directory / "client-agent.pem"))
    server = hosts.server
    for path, kubelet_may, agent_may in (
        ("/api/v1/nodes/n1", True, True),
        ("/api/v1/nodes/n2", False, True),
        ("/api/v1/secrets", False, False),
        ("/apis/discovery.k8s.io/v1/endpointslices", False, True),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", True, True),
    ):
        for words, may in ((curl, kubelet_may), (agent, agent_may)):
            answer = json.loads(server.run(*words, f"{hosts.url}{path}"))
            assert (answer.get("code") != 403) == may, (path, words, answer)


def test_pods_reach_pods_and_hosts_reach_pods_untranslated(hosts: KubeHosts) -> None:
    addresses = {}
    for name in hosts.hosts:
        hosts.make_pod(f"web-{name}", name)
    for name in hosts.hosts:
        addresses[name] = hosts.address_of(f"web-{name}")
    for name, host in hosts.hosts.items():
        for other, address in addresses.items():
            url = f"http://{address}:8080/name"
            assert host.exec(f"web-{name}", "wget", "-qO-", url).strip() == f"web-{other}"
            assert host.run("curl", "-s", url).strip() == f"web-{other}"
    # Who is asked sees who asks.
    asker = hosts.hosts["n1"].exec("web-n1", "wget", "-qO-", f"http://{addresses['n2']}:8080/cgi-bin/asker")
    assert addresses["n1"] in asker
    # The largest packets go through, too.
    size = 1450 - 28
    text = hosts.hosts["n1"].exec("web-n1", "ping", "-c1", "-W2", "-s", str(size), addresses["n2"])
    assert "1 packets received" in text
    hosts.kubectl("delete", "pods", "--all", "--timeout=30s")


def test_pods_on_agents_get_what_they_name(hosts: KubeHosts) -> None:
    hosts.kubectl("create", "secret", "generic", "key", "--from-literal=k=one")
    hosts.kubectl("create", "configmap", "conf", "--from-literal=c=two")
    hosts.kubectl("create", "secret", "generic", "strange", "--from-literal=k=no")
    hosts.make_pod(
        "named",
        "n1",
        "while sleep 0.2; do cat /s/k /c/c; echo; done",
        container={
            "volumeMounts": [{"name": "s", "mountPath": "/s"}, {"name": "c", "mountPath": "/c"}],
        },
        volumes=[{"name": "s", "secret": {"secretName": "key"}}, {"name": "c", "configMap": {"name": "conf"}}],
    )
    hosts.address_of("named")
    assert hosts.hosts["n1"].exec("named", "cat", "/s/k", "/c/c").strip() == "onetwo"
    # What changes arrives, although a kubelet may not list secrets.
    hosts.kubectl("patch", "secret", "key", "-p", '{"stringData":{"k":"new"}}')
    until(lambda: hosts.hosts["n1"].exec("named", "cat", "/s/k").strip() == "new", 20, hosts.tails)
    events = hosts.kubectl("get", "events", "--field-selector=involvedObject.name=named", "-o", "name")
    assert events.strip()
    hosts.kubectl("delete", "pod", "named", "--timeout=30s")


def test_an_agent_comes_back_without_a_token_and_finds_its_pods(hosts: KubeHosts) -> None:
    host = hosts.hosts["n2"]
    hosts.make_pod("stays", "n2")
    address = hosts.address_of("stays")
    host.stop(signal.SIGKILL)
    assert hosts.hosts["n1"].run("curl", "-s", f"http://{address}:8080/name").strip() == "stays"
    hosts.start_agent(host, token="")
    until(lambda: host.log.read_text().count("is part of the cluster") == 2, 20, host.tail)
    pod = hosts.get("pod", "stays")
    assert pod["status"]["podIP"] == address and pod["status"]["containerStatuses"][0]["restartCount"] == 0
    hosts.kubectl("delete", "pod", "stays", "--timeout=30s")


def test_agents_outlive_their_server(hosts: KubeHosts) -> None:
    hosts.make_pod("before", "n1")
    address = hosts.address_of("before")
    hosts.server.stop(signal.SIGKILL)
    assert hosts.hosts["n2"].run("curl", "-s", f"http://{address}:8080/name").strip() == "before"
    hosts.start_server(node=True)
    hosts.make_pod("after", "n1")
    # The agents come back within their back-off.
    hosts.kubectl("wait", "--for=condition=Ready", "pod/after", "--timeout=60s")
    hosts.kubectl("delete", "pods", "--all", "--timeout=60s")


def test_an_agent_hears_of_a_server_that_came_back_while_its_cable_was_out(hosts: KubeHosts) -> None:
    host = hosts.hosts["n1"]
    host.cut(off=True)
    hosts.server.stop(signal.SIGKILL)
    hosts.start_server(node=True)
    host.cut(off=False)
    # Its watches are to a server that is not there any more, and nobody has told it so.
    hosts.make_pod("heard", "n1")
    hosts.kubectl("wait", "--for=condition=Ready", "pod/heard", "--timeout=60s")
    hosts.kubectl("delete", "pods", "--all", "--timeout=60s")


def test_a_node_is_drained(hosts: KubeHosts) -> None:
    hosts.make_pod("guest", "n1")
    hosts.address_of("guest")
    hosts.kubectl("drain", "n1", "--force", "--timeout=60s")
    assert hosts.get("node", "n1")["spec"]["unschedulable"] is True
    assert "guest" not in hosts.kubectl("get", "pods", "-o", "name")
    hosts.kubectl("uncordon", "n1")


def test_who_may_not_join_does_not(hosts: KubeHosts) -> None:
    token = JoinToken.parse(hosts.token)
    strange = JoinToken(token.id, token.secret, "0" * 64)
    unknown = JoinToken("abcdef", "0123456789abcdef", token.authority_hash)
    for number, (wrong, why) in enumerate(
        (
            (strange, "token CA hash does not match the Cluster CA certificate hash"),
            (unknown, "Unauthorized"),
        )
    ):
        host = hosts.add(f"w{number}", 50 + number)
        hosts.start_agent(host, token=str(wrong))
        assert host.process
        assert host.process.wait(20) == 1
        assert why in host.log.read_text()
        assert not (host.root / "data" / "agent" / "client-kubelet.pem").exists()
    assert "w0" not in hosts.kubectl("get", "nodes", "-o", "name")


def test_tokens_are_made_listed_and_deleted(hosts: KubeHosts) -> None:
    def token(*words: str, check: bool = True) -> str:
        return hosts.server.run(WINDLASS, "token", *words, check=check, KUBECONFIG=str(hosts.kubeconfig))

    plain = token("generate").strip()
    assert JoinToken.parse(plain).authority_hash == ""
    made = JoinToken.parse(token("create", plain, "--ttl=1h", "--description=for a test"))
    assert made.bootstrap == plain and made.authority_hash == JoinToken.parse(hosts.token).authority_hash
    listed = token("list").splitlines()
    assert listed[0].split("   ")[0] == "TOKEN" and len(listed) == 3
    row = next(line for line in listed if line.startswith(made.id))
    assert "for a test" in row and "59m" in row
    assert plain not in "\n".join(listed)
    assert plain in {each["token"] for each in json.loads(token("list", "-o", "json"))}
    assert "already exists" in token("create", plain, check=False)
    host = hosts.add("n3", 13)
    hosts.start_agent(host, "--with-node-id", token=str(made))
    until(lambda: "n3-" in hosts.kubectl("get", "nodes", "-o", "name"), 20, host.tail)
    assert token("delete", made.id).strip() == f'bootstrap token "{made.id}" deleted'
    assert "there is no bootstrap token" in token("delete", made.id, check=False)
    name = next(each for each in hosts.kubectl("get", "nodes", "-o", "name").split() if "n3-" in each)
    host.stop()
    hosts.kubectl("delete", name)


def test_a_lost_nodes_packets_are_forgotten_when_it_is_deleted(hosts: KubeHosts) -> None:
    part = hosts.get("node", "n2")["spec"]["podCIDR"]
    lost, other = hosts.hosts["n2"], hosts.hosts["n1"]
    assert part in other.run("ip", "route")
    lost.cut(off=True)
    lost.stop(signal.SIGKILL)
    hosts.kubectl("delete", "node", "n2")
    until(lambda: part not in other.run("ip", "route"), 10, other.tail)
    lost.cut(off=False)
    hosts.start_agent(lost)
    hosts.wait_for_nodes("n2")
    until(lambda: hosts.get("node", "n2")["spec"]["podCIDR"] in other.run("ip", "route"), 10, other.tail)
