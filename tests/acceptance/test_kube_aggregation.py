"""A group that another server answers: discovery, identity, streams, and what is said when it does not answer."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from support import certificates
from support.cluster import PrivateCluster

GROUP = "/apis/things.example.com/v1"
RESOURCES = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": "things.example.com/v1",
    "resources": [
        {"name": "things", "singularName": "thing", "namespaced": True, "kind": "Thing", "verbs": ["get", "list"]}
    ],
}


@pytest.fixture
def backend(tmp_path: Path, cluster: PrivateCluster) -> Iterator[ThreadingHTTPServer]:
    """An API server of somebody else's: it trusts who shows the front proxy's certificate."""
    certificates.make(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            subject = dict(pair[0] for pair in self.connection.getpeercert()["subject"])  # type: ignore[attr-defined]
            assert subject["commonName"] == "front-proxy-client"
            found: dict[str, Any] = RESOURCES
            if self.path != GROUP:
                found = {
                    "kind": "Thing",
                    "user": self.headers["X-Remote-User"],
                    "groups": self.headers["X-Remote-Group"],
                    "path": self.path,
                    "authorization": self.headers["Authorization"],
                }
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server-cert.pem", tmp_path / "server-key.pem")
    context.load_verify_locations(cluster.root / "data" / "tls" / "front-proxy-ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_requests_are_passed_on_with_who_asks(cluster: PrivateCluster, backend: ThreadingHTTPServer) -> None:
    core, port = cluster.core, backend.server_address[1]
    place = {"name": "things", "namespace": "default"}
    core.create_namespaced_service("default", {"metadata": place, "spec": {"ports": [{"port": 443}]}})
    endpoint_slice = {
        "metadata": {**place, "labels": {"kubernetes.io/service-name": "things"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"]}],
        "ports": [{"port": port}],
    }
    discovery = kubernetes.client.DiscoveryV1Api(cluster.client())
    discovery.create_namespaced_endpoint_slice("default", endpoint_slice)
    registration = kubernetes.client.ApiregistrationV1Api(cluster.client())
    spec = {
        "group": "things.example.com",
        "version": "v1",
        "groupPriorityMinimum": 1000,
        "versionPriority": 15,
        "service": place,
        "insecureSkipTLSVerify": True,
    }
    registration.create_api_service({"metadata": {"name": "v1.things.example.com"}, "spec": spec})

    def condition() -> Any:
        found = registration.read_api_service("v1.things.example.com").status
        return {each.type: each for each in (found.conditions if found else None) or ()}.get("Available")

    deadline = time.monotonic() + 20
    while not condition() or condition().status != "True":
        assert time.monotonic() < deadline, condition()
        time.sleep(0.05)
    status, text = cluster.request("GET", f"{GROUP}/namespaces/default/things/x?a=b", Authorization="Bearer secret")
    found = json.loads(text)
    assert status == 200 and found["user"] == "system:admin" and "system:masters" in found["groups"]
    assert found["path"] == f"{GROUP}/namespaces/default/things/x?a=b" and found["authorization"] is None
    refused = cluster.request("GET", f"{GROUP}/things", **{"Impersonate-User": "bob"})
    assert refused[0] == 403 and 'cannot list resource \\"things\\" in API group \\"things.example.com\\"' in refused[1]
    assert json.loads(cluster.request("GET", GROUP)[1]) == RESOURCES
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    groups = json.loads(cluster.request("GET", "/apis", Accept=accept)[1])["items"]
    (ours,) = [each for each in groups if each["metadata"].get("name") == "things.example.com"]
    assert ours["versions"][0]["resources"][0]["resource"] == "things"

    discovery.delete_namespaced_endpoint_slice("things", "default")
    while condition().status != "False":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status, text = cluster.request("GET", f"{GROUP}/things")
    assert status == 503 and "no endpoints available" in text
    registration.delete_api_service("v1.things.example.com")
    assert cluster.request("GET", f"{GROUP}/things")[0] == 404
    local = registration.read_api_service("v1.apps")
    assert local.spec.service is None and local.status.conditions[0].reason == "Local"
