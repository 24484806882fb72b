"""The API's promises, asked for with Python's client: lists, watches, conflicts, dry runs, and life after SIGKILL."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes.client import ApiException

from support.cluster import PrivateCluster

MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"n": name}}, "data": data}


@pytest.fixture
def namespace(cluster: PrivateCluster) -> Iterator[str]:
    name = f"t{random.randrange(10**9)}"
    core = cluster.core
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


def test_lists_come_in_pages_of_one_moment(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    for number in range(7):
        core.create_namespaced_config_map(namespace, config_map(f"m{number}"))
    first = core.list_namespaced_config_map(namespace, limit=3)
    assert first.metadata.remaining_item_count == 5  # kube-root-ca.crt is one, too
    core.delete_namespaced_config_map("m6", namespace)
    names = [each.metadata.name for each in first.items]
    page = first
    while page.metadata._continue:
        page = core.list_namespaced_config_map(namespace, limit=3, _continue=page.metadata._continue)
        names += [each.metadata.name for each in page.items]
        assert page.metadata.resource_version == first.metadata.resource_version
    assert "m6" in names and len(names) == 8
    with pytest.raises(ApiException) as caught:
        core.list_namespaced_config_map(namespace, _continue="nonsense")
    assert caught.value.status == 400


def test_selectors(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    for name in ("a", "b", "c"):
        core.create_namespaced_config_map(namespace, config_map(name))

    def names(**selectors: str) -> list[str]:
        return [each.metadata.name for each in core.list_namespaced_config_map(namespace, **selectors).items]

    assert names(label_selector="n in (a,b)") == ["a", "b"]
    assert names(label_selector="n,n!=a") == ["b", "c"]
    assert names(field_selector="metadata.name=c") == ["c"]
    with pytest.raises(ApiException) as caught:
        names(field_selector="data.x=1")
    assert caught.value.status == 400 and "field label not supported: data.x" in caught.value.body


def test_a_watch_tells_everything_from_a_revision_on(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    begin = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, config_map("w", x="1"))
    core.patch_namespaced_config_map("w", namespace, {"data": {"x": "2"}})
    core.patch_namespaced_config_map("w", namespace, {"metadata": {"labels": {"n": "other"}}})
    core.delete_namespaced_config_map("w", namespace)
    watch = kubernetes.watch.Watch()
    events = watch.stream(
        core.list_namespaced_config_map, namespace, resource_version=begin, timeout_seconds=2, label_selector="n=w"
    )
    seen = [(each["type"], each["object"].data, each["object"].metadata.resource_version) for each in events]
    assert [each[:2] for each in seen] == [
        ("ADDED", {"x": "1"}),
        ("MODIFIED", {"x": "2"}),
        ("DELETED", {"x": "2"}),  # it left the selection
    ]
    assert [int(each[2]) for each in seen] == sorted(int(each[2]) for each in seen)


def test_initial_events_end_with_a_bookmark(cluster: PrivateCluster, namespace: str) -> None:
    cluster.core.create_namespaced_config_map(namespace, config_map("i"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    _, text = cluster.request("GET", f"/api/v1/namespaces/{namespace}/configmaps?{query}")
    events = [json.loads(line) for line in text.splitlines()]
    assert {each["object"]["metadata"].get("name") for each in events if each["type"] == "ADDED"} >= {"i"}
    mark = next(each for each in events if each["type"] == "BOOKMARK")
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_who_writes_an_old_object_is_told(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    made = core.create_namespaced_config_map(namespace, config_map("c", x="1"))
    core.patch_namespaced_config_map("c", namespace, {"data": {"x": "2"}})
    made.data = {"x": "3"}
    with pytest.raises(ApiException) as caught:
        core.replace_namespaced_config_map("c", namespace, made)
    error = json.loads(caught.value.body)
    assert (error["code"], error["reason"]) == (409, "Conflict")
    assert "the object has been modified" in error["message"]
    with pytest.raises(ApiException) as caught:
        core.delete_namespaced_config_map("c", namespace, body={"preconditions": {"uid": "another"}})
    assert caught.value.status == 409


def test_a_dry_run_says_what_would_be(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    would = core.create_namespaced_config_map(namespace, config_map("d"), dry_run="All")
    assert would.metadata.uid and not would.metadata.resource_version
    with pytest.raises(ApiException):
        core.read_namespaced_config_map("d", namespace)
    core.create_namespaced_config_map(namespace, config_map("d"))
    core.delete_namespaced_config_map("d", namespace, dry_run="All")
    assert core.read_namespaced_config_map("d", namespace).metadata.name == "d"


def test_finalizers_hold_what_is_deleted(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    body = config_map("f")
    body["metadata"]["finalizers"] = ["example.com/wait"]
    core.create_namespaced_config_map(namespace, body)
    core.delete_namespaced_config_map("f", namespace)
    held = core.read_namespaced_config_map("f", namespace)
    assert held.metadata.deletion_timestamp
    with pytest.raises(ApiException) as caught:
        core.patch_namespaced_config_map("f", namespace, {"metadata": {"finalizers": ["example.com/wait", "b.c/d"]}})
    assert caught.value.status == 422
    core.patch_namespaced_config_map("f", namespace, {"metadata": {"finalizers": None}})
    with pytest.raises(ApiException) as caught:
        core.read_namespaced_config_map("f", namespace)
    assert caught.value.status == 404


def test_generated_names_and_collections(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    names = {
        core.create_namespaced_config_map(
            namespace, {"metadata": {"generateName": "g-", "labels": {"g": "g"}}}
        ).metadata.name
        for _ in range(5)
    }
    assert len(names) == 5 and all(name.startswith("g-") and len(name) == 7 for name in names)
    core.delete_collection_namespaced_config_map(namespace, label_selector="g=g")
    assert core.list_namespaced_config_map(namespace, label_selector="g=g").items == []


def test_tables_and_metadata_alone(cluster: PrivateCluster, namespace: str) -> None:
    cluster.core.create_namespaced_config_map(namespace, config_map("t", x="1"))
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    accept = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json"
    table = json.loads(cluster.request("GET", path, Accept=accept)[1])
    assert table["kind"] == "Table" and [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert ["t", 1] in [row["cells"][:2] for row in table["rows"]]
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    partial = json.loads(cluster.request("GET", path, Accept=accept)[1])
    assert partial["kind"] == "PartialObjectMetadataList" and "data" not in partial["items"][0]
    status, error = cluster.request("GET", path, Accept="application/cbor")
    assert status == 406 and json.loads(error)["reason"] == "NotAcceptable"


def test_protobuf_goes_both_ways(cluster: PrivateCluster, namespace: str) -> None:
    from windlass.kube import protobuf

    client = cluster.client()
    path = f"/api/v1/namespaces/{namespace}/pods"
    kind = "application/vnd.kubernetes.protobuf"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "100m"}}}]},
    }
    answer = client.rest_client.pool_manager.request(
        "POST",
        client.configuration.host + path,
        body=protobuf.encode(pod),
        headers={"Content-Type": kind, "Accept": kind},
    )
    assert answer.status == 201 and answer.headers["Content-Type"] == kind
    made = protobuf.decode(answer.data)
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "100m"}
    assert made["status"]["phase"] == "Pending" and made["spec"]["terminationGracePeriodSeconds"] == 30
    listed = client.rest_client.pool_manager.request("GET", client.configuration.host + path, headers={"Accept": kind})
    assert [each["metadata"]["name"] for each in protobuf.decode(listed.data)["items"]] == ["p"]
    broken = client.rest_client.pool_manager.request(
        "POST", client.configuration.host + path, body=b"k8s\0\xff\xff", headers={"Content-Type": kind}
    )
    assert broken.status == 400


def test_a_service_account_is_somebody(cluster: PrivateCluster, namespace: str) -> None:
    core = cluster.core
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "worker"}})
    request = {"spec": {"expirationSeconds": 600}}
    token = core.create_namespaced_service_account_token("worker", namespace, request).status.token
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["sub"] == f"system:serviceaccount:{namespace}:worker"
    review = kubernetes.client.AuthenticationV1Api(cluster.client()).create_token_review({"spec": {"token": token}})
    assert review.status.authenticated and review.status.user.username == claims["sub"]
    status, _ = cluster.request("GET", MAPS, Authorization=f"Bearer {token}")
    assert status == 200  # the certificate speaks first: it is the administrator's


def test_malformed_bodies_change_nothing(cluster: PrivateCluster) -> None:
    def maps() -> dict[str, str]:
        """All but the one that the server itself comes to make."""
        found = ((each.metadata.name, each.metadata.resource_version) for each in listed("default").items)
        return {name: version for name, version in found if name != "kube-root-ca.crt"}

    listed = cluster.core.list_namespaced_config_map
    before = maps()
    client = cluster.client()
    pool, url = client.rest_client.pool_manager, client.configuration.host + MAPS
    deep = b'{"apiVersion":"v1","kind":"ConfigMap","data":' + b'{"a":' * 5000 + b"1" + b"}" * 5001
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % ((n + 1, n + 1) + (n,) * 9) for n in range(97, 110)
    )
    for body, kind, code in (
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"kind":"Pod","apiVersion":"v1"}', "application/json", 400),
        (b'{"metadata":{"name":1}}', "application/json", 400),
        (b'{"metadata":{"name":"x"},"data":{"a":{}}}', "application/json", 400),
        (deep, "application/json", 400),
        (bomb, "application/yaml", 400),
        (b"\xff\xfe", "application/yaml", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "application/cbor", 415),
        (b"x" * (3 * 1024 * 1024 + 1), "application/json", 413),
    ):
        answer = pool.request("POST", url, body=body, headers={"Content-Type": kind})
        assert answer.status == code, (body[:50], answer.data)
        assert json.loads(answer.data)["kind"] == "Status"
    assert maps() == before


def test_nothing_acknowledged_is_lost_by_kills(cluster: PrivateCluster) -> None:
    """Writers go on while the server is killed again and again; a watcher resumes without a gap."""
    stop = threading.Event()
    acknowledged: dict[str, tuple[int, int]] = {}
    revisions: list[int] = []
    lock = threading.Lock()

    def write(worker: int) -> None:
        core = cluster.core
        name, number = f"k{worker}", 0
        while not stop.is_set():
            body = config_map(name, n=str(number))
            try:
                if number and name in acknowledged:
                    made = core.replace_namespaced_config_map(name, "default", body, _request_timeout=5)
                else:
                    made = core.create_namespaced_config_map("default", body, _request_timeout=5)
            except ApiException as error:
                if error.status == 409:  # it was written, though we never heard of it
                    with lock:
                        acknowledged.setdefault(name, (-1, 0))
                number += 1
                continue
            except Exception:
                time.sleep(0.02)
                number += 1
                continue
            with lock:
                acknowledged[name] = (number, int(made.metadata.resource_version))
                revisions.append(int(made.metadata.resource_version))
            number += 1

    begin = cluster.core.list_namespaced_config_map("default").metadata.resource_version
    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        time.sleep(random.uniform(0.1, 0.4))
        cluster.kill()
        cluster.start()
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(revisions) == len(set(revisions)) > 20
    found = {each.metadata.name: each for each in cluster.core.list_namespaced_config_map("default").items}
    for name, (number, revision) in acknowledged.items():
        assert int(found[name].data["n"]) >= number
        assert int(found[name].metadata.resource_version) >= revision
    watch = kubernetes.watch.Watch()
    seen = {
        int(each["object"].metadata.resource_version)
        for each in watch.stream(
            cluster.core.list_namespaced_config_map, "default", resource_version=begin, timeout_seconds=2
        )
    }
    assert set(revisions) <= seen


OPERATOR = """
import kopf

