"""Who is believed and who decides, with real issuers and webhooks beside the server: OIDC, webhooks, ABAC, files."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from support import certificates
from support.cluster import PrivateCluster
from support.kubeapi import Api
from windlass.kube.api.authentication import jwt

CLAIMS = {"sub": "jane", "aud": "windlass", "groups": ["dev", "ops"], "email": "jane@example.com", "team": "blue"}


class Service:
    """An HTTPS server whose answers a test chooses: path → what is answered to a body."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.asked: list[Any] = []
        self.headers: list[dict[str, str]] = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(None)

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, body: Any) -> None:
                service.asked.append(body)
                service.headers.append(dict(self.headers))
                found = json.dumps(service.answers[self.path](body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, *_: Any) -> None:
                pass

        certificates.make(folder)
        self.folder = folder
        self.authority = (folder / "ca.pem").read_text()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server-cert.pem", folder / "server-key.pem")
        context.load_verify_locations(folder / "ca.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def kubeconfig(self, path: Path, place: str) -> Path:
        """A kubeconfig that names a path of this server, with a certificate and a token."""
        data = base64.b64encode(self.authority.encode()).decode()
        user = {"token": "of-the-server", "client-certificate": "cert.pem", "client-key": "key.pem"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "x", "cluster": {"server": self.url + place, "certificate-authority-data": data}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "x", "user": "u"}}],
            "current-context": "c",
        }
        path.write_text(json.dumps(document))
        return path

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(tmp_path)
    yield found
    found.close()


@contextmanager
def running(root: Path, *flags: str) -> Iterator[tuple[PrivateCluster, Api]]:
    """A server with flags, and the administrator's API."""
    cluster = PrivateCluster(root / "cluster", *flags)
    cluster.root.mkdir()
    try:
        cluster.start()
        with Api(cluster) as api:
            yield cluster, api
    finally:
        if cluster.process and cluster.process.poll() is None:
            cluster.stop()


def as_bearer(cluster: PrivateCluster, token: str, path: str, method: str = "GET") -> tuple[int, Any]:
    """One request with a token."""
    with urllib3.PoolManager(ca_certs=str(cluster.root / "data" / "tls" / "ca.crt")) as pool:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = pool.request(method, f"https://127.0.0.1:{cluster.port}{path}", headers=headers)
        return answer.status, answer.json() if answer.data[:1] == b"{" else answer.data.decode()


WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def who(cluster: PrivateCluster, token: str) -> Any:
    """The user that a token stands for, or the status code of a refusal."""
    with urllib3.PoolManager(ca_certs=str(cluster.root / "data" / "tls" / "ca.crt")) as pool:
        answer = pool.request(
            "POST", f"https://127.0.0.1:{cluster.port}{WHO}", body=b"{}",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )  # fmt: skip
        return answer.json()["status"]["userInfo"] if answer.status == 201 else answer.status


class Issuer:
    """An OpenID Connect issuer on a service."""

    def __init__(self, service: Service) -> None:
        self.url = service.url
        self.keys: list[jwt.PrivateKey] = [ec.generate_private_key(ec.SECP256R1())]
        service.answers["/.well-known/openid-configuration"] = lambda _: {
            "issuer": self.url, "jwks_uri": f"{self.url}/keys"
        }  # fmt: skip
        service.answers["/keys"] = lambda _: {
            "keys": [jwt.VerifyingKey.of(each.public_key()).to_json() for each in self.keys]
        }

    def token(self, key: jwt.PrivateKey | None = None, **claims: Any) -> str:
        """A token with the usual claims and others."""
        now = int(time.time())
        return jwt.sign({"iss": self.url, "exp": now + 600, "iat": now, **CLAIMS, **claims}, key or self.keys[-1])


def authentication(issuer: Issuer, authority: str, **more: Any) -> dict[str, Any]:
    """An AuthenticationConfiguration of one issuer."""
    mappings = {"username": {"claim": "sub", "prefix": "oidc:"}, "groups": {"claim": "groups", "prefix": ""}}
    first = {
        "issuer": {"url": issuer.url, "certificateAuthority": authority, "audiences": ["windlass"]},
        "claimMappings": mappings,
        **more,
    }
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [first]}


