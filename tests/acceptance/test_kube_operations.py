"""What an operator sees and sets: metrics, the audit log, encryption at rest, tokens, plugins, a store in etcd."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import urllib3
from kubernetes.client import ApiException

from support.cluster import PrivateCluster
from support.etcd import etcd, start_servers

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  resources: [{group: "", resources: [configmaps]}]
- level: Metadata
  resources: [{group: "", resources: [secrets]}]
- level: None
"""


def encryption(**keys: str) -> str:
    named = [{"name": name, "secret": secret} for name, secret in keys.items()]
    providers: list[dict[str, Any]] = [{"aesgcm": {"keys": [each]}} for each in named]
    return json.dumps(
        {
            "kind": "EncryptionConfiguration",
            "apiVersion": "apiserver.config.k8s.io/v1",
            "resources": [{"resources": ["secrets"], "providers": [*providers, {"identity": {}}]}],
        }
    )


@pytest.fixture
def root() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="wlk-"))
    yield root
    shutil.rmtree(root)


@pytest.fixture
def made(root: Path) -> Iterator[list[PrivateCluster]]:
    clusters: list[PrivateCluster] = []
    yield clusters
    for cluster in clusters:
        cluster.stop()


def test_metrics_under_upstreams_names(cluster: PrivateCluster) -> None:
    cluster.core.list_namespace()
    status, text = cluster.request("GET", "/metrics")
    assert status == 200
    assert 'apiserver_storage_objects{resource="namespaces"}' in text
    line = next(
        each for each in text.splitlines() if each.startswith("apiserver_request_total{") and "namespaces" in each
    )
    assert 'verb="LIST"' in line and 'code="200"' in line
    assert "apiserver_request_duration_seconds_bucket{" in text
    assert "process_resident_memory_bytes" in text


def test_health_by_name(cluster: PrivateCluster) -> None:
    assert cluster.request("GET", "/livez") == (200, "ok")
    assert cluster.request("GET", "/readyz/ping") == (200, "ok")
    status, text = cluster.request("GET", "/readyz?verbose&exclude=etcd")
    assert status == 200 and "[+]etcd excluded: ok" in text and text.endswith("readyz check passed\n")
    assert cluster.request("GET", "/readyz/nothing")[0] == 404


def test_the_audit_log_follows_its_policy(root: Path, made: list[PrivateCluster]) -> None:
    (root / "policy.yaml").write_text(POLICY)
    log = root / "audit" / "audit.log"
    cluster = PrivateCluster(root, f"--audit-policy-file={root / 'policy.yaml'}", f"--audit-log-path={log}")
    made.append(cluster)
    cluster.start()
    core = cluster.core
    core.create_namespaced_config_map("default", {"metadata": {"name": "c"}, "data": {"a": "b"}})
    core.create_namespaced_secret("default", {"metadata": {"name": "s"}, "stringData": {"a": "hidden"}})
    core.list_namespace()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    config, secret = (
        next(each for each in events if each["objectRef"]["resource"] == name) for name in ("configmaps", "secrets")
    )
    assert config["stage"] == "ResponseComplete" and config["responseStatus"]["code"] == 201
    assert config["requestObject"]["data"] == {"a": "b"} and config["responseObject"]["metadata"]["uid"]
    assert config["user"]["username"] == "system:admin" and config["verb"] == "create"
    assert "requestObject" not in secret and "hidden" not in log.read_text()
    assert not any(each["objectRef"]["resource"] == "namespaces" for each in events)
    assert os.stat(log).st_mode & 0o777 == 0o600


def test_secrets_are_sealed_at_rest_and_keys_rotate(root: Path, made: list[PrivateCluster]) -> None:
    first, second = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    config = root / "encryption.json"
    config.write_text(encryption(old=first))
    cluster = PrivateCluster(root, f"--encryption-provider-config={config}")
    made.append(cluster)
    cluster.start()
    cluster.core.create_namespaced_secret("default", {"metadata": {"name": "s"}, "stringData": {"a": "plain-text"}})
    cluster.core.create_namespaced_config_map("default", {"metadata": {"name": "c"}, "data": {"a": "seen-by-all"}})
    cluster.stop()
    stored = b"".join(path.read_bytes() for path in (root / "data" / "db").iterdir())
    assert base64.b64encode(b"plain-text") not in stored and b"seen-by-all" in stored
    config.write_text(encryption(new=second, old=first))
    cluster.start()
    read = cluster.core.read_namespaced_secret("s", "default")
    assert base64.b64decode(read.data["a"]) == b"plain-text"
    cluster.stop()
    config.write_text(encryption(new=second))
    with pytest.raises(AssertionError, match="no configured key opens"):
        cluster.start()


def test_tokens_and_who_is_nobody(root: Path, made: list[PrivateCluster]) -> None:
    tokens = root / "tokens.csv"
    tokens.write_text('sesame,alice,1,"system:masters,other"\n')
    tokens.chmod(0o600)
    cluster = PrivateCluster(root, f"--token-auth-file={tokens}")
    made.append(cluster)
    cluster.start()
    pool = urllib3.PoolManager(ca_certs=str(root / "data" / "tls" / "ca.crt"))

    def whoami(**headers: str) -> tuple[int, Any]:
        url = f"https://127.0.0.1:{cluster.port}/apis/authentication.k8s.io/v1/selfsubjectreviews"
        answer = pool.request("POST", url, body=b"{}", headers={"Content-Type": "application/json", **headers})
        return answer.status, json.loads(answer.data)

    status, review = whoami(Authorization="Bearer sesame")
    assert status == 201 and review["status"]["userInfo"]["username"] == "alice"
    assert whoami(Authorization="Bearer wrong")[0] == 401
    status, refusal = whoami()
    assert status == 403 and "system:anonymous" in refusal["message"]
    pool.clear()


def test_flags_that_cannot_be_are_refused(root: Path) -> None:
    cluster = PrivateCluster(root, "--enable-admission-plugins=Nonsense")
    with pytest.raises(AssertionError, match='unknown admission plugin "Nonsense"'):
        cluster.start()
    other = PrivateCluster(root, "--datastore-endpoint=postgres://x")
    with pytest.raises(AssertionError, match="a datastore is sqlite"):
        other.start()


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
def test_two_servers_over_one_etcd(root: Path, made: list[PrivateCluster]) -> None:
    with etcd(root) as url:
        try:
            start_servers(root, made, url, "one", "two")
            _share(*made)
        finally:
            for cluster in made:
                cluster.stop()


def _share(one: PrivateCluster, two: PrivateCluster) -> None:
    body = {"metadata": {"name": "shared"}, "data": {"n": "1"}}
    first = one.core.create_namespaced_config_map("default", body)
    read = two.core.read_namespaced_config_map("shared", "default")
    assert read.metadata.resource_version == first.metadata.resource_version
    two.core.patch_namespaced_config_map("shared", "default", {"data": {"n": "2"}})
    first.data = {"n": "3"}
    with pytest.raises(ApiException) as caught:
        one.core.replace_namespaced_config_map("shared", "default", first)
    assert caught.value.status == 409
    watch = kubernetes.watch.Watch()
    seen = watch.stream(
        one.core.list_namespaced_config_map,
        "default",
        field_selector="metadata.name=shared",
        resource_version=first.metadata.resource_version,
        timeout_seconds=2,
    )
    assert [each["object"].data for each in seen] == [{"n": "2"}]
    one.kill()
    two.core.create_namespaced_config_map("default", {"metadata": {"name": "after"}})
    one.start()
    assert one.core.read_namespaced_config_map("after", "default").metadata.name == "after"