@kopf.on.startup()
def configure(settings, **_):
    settings.posting.enabled = False

@kopf.on.create("stable.example.com", "v1", "crontabs")
def created(spec, name, namespace, patch, **_):
    patch.status["replicas"] = spec["replicas"]
    return {"message": f"hello {name}"}

@kopf.on.delete("stable.example.com", "v1", "crontabs")
def deleted(name, **_):
    print("deleted", name, flush=True)
"""


def test_an_operator_of_kopf_runs(cluster: PrivateCluster, tmp_path: Path) -> None:
    from test_kubectl import CRON_TAB

    definition = kubernetes.client.ApiextensionsV1Api(cluster.client())
    import yaml

    body = yaml.safe_load(CRON_TAB.replace("crontabs: ", "crontabs: "))
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"][
        "x-kubernetes-preserve-unknown-fields"
    ] = True
    definition.create_custom_resource_definition(body)
    (tmp_path / "operator.py").write_text(OPERATOR)
    log = tmp_path / "log"
    with log.open("w") as file:
        operator = subprocess.Popen(
            [sys.executable, "-m", "kopf", "run", "--standalone", "--namespace=default", str(tmp_path / "operator.py")],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={"KUBECONFIG": str(cluster.kubeconfig), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )
    try:
        custom = kubernetes.client.CustomObjectsApi(cluster.client())
        place = ("stable.example.com", "v1", "default", "crontabs")
        tab = {
            "apiVersion": "stable.example.com/v1",
            "kind": "CronTab",
            "metadata": {"name": "mine"},
            "spec": {"cronSpec": "* * * * *", "replicas": 3},
        }
        deadline = time.monotonic() + 30
        while True:
            try:
                custom.create_namespaced_custom_object(*place, tab)
                break
            except ApiException:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        while True:
            found = custom.get_namespaced_custom_object(*place, "mine")
            if found.get("status", {}).get("created"):
                break
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert found["status"]["created"] == {"message": "hello mine"} and found["status"]["replicas"] == 3
        assert found["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
        custom.delete_namespaced_custom_object(*place, "mine")
        while "deleted mine" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
    finally:
        operator.terminate()
        operator.wait(20)
        definition.delete_custom_resource_definition("crontabs.stable.example.com")
