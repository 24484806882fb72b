"""Pods on another machine than the server's: logs, commands, files, ports and metrics go through their kubelet."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.__main__ import busybox_root

from support import leaks
from support.kube_hosts import IMAGE, SERVE, KubeHosts, kube_hosts, until
from support.kubectl_streams import PROTOCOLS
from support.remains import left_of

KUBECTL = shutil.which("kubectl") or "kubectl"
both = pytest.mark.parametrize("environment", PROTOCOLS.values(), ids=PROTOCOLS)


@pytest.fixture(scope="module")
def hosts() -> Iterator[KubeHosts]:
    """A server that is no node, and an agent with a pod that prints, serves and can be run commands in."""
    before = leaks.look()
    root = Path(tempfile.mkdtemp(prefix="wlh-"))
    try:
        with kube_hosts(root) as made:
            made.start_server()
            made.start_agent(made.add("n1", 11))
            made.hosts["n1"].import_image(busybox_root(), IMAGE)
            made.wait_for_nodes("n1")
            made.make_pod("p", "n1", f"echo begin\n{SERVE}")
            made.address_of("p")
            yield made
        left = left_of(made.hosts["n1"], before)
        assert not left, "left behind:\n" + "\n".join(left) + made.tails()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def kubectl(
    hosts: KubeHosts, *words: str, environment: dict[str, str], stdin: bytes | None = None, check: bool = True
) -> str:
    """Run kubectl on the server's machine."""
    more = {"KUBECONFIG": str(hosts.kubeconfig), "HOME": str(hosts.root), **environment}
    return hosts.server.run(KUBECTL, *words, stdin=stdin, check=check, **more)


def test_logs_come_from_the_other_machine(hosts: KubeHosts) -> None:
    assert hosts.kubectl("logs", "p") == "begin\n"
    assert hosts.kubectl("logs", "p", "--insecure-skip-tls-verify-backend") == "begin\n"
    refused = hosts.kubectl("logs", "p", "--previous", check=False)
    assert refused == ('Error from server (BadRequest): previous terminated container "c" in pod "p" not found\n')


@both
def test_commands_run_on_the_other_machine(hosts: KubeHosts, environment: dict[str, str]) -> None:
    script = "cat; hostname; exit 3"
    found = kubectl(
        hosts, "exec", "-i", "p", "--", "sh", "-c", script, environment=environment, stdin=b"in\n", check=False
    )
    assert found == "in\np\ncommand terminated with exit code 3\n"
    data = hosts.root / "data.bin"
    data.write_bytes(bytes(range(256)) * 8000)
    kubectl(hosts, "cp", str(data), "p:/tmp/data", environment=environment)
    kubectl(hosts, "cp", "p:/tmp/data", str(hosts.root / "back"), environment=environment)
    assert (hosts.root / "back").read_bytes() == data.read_bytes()
    refused = kubectl(hosts, "exec", "p", "-c", "x", "--", "ls", environment=environment, check=False)
    assert "container x is not valid for pod p" in refused


@both
def test_ports_of_the_other_machine_are_forwarded(hosts: KubeHosts, environment: dict[str, str]) -> None:
    script = (
        f"{KUBECTL} port-forward pod/p 18080:8080 >/dev/null 2>&1 & own=$!; "
        "for i in $(seq 50); do curl -s --max-time 5 http://127.0.0.1:18080/name && break; sleep 0.1; done; "
        "kill -INT $own; wait $own"
    )
    more = {"KUBECONFIG": str(hosts.kubeconfig), "HOME": str(hosts.root), **environment}
    assert hosts.server.run("sh", "-c", script, check=False, **more) == "p\n"


def test_the_node_is_asked_for_its_metrics(hosts: KubeHosts) -> None:
    until(lambda: hosts.kubectl("top", "nodes", "--no-headers", check=False).startswith("n1 "), 30, hosts.tails)
    until(lambda: hosts.kubectl("top", "pods", "--no-headers", check=False).startswith("p "), 30, hosts.tails)
    assert hosts.kubectl("get", "--raw", "/api/v1/nodes/n1/proxy/healthz") == "ok"
    refused = hosts.kubectl("get", "--raw", "/api/v1/nodes/n1/proxy/nothing", check=False)
    assert "NotFound" in refused


def test_the_node_asks_the_server_who_may_ask_it(hosts: KubeHosts) -> None:
    hosts.kubectl("create", "serviceaccount", "scraper")
    token = hosts.kubectl("create", "token", "scraper").strip()

    def ask(token: str) -> str:
        words = ("curl", "-sk", "--max-time", "10", "-H", f"Authorization: Bearer {token}", "-w", " %{http_code}")
        return hosts.server.run(*words, "https://192.0.2.11:10250/metrics/resource", check=False)

    assert ask("nonsense").endswith(" 401")
    assert ask(token).endswith("resource=nodes, subresource(s)=[metrics])\n 403")
    hosts.kubectl("create", "clusterrole", "scraper", "--verb=get", "--resource=nodes/metrics")
    hosts.kubectl("create", "serviceaccount", "other")
    subject = "--serviceaccount=default:other"
    hosts.kubectl("create", "clusterrolebinding", "scraper", "--clusterrole=scraper", subject)
    # Another one: what was refused is known for a while.
    token = hosts.kubectl("create", "token", "other").strip()
    found = ask(token)
    assert found.endswith(" 200") and 'container="c",namespace="default",pod="p"' in found


def test_a_node_that_does_not_answer_is_said_to_be_away(hosts: KubeHosts) -> None:
    hosts.hosts["n1"].stop()
    refused = hosts.kubectl("logs", "p", check=False)
    assert "Error from server (ServiceUnavailable)" in refused and "192.0.2.11:10250" in refused
    refused = hosts.kubectl("exec", "p", "--", "ls", check=False)
    assert "192.0.2.11:10250" in refused
    hosts.start_agent(hosts.hosts["n1"], token="")
    until(lambda: hosts.kubectl("logs", "p", check=False) == "begin\n", 60, hosts.tails)
