"""Admission: webhooks that change and refuse, policies in CEL, quotas, limit ranges, escalation."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes.client import ApiException

from support import certificates
from support.cluster import PrivateCluster

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Hook:
    """An HTTPS server that answers AdmissionReviews."""

    def __init__(self, directory: Path) -> None:
        certificates.make(directory)
        self.bundle = base64.b64encode((directory / "ca.pem").read_bytes()).decode()
        self.answers: dict[str, Answer] = {}
        self.requests: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.requests.append(review["request"])
                response = {"uid": review["request"]["uid"], **hook.answers[self.path.split("?")[0]](review["request"])}
                body = json.dumps({**review, "response": response}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server-cert.pem", directory / "server-key.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def config(self, path: str) -> dict[str, Any]:
        return {"url": f"https://localhost:{self.server.server_address[1]}{path}", "caBundle": self.bundle}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hook]:
    hook = Hook(tmp_path_factory.mktemp("hook"))
    yield hook
    hook.close()


def message(error: ApiException) -> str:
    text: str = json.loads(error.body)["message"]
    return text


def webhook(name: str, hook: Hook, path: str, **more: Any) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
    return {
        "name": name,
        "clientConfig": hook.config(path),
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchLabels": {"hooked": "yes"}},
        **more,
    }


@pytest.fixture
def namespace(cluster: PrivateCluster) -> Iterator[str]:
    core = cluster.core
    core.create_namespace({"metadata": {"name": "hooked", "labels": {"hooked": "yes"}}})
    yield "hooked"
    core.delete_namespace("hooked")
    watch = kubernetes.watch.Watch()
    for event in watch.stream(core.list_namespace, field_selector="metadata.name=hooked", timeout_seconds=20):
        if event["type"] == "DELETED":
            break


def test_webhooks_change_and_refuse(cluster: PrivateCluster, hook: Hook, namespace: str) -> None:
    registration = kubernetes.client.AdmissionregistrationV1Api(cluster.client())
    patch = [{"op": "add", "path": "/data/added", "value": "by the hook"}]
    hook.answers["/mutate"] = lambda _: {
        "allowed": True,
        "patchType": "JSONPatch",
        "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        "warnings": ["changed by the hook"],
    }
    hook.answers["/validate"] = lambda request: (
        {"allowed": False, "status": {"message": "no x here", "code": 403}}
        if request["object"]["data"].get("x")
        else {"allowed": True}
    )
    registration.create_mutating_webhook_configuration(
        {"metadata": {"name": "m"}, "webhooks": [webhook("m.example.com", hook, "/mutate")]}
    )
    condition = {"name": "not-free", "expression": "object.metadata.name != 'free'"}
    registration.create_validating_webhook_configuration(
        {
            "metadata": {"name": "v"},
            "webhooks": [webhook("v.example.com", hook, "/validate", matchConditions=[condition])],
        }
    )
    core = cluster.core
    try:
        made, _, headers = core.create_namespaced_config_map_with_http_info(
            namespace, {"metadata": {"name": "a"}, "data": {"y": "1"}}
        )
        assert made.data == {"y": "1", "added": "by the hook"}
        assert headers["Warning"] == '299 - "changed by the hook"'
        review = hook.requests[0]
        assert (review["operation"], review["namespace"], review["name"]) == ("CREATE", namespace, "a")
        assert review["userInfo"]["username"] == "system:admin" and review["dryRun"] is False
        with pytest.raises(ApiException) as caught:
            core.create_namespaced_config_map(namespace, {"metadata": {"name": "b"}, "data": {"x": "1"}})
        assert caught.value.status == 403
        assert 'admission webhook "v.example.com" denied the request: no x here' in message(caught.value)
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "free"}, "data": {"x": "1"}})
        other = core.create_namespaced_config_map("default", {"metadata": {"name": "a"}, "data": {"x": "1"}})
        assert other.data == {"x": "1"}  # another namespace, which the hooks do not look at
    finally:
        registration.delete_mutating_webhook_configuration("m")
        registration.delete_validating_webhook_configuration("v")


def test_a_webhook_that_fails_refuses_or_is_passed_over(cluster: PrivateCluster, hook: Hook, namespace: str) -> None:
    registration = kubernetes.client.AdmissionregistrationV1Api(cluster.client())
    gone = webhook("gone.example.com", hook, "/x")
    gone["clientConfig"] = {"url": "https://localhost:1/", "caBundle": hook.bundle}
    registration.create_validating_webhook_configuration({"metadata": {"name": "f"}, "webhooks": [gone]})
    core = cluster.core
    try:
        with pytest.raises(ApiException) as caught:
            core.create_namespaced_config_map(namespace, {"metadata": {"name": "a"}})
        assert caught.value.status == 500 and 'failed calling webhook "gone.example.com"' in message(caught.value)
        patch = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]
        registration.patch_validating_webhook_configuration("f", patch)
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "a"}})
    finally:
        registration.delete_validating_webhook_configuration("f")


def test_policies_in_cel(cluster: PrivateCluster) -> None:
    registration = kubernetes.client.AdmissionregistrationV1Api(cluster.client())
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    policy = {
        "metadata": {"name": "few"},
        "spec": {
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": {"resourceRules": [rule]},
            "variables": [{"name": "count", "expression": "object.spec.replicas"}],
            "validations": [
                {
                    "expression": "variables.count <= int(params.data.most)",
                    "messageExpression": "'at most ' + params.data.most + ' replicas'",
                }
            ],
        },
    }
    registration.create_validating_admission_policy(policy)
    binding = {
        "metadata": {"name": "few"},
        "spec": {
            "policyName": "few",
            "paramRef": {"name": "few", "namespace": "default", "parameterNotFoundAction": "Deny"},
            "validationActions": ["Deny"],
        },
    }
    registration.create_validating_admission_policy_binding(binding)
    core, apps = cluster.core, kubernetes.client.AppsV1Api(cluster.client())
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 4, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    deployment = {"metadata": {"name": "d"}, "spec": spec}
    try:
        with pytest.raises(ApiException) as caught:
            apps.create_namespaced_deployment("default", deployment)
        assert "no params found" in message(caught.value)
        core.create_namespaced_config_map("default", {"metadata": {"name": "few"}, "data": {"most": "3"}})
        with pytest.raises(ApiException) as caught:
            apps.create_namespaced_deployment("default", deployment)
        assert caught.value.status == 422
        text = "ValidatingAdmissionPolicy 'few' with binding 'few' denied request: at most 3 replicas"
        assert text in message(caught.value)
        spec["replicas"] = 3
        apps.create_namespaced_deployment("default", deployment)
    finally:
        registration.delete_validating_admission_policy_binding("few")
        registration.delete_validating_admission_policy("few")
        apps.delete_namespaced_deployment("d", "default")
    broken = {**policy, "metadata": {"name": "broken"}}
    broken["spec"] = {**policy["spec"], "validations": [{"expression": "object.spec. <"}]}  # type: ignore[dict-item]
    with pytest.raises(ApiException) as caught:
        registration.create_validating_admission_policy(broken)
    assert caught.value.status == 422 and "compilation failed" in message(caught.value)


def test_quotas_and_limit_ranges(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    limits = [{"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}]
    core.create_namespaced_limit_range(namespace, {"metadata": {"name": "l"}, "spec": {"limits": limits}})
    hard = {"pods": "1", "requests.cpu": "150m", "count/configmaps": "3"}
    core.create_namespaced_resource_quota(namespace, {"metadata": {"name": "q"}, "spec": {"hard": hard}})

    def pod(name: str, **resources: Any) -> dict[str, Any]:
        container = {"name": "c", "image": "i", "resources": resources}
        return {"metadata": {"name": name}, "spec": {"containers": [container]}}

    with pytest.raises(ApiException) as caught:
        core.create_namespaced_pod(namespace, pod("big", limits={"cpu": "2"}))
    assert "maximum cpu usage per Container is 1, but limit is 2" in message(caught.value)
    made = core.create_namespaced_pod(namespace, pod("p"))
    assert made.spec.containers[0].resources.requests == {"cpu": "100m"}
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_pod(namespace, pod("second"))
    assert caught.value.status == 403 and "exceeded quota: q, requested: pods=1" in message(caught.value)
    core.delete_namespaced_pod("p", namespace)
    watch = kubernetes.watch.Watch()
    for event in watch.stream(core.list_namespaced_resource_quota, namespace, timeout_seconds=10):
        if (event["object"].status.used or {}).get("pods") == "0":
            break
    core.create_namespaced_pod(namespace, pod("third"))


def test_nobody_gives_away_more_than_they_have(cluster: PrivateCluster) -> None:
    admin = kubernetes.client.RbacAuthorizationV1Api(cluster.client())
    rules = [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create"]}]
    admin.create_namespaced_role("default", {"metadata": {"name": "role-maker"}, "rules": rules})
    reference = {"kind": "Role", "name": "role-maker", "apiGroup": "rbac.authorization.k8s.io"}
    subjects = [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}]
    admin.create_namespaced_role_binding(
        "default", {"metadata": {"name": "maker"}, "roleRef": reference, "subjects": subjects}
    )
    mallory = kubernetes.client.RbacAuthorizationV1Api(cluster.client(Impersonate_User="mallory"))
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    with pytest.raises(ApiException) as caught:
        mallory.create_namespaced_role("default", {"metadata": {"name": "mine"}, "rules": everything})
    assert caught.value.status == 403
    assert "is attempting to grant RBAC permissions not currently held" in message(caught.value)
    reference = {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"}
    with pytest.raises(ApiException) as caught:
        mallory.create_namespaced_role_binding(
            "default", {"metadata": {"name": "mine"}, "roleRef": reference, "subjects": subjects}
        )
    assert caught.value.status == 403


def test_services_get_addresses_and_ports_of_their_own(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    ports = [{"port": 80}]
    made = [
        core.create_namespaced_service(
            namespace, {"metadata": {"name": f"s{n}"}, "spec": {"type": "NodePort", "ports": ports}}
        ).spec
        for n in range(5)
    ]
    assert len({each.cluster_ip for each in made}) == len({each.ports[0].node_port for each in made}) == 5
    assert all(each.cluster_ip.startswith("10.43.") and 30000 <= each.ports[0].node_port < 32768 for each in made)
    taken = {"clusterIP": made[0].cluster_ip, "ports": ports}
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_service(namespace, {"metadata": {"name": "t"}, "spec": taken})
    assert caught.value.status == 422 and "provided IP is already allocated" in message(caught.value)
    core.delete_namespaced_service("s0", namespace)
    core.create_namespaced_service(namespace, {"metadata": {"name": "t"}, "spec": taken})
    headless = core.create_namespaced_service(
        namespace, {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": ports}}
    )
    assert headless.spec.cluster_ip == "None"


def test_pod_security_by_the_namespaces_labels(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    prefix = "pod-security.kubernetes.io/"
    labels = {f"{prefix}enforce": "baseline", f"{prefix}warn": "restricted"}
    core.patch_namespace(namespace, {"metadata": {"labels": labels}})
    container: dict[str, Any] = {"name": "c", "image": "i", "securityContext": {"privileged": True}}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "hostNetwork": True}}
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_pod(namespace, pod)
    assert caught.value.status == 403
    assert 'violates PodSecurity "baseline:latest": privileged (container "c" must not set' in message(caught.value)
    assert "host namespaces (hostNetwork=true)" in message(caught.value)
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    _, _, headers = core.create_namespaced_pod_with_http_info(namespace, pod)
    assert 'would violate PodSecurity \\"restricted:latest\\"' in headers["Warning"]
    assert "runAsNonRoot != true" in headers["Warning"]
    core.patch_namespace(namespace, {"metadata": {"labels": {f"{prefix}enforce": "restricted"}}})
    strict = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = {"containers": [{"name": "c", "image": "i", "securityContext": strict}]}
    core.create_namespaced_pod(namespace, {"metadata": {"name": "q"}, "spec": spec})
    with pytest.raises(ApiException) as caught:
        core.create_namespace({"metadata": {"name": "odd", "labels": {f"{prefix}enforce": "strictest"}}})
    assert caught.value.status == 422


def test_a_kubelet_reads_what_its_pods_need_and_nothing_else(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    for name in ("needed", "other"):
        core.create_namespaced_secret(namespace, {"metadata": {"name": name}})
    volume = {"name": "v", "secret": {"secretName": "needed"}}
    pod = {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}], "volumes": [volume]},
    }
    core.create_namespaced_pod(namespace, pod)
    me = {"Impersonate-User": "system:node:n1", "Impersonate-Group": "system:nodes"}
    other = {"Impersonate-User": "system:node:n2", "Impersonate-Group": "system:nodes"}
    secrets = f"/api/v1/namespaces/{namespace}/secrets"

    def status(path: str, who: dict[str, str], method: str = "GET", body: bytes = b"") -> int:
        headers = {**who, "Content-Type": "application/json"}
        return cluster.request(method, path, body, **headers)[0]

    assert status(f"{secrets}/needed", me) == 200
    assert status(f"{secrets}/needed", other) == status(f"{secrets}/other", me) == status(secrets, me) == 403
    pods = f"/api/v1/namespaces/{namespace}/pods"
    assert status(f"{pods}/p", me) == status("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", me) == 200
    assert status(f"{pods}/p", other) == status("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", other) == 403
    assert status("/api/v1/pods", me) == status("/api/v1/nodes", me) == status("/api/v1/nodes/n2", me) == 403
    node = b'{"apiVersion":"v1","kind":"Node","metadata":{"name":"n2"}}'
    assert status("/api/v1/nodes", me, "POST", node) == 403
    assert status("/api/v1/nodes", other, "POST", node) == 201
    core.delete_node("n2")
    core.delete_namespaced_pod("p", namespace, grace_period_seconds=0)