def test_tokens_of_an_issuer(tmp_path: Path, service: Service) -> None:
    """Claims become a user; keys rotate; what is forged, foreign or out of time is refused; the file may change."""
    issuer = Issuer(service)
    file = tmp_path / "authentication.json"
    extra = [{"key": "example.com/team", "valueExpression": "claims.team"}]
    document = authentication(issuer, service.authority)
    document["jwt"][0]["claimMappings"]["extra"] = extra
    document["jwt"][0]["claimValidationRules"] = [
        {"expression": "claims.exp - claims.iat <= 86400", "message": "too long"}
    ]
    document["jwt"][0]["userValidationRules"] = [{"expression": "!user.username.startsWith('system:')"}]
    document["anonymous"] = {"enabled": True, "conditions": [{"path": "/healthz"}]}
    file.write_text(json.dumps(document))
    with running(tmp_path, f"--authentication-config={file}") as (cluster, api):
        assert who(cluster, issuer.token()) == {
            "username": "oidc:jane",
            "groups": ["dev", "ops", "system:authenticated"],
            "extra": {"example.com/team": ["blue"]},
        }
        issuer.keys.append(rsa.generate_private_key(65537, 2048))
        assert api.eventually(lambda: who(cluster, issuer.token(sub="joe")) != 401)
        stranger = ec.generate_private_key(ec.SECP256R1())
        now = int(time.time())
        for wrong in (
            issuer.token(stranger),
            issuer.token(aud="somebody"),
            issuer.token(exp=now - 1),
            issuer.token(exp="never"),
            issuer.token(nbf=now + 3600),
            issuer.token(exp=now + 10 * 86400),
            issuer.token(sub=None),
            issuer.token(groups=[1]),
            issuer.token(team={}),
            issuer.token() + "x",
        ):
            assert who(cluster, wrong) == 401
        assert as_bearer(cluster, "", "/healthz")[0] == 200
        assert as_bearer(cluster, "", "/version")[0] == 401
        review = api.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": issuer.token(aud="no")}})
        assert "expected audience" in review["status"]["error"]

        binding = {
            "metadata": {"name": "dev"},
            "subjects": [{"kind": "Group", "name": "dev", "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        }
        assert as_bearer(cluster, issuer.token(), "/api/v1/namespaces/default/pods")[0] == 403
        api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        assert as_bearer(cluster, issuer.token(), "/api/v1/namespaces/default/pods")[0] == 200

        document["jwt"][0]["claimMappings"]["username"]["prefix"] = "new:"
        file.write_text(json.dumps(document))
        api.eventually(lambda: who(cluster, issuer.token())["username"] == "new:jane")
        file.write_text("{")
        api.eventually(lambda: "is not used" in cluster.log.read_text())
        assert who(cluster, issuer.token())["username"] == "new:jane"


def test_flags_of_one_issuer(tmp_path: Path, service: Service) -> None:
    issuer = Issuer(service)
    issuer.keys = [rsa.generate_private_key(65537, 2048)]
    (tmp_path / "ca.pem").write_text(service.authority)
    flags = ["--oidc-client-id=windlass", "--oidc-groups-claim=groups", "--oidc-groups-prefix=g:"]
    flags += [
        f"--oidc-issuer-url={issuer.url}",
        f"--oidc-ca-file={tmp_path / 'ca.pem'}",
        "--oidc-required-claim=team=blue",
    ]
    with running(tmp_path, *flags) as (cluster, _):
        found = who(cluster, issuer.token())
        assert found["username"] == f"{issuer.url}#jane"
        assert found["groups"] == ["g:dev", "g:ops", "system:authenticated"]
        assert who(cluster, issuer.token(team="red")) == 401
        assert who(cluster, issuer.token(ec.generate_private_key(ec.SECP256R1()))) == 401


def test_another_service_knows_tokens(tmp_path: Path, service: Service) -> None:
    def review(body: Any) -> Any:
        token = body["spec"]["token"]
        status: dict[str, Any] = {"authenticated": False}
        if token == "good":
            user = {"username": "hook", "uid": "7", "groups": ["g"], "extra": {"a": ["b"]}}
            status = {"authenticated": True, "user": user, "audiences": body["spec"]["audiences"]}
        elif token == "bad":
            status["error"] = "it is revoked"
        return {"apiVersion": body["apiVersion"], "kind": "TokenReview", "status": status}

    service.answers["/token"] = review
    file = service.kubeconfig(tmp_path / "tokens.kubeconfig", "/token")
    flags = (f"--authentication-token-webhook-config-file={file}", "--authentication-token-webhook-version=v1")
    with running(tmp_path, *flags) as (cluster, api):
        assert who(cluster, "good") == {
            "username": "hook", "uid": "7", "groups": ["g", "system:authenticated"], "extra": {"a": ["b"]}
        }  # fmt: skip
        asked = len(service.asked)
        assert who(cluster, "good")["username"] == "hook" and len(service.asked) == asked
        assert service.asked[0]["apiVersion"] == "authentication.k8s.io/v1"
        assert service.headers[0]["Authorization"] == "Bearer of-the-server"
        assert who(cluster, "bad") == 401 == who(cluster, "other")
        reviews = "/apis/authentication.k8s.io/v1/tokenreviews"
        assert api.post(reviews, {"spec": {"token": "bad"}})["status"]["error"] == "it is revoked"
        found = api.post(reviews, {"spec": {"token": "good", "audiences": ["mine"]}})["status"]
        assert found["authenticated"] and found["audiences"] == ["mine"]


def test_another_service_decides(tmp_path: Path, service: Service) -> None:
    """In the configured order, where the conditions hold, remembered for a while; and closed where that was asked."""

    def decide(body: Any) -> Any:
        spec = body["spec"]
        resource = spec.get("resourceAttributes", {}).get("resource", "")
        status: dict[str, Any] = {"allowed": resource == "configmaps"}
        if resource == "secrets":
            status = {"allowed": False, "denied": True, "reason": "secrets are secret"}
        return {"apiVersion": body["apiVersion"], "kind": "SubjectAccessReview", "status": status}

    service.answers["/decide"] = decide
    file = service.kubeconfig(tmp_path / "decide.kubeconfig", "/decide")
    (tmp_path / "tokens.csv").write_text("t,jane,1\nu,root,2\n")
    webhook = {
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(file)},
        "matchConditions": [{"expression": "request.user != 'root'"}],
    }
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": [
            {"type": "Webhook", "name": "policy", "webhook": webhook},
            {"type": "RBAC", "name": "rbac"},
        ],
    }
    configuration = tmp_path / "authorization.json"
    configuration.write_text(json.dumps(document))
    flags = (f"--authorization-config={configuration}", f"--token-auth-file={tmp_path / 'tokens.csv'}")
    with running(tmp_path, *flags) as (cluster, api):
        maps, hidden = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/secrets"
        asked = len(service.asked)
        assert as_bearer(cluster, "t", f"{maps}?labelSelector=a%3Db")[0] == 200
        spec = service.asked[-1]["spec"]
        assert spec["user"] == "jane" and spec["resourceAttributes"]["verb"] == "list"
        assert spec["resourceAttributes"]["labelSelector"]["requirements"] == [
            {"key": "a", "operator": "In", "values": ["b"]}
        ]
        count = len(service.asked)
        assert count > asked
        assert as_bearer(cluster, "t", f"{maps}?labelSelector=a%3Db")[0] == 200 and len(service.asked) == count
        code, status = as_bearer(cluster, "t", hidden)
        assert code == 403 and "secrets are secret" in status["message"]
        count = len(service.asked)
        assert as_bearer(cluster, "u", maps)[0] == 403 and len(service.asked) == count
        rules = api.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": "default"}})
        assert rules["status"]["incomplete"] is True

        del service.answers["/decide"]
        assert as_bearer(cluster, "t", "/api/v1/namespaces/default/pods")[0] == 403
        document["authorizers"] = [{"type": "AlwaysAllow", "name": "all"}]
        configuration.write_text(json.dumps(document))
        assert api.eventually(lambda: as_bearer(cluster, "t", hidden)[0] == 200)


