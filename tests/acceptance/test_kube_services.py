"""Services by what clients get from them: addresses, names, node ports, policies, on a real node.

Oracle: https://kubernetes.io/docs/concepts/services-networking/service/ and .../dns-pod-service/
"""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support.cluster import PrivateCluster
from support.kube_pods import IMAGE, Pods, shell
from windlass.kube.proxy.proxier import table_name

pytestmark = pytest.mark.timeout(120)

# Each answer names the pod that gave it, and who it thinks has asked.
_SERVE = (
    "mkdir -p /w/cgi-bin; "
    'printf "#!/bin/sh\\necho; echo \\$HOSTNAME \\$REMOTE_ADDR\\n" >/w/cgi-bin/w; chmod +x /w/cgi-bin/w; '
    "exec httpd -f -p 8080 -h /w"
)


def _deployment(name: str, replicas: int) -> Any:
    ports = [{"containerPort": 8080, "name": "http"}]
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    container = shell(_SERVE, image=IMAGE, ports=ports, readinessProbe=probe)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    }


def _service(name: str, app: str, **spec: Any) -> Any:
    wanted = {"selector": {"app": app}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]} | spec
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": wanted}


class World(Pods):
    """A Deployment of three that serves, and a client."""

    def __init__(self, cluster: PrivateCluster) -> None:
        super().__init__(cluster, "services")
        self.client = ""

    def begin(self) -> None:
        self.cluster.kubectl("create", "namespace", self.namespace)
        self.apply(_deployment("web", 3), _service("web", "web"))
        self.make("client", shell("sleep 100000"))
        self.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
        identity = self.ready("client")["status"]["containerStatuses"][0]["containerID"]
        self.client = identity.removeprefix("windlass://")

    def run(self, *words: str) -> str:
        """A command in the client; what it prints, errors too."""
        command = ["docker", "-H", f"unix://{self.cluster.docker_socket}", "exec", self.client, *words]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30).stdout

    def ask(self, url: str) -> tuple[str, str]:
        """Who answers the client, and whom they see."""
        found = self.run("wget", "-q", "-O", "-", f"http://{url}/cgi-bin/w").split()
        assert len(found) == 2, found
        return found[0], found[1].removeprefix("[::ffff:").rstrip("]")

    def address(self, service: str) -> str:
        return str(self.object("service", service)["spec"]["clusterIP"])

    def object(self, kind: str, name: str) -> Any:
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def endpoints(self, service: str, count: int) -> None:
        """Wait until a service has so many endpoints."""

        def ready() -> bool:
            found = self.kubectl("get", "endpoints", service, "-o", "jsonpath={.subsets[*].addresses[*].ip}")
            return len(found.split()) == count

        self.until(ready)


@pytest.fixture(scope="module")
def world(node: PrivateCluster) -> Iterator[World]:
    """See World."""
    world = World(node)
    world.begin()
    yield world
    node.kubectl("delete", "namespace", world.namespace, "--timeout=60s")


def _from_host(url: str) -> str:
    with urllib.request.urlopen(f"http://{url}/cgi-bin/w", timeout=3) as answer:
        return str(answer.read().decode().split()[0])


def test_an_address_leads_to_all_pods_which_see_who_asks(world: World) -> None:
    own = world.get("client")["status"]["podIP"]
    found = [world.ask(world.address("web")) for _ in range(25)]
    assert len({name for name, _ in found}) == 3
    assert {seen for _, seen in found} == {own}


def test_names_lead_to_services_by_search_paths(world: World) -> None:
    for name in ("web", "web.services", "web.services.svc", "web.services.svc.cluster.local"):
        assert world.ask(name)[0].startswith("web-")
    assert world.address("web") in world.run("nslookup", "web.services.svc.cluster.local")
    assert "NXDOMAIN" in world.run("nslookup", "nobody.services.svc.cluster.local")
    reverse = world.run("nslookup", world.address("web"))
    assert "web.services.svc.cluster.local" in reverse
    api = world.run("wget", "--no-check-certificate", "-q", "-O", "-", "https://kubernetes.default.svc/version")
    assert "can't resolve" not in api and "bad address" not in api


def test_headless_services_are_their_pods_and_aliases_lead_elsewhere(world: World) -> None:
    alias = {"type": "ExternalName", "externalName": "web.services.svc.cluster.local"}
    world.apply(
        _service("headless", "web", clusterIP="None"),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias"}, "spec": alias},
    )
    world.endpoints("headless", 3)
    answer = world.run("nslookup", "headless.services.svc.cluster.local")
    pods = json.loads(world.kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]
    assert all(each["status"]["podIP"] in answer for each in pods)
    assert world.ask("alias")[0].startswith("web-")
    located = world.run("nslookup", "-type=srv", "_web._tcp.headless.services.svc.cluster.local")
    assert located.count(" 8080 ") == 3


def test_node_ports_and_balancers_lead_in_from_the_host(world: World) -> None:
    world.apply(_service("open", "web", type="NodePort"))
    world.endpoints("open", 3)
    port = world.object("service", "open")["spec"]["ports"][0]["nodePort"]
    node = world.object("node", "n1")["status"]["addresses"][0]["address"]
    for address in ("127.0.0.1", node):
        world.until(lambda address=address: _from_host(f"{address}:{port}").startswith("web-"))
    assert _from_host(world.address("web")).startswith("web-")
    assert world.ask(f"{node}:{port}")[0].startswith("web-")