def test_policies_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "tokens.csv").write_text("a,alice,1\nb,bob,2,staff\n")
    spec = [
        {"user": "alice", "namespace": "default", "resource": "pods", "apiGroup": "", "readonly": True},
        {"group": "staff", "namespace": "*", "resource": "*", "apiGroup": "*"},
        {"group": "system:authenticated", "nonResourcePath": "/version", "readonly": True},
    ]
    head = {"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy"}
    lines = ["# who may do what", *(json.dumps({**head, "spec": each}) for each in spec)]
    (tmp_path / "policy.jsonl").write_text("\n".join(lines) + "\n")
    flags = (
        "--authorization-mode=ABAC,RBAC", f"--authorization-policy-file={tmp_path / 'policy.jsonl'}",
        f"--token-auth-file={tmp_path / 'tokens.csv'}",
    )  # fmt: skip
    with running(tmp_path, *flags) as (cluster, _):
        pods = "/api/v1/namespaces/default/pods"
        assert as_bearer(cluster, "a", pods)[0] == 200
        assert as_bearer(cluster, "a", f"{pods}/x", "DELETE")[0] == 403
        assert as_bearer(cluster, "a", "/api/v1/namespaces/kube-system/pods")[0] == 403
        assert as_bearer(cluster, "a", "/api/v1/namespaces/default/secrets")[0] == 403
        assert as_bearer(cluster, "b", f"{pods}/x", "DELETE")[0] == 404
        assert as_bearer(cluster, "a", "/version")[0] == 200
        assert as_bearer(cluster, "b", "/metrics")[0] == 403