def test_a_balancer_is_the_nodes_addresses(world: World) -> None:
    world.apply(_service("balanced", "web", type="LoadBalancer", ports=[{"port": 8443, "targetPort": "http"}]))
    world.endpoints("balanced", 3)
    node = world.object("node", "n1")["status"]["addresses"][0]["address"]
    world.until(lambda: world.object("service", "balanced")["status"]["loadBalancer"].get("ingress"))
    assert [each["ip"] for each in world.object("service", "balanced")["status"]["loadBalancer"]["ingress"]] == [node]
    world.until(lambda: _answers(f"{node}:8443"))
    spec = {"type": "ClusterIP", "ports": [{"port": 8443, "targetPort": "http", "nodePort": None}]}
    world.kubectl("patch", "service", "balanced", "--type=merge", "-p", json.dumps({"spec": spec}))
    world.until(lambda: not world.object("service", "balanced")["status"]["loadBalancer"].get("ingress"))
    world.until(lambda: not _answers(f"{node}:8443"))


def test_a_service_without_endpoints_refuses_at_once(world: World) -> None:
    world.apply(_service("empty", "nobody", type="NodePort"))
    port = world.object("service", "empty")["spec"]["ports"][0]["nodePort"]
    world.until(lambda: "refused" in world.run("wget", "-q", "-O", "-", f"http://{world.address('empty')}/"))

    def is_refused() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED

    assert is_refused()


def test_clients_keep_their_endpoint_where_that_is_asked_for(world: World) -> None:
    world.apply(_service("sticky", "web", sessionAffinity="ClientIP"))
    world.endpoints("sticky", 3)
    world.until(lambda: world.run("wget", "-q", "-O", "-", f"http://{world.address('sticky')}/cgi-bin/w"))
    assert len({world.ask(world.address("sticky"))[0] for _ in range(15)}) == 1


def test_a_pod_reaches_itself_by_its_service(world: World) -> None:
    world.apply(_deployment("alone", 1), _service("alone", "alone"))
    world.kubectl("rollout", "status", "deployment/alone", "--timeout=30s")
    world.endpoints("alone", 1)
    pod = json.loads(world.kubectl("get", "pods", "-l", "app=alone", "-o", "json"))["items"][0]
    identity = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("windlass://")
    url = f"http://{world.address('alone')}/cgi-bin/w"
    answer = world.until(lambda: _exec(world, identity, "wget", "-q", "-O", "-", url))
    assert answer.split()[0] == pod["metadata"]["name"]


def _exec(world: World, identity: str, *words: str) -> str:
    command = ["docker", "-H", f"unix://{world.cluster.docker_socket}", "exec", identity, *words]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=30).stdout


def test_a_rolling_update_loses_no_request(world: World) -> None:
    world.apply(_deployment("rolled", 2), _service("rolled", "rolled"))
    hook = {"exec": {"command": ["sleep", "1"]}}
    spec = {
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "spec": {
                "terminationGracePeriodSeconds": 5,
                "containers": [{"name": "c", "lifecycle": {"preStop": hook}}],
            }
        },
    }
    world.kubectl("patch", "deployment", "rolled", "-p", json.dumps({"spec": spec}))
    world.kubectl("rollout", "status", "deployment/rolled", "--timeout=40s")
    address = world.address("rolled")
    script = f"while [ ! -e /stop ]; do wget -q -O /dev/null http://{address}/cgi-bin/w || echo lost; echo asked; done"
    command = ["docker", "-H", f"unix://{world.cluster.docker_socket}", "exec", world.client, "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        world.kubectl("set", "env", "deployment/rolled", "VERSION=2")
        world.kubectl("rollout", "status", "deployment/rolled", "--timeout=40s")
        world.kubectl("rollout", "undo", "deployment/rolled")
        world.kubectl("rollout", "status", "deployment/rolled", "--timeout=40s")
        world.run("touch", "/stop")
        said, _ = load.communicate(timeout=20)
    assert said.count("asked") > 20
    assert "lost" not in said


def test_services_outlive_the_server(world: World) -> None:
    address = world.address("web")
    world.cluster.kill()
    assert len({_from_host(address) for _ in range(30)}) == 3
    world.cluster.start()
    world.until(lambda: world.run("wget", "-q", "-O", "-", "http://web/cgi-bin/w").startswith("web-"))
    assert _from_host(address).startswith("web-")


def test_rules_that_somebody_deleted_come_back_with_the_next_change(world: World) -> None:
    tables = subprocess.run(["nft", "list", "tables"], stdout=subprocess.PIPE, text=True, check=True).stdout
    own = table_name(str(world.cluster.root / "data" / "agent"))
    assert f"table ip {own}" in tables
    subprocess.run(["nft", "delete", "table", "ip", own], check=True)
    world.apply(_service("later", "web"))
    world.endpoints("later", 3)
    world.until(lambda: _answers(world.address("web")) and _answers(world.address("later")))


def _answers(url: str) -> bool:
    try:
        return _from_host(url).startswith("web-")
    except (OSError, urllib.error.URLError):
        return False
