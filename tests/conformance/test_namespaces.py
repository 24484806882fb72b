"""The life of a namespace and what is counted in it."""

from __future__ import annotations

from typing import Any

import pytest

from support.kubeapi import Api, Refused


@pytest.mark.conformance("[sig-api-machinery] Namespaces [Serial] should patch a Namespace [Conformance]")
def test_patch(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}"
    api.patch(path, {"metadata": {"labels": {"a": "b"}}}, "strategic-merge-patch+json")
    labels = api.get(path)["metadata"]["labels"]
    assert labels == {"a": "b", "kubernetes.io/metadata.name": api.namespace}


@pytest.mark.conformance("[sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace [Conformance]")
def test_update(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}"
    api.change(path, lambda found: found["metadata"]["labels"].update(updated="yes"))
    assert api.get(path)["metadata"]["labels"]["updated"] == "yes"


@pytest.mark.conformance(
    "[sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status [Conformance]"
)
def test_status(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/status"
    condition = {"type": "StatusPatch", "status": "True", "reason": "Scenario", "message": "patched"}
    patched = api.patch(path, {"metadata": {"annotations": {"a": "b"}}, "status": {"conditions": [condition]}})
    assert condition.items() <= patched["status"]["conditions"][0].items()
    updated = api.change(path, lambda found: found["status"]["conditions"][0].update(type="StatusUpdate"))
    assert updated["status"]["conditions"][0]["type"] == "StatusUpdate"


@pytest.mark.conformance(
    "[sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace [Conformance]"
)
def test_finalizer(admin: Api) -> None:
    path = f"/api/v1/namespaces/{admin.make_namespace('final-')}"
    with_one = admin.change(path, lambda found: found["spec"]["finalizers"].append("example.com/x"), f"{path}/finalize")
    assert with_one["spec"]["finalizers"] == ["kubernetes", "example.com/x"]
    admin.delete(path)
    ending = admin.eventually(lambda: (found := admin.get(path))["spec"]["finalizers"] == ["example.com/x"] and found)
    assert ending["status"]["phase"] == "Terminating"
    admin.change(path, lambda found: found["spec"]["finalizers"].remove("example.com/x"), f"{path}/finalize")
    assert admin.eventually(lambda: admin.gone(path))


@pytest.mark.conformance(
    "[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted "
    "[Conformance]",
    "[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted "
    "[Conformance]",
)
def test_all_in_it_goes(admin: Api) -> None:
    name = admin.make_namespace("gone-")
    path = f"/api/v1/namespaces/{name}"
    admin.post(f"{path}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    admin.post(f"{path}/pods", pod)
    admin.delete(path)
    assert admin.eventually(lambda: admin.gone(path))
    assert admin.gone(f"{path}/services/s") and admin.gone(f"{path}/pods/p")
    again = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    admin.post("/api/v1/namespaces", again)
    assert admin.get(f"{path}/services")["items"] == [] == admin.get(f"{path}/pods")["items"]
    admin.delete(path)


@pytest.mark.conformance(
    "[sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first [Conformance]"
)
def test_pods_go_first(admin: Api) -> None:
    name = admin.make_namespace("order-")
    path = f"/api/v1/namespaces/{name}"
    meta = {"name": "x", "finalizers": ["example.com/hold"]}
    admin.post(f"{path}/pods", {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "x"}]}})
    admin.post(f"{path}/configmaps", {"metadata": {"name": "m"}})
    admin.delete(path)
    admin.eventually(lambda: admin.get(f"{path}/pods/x")["metadata"].get("deletionTimestamp"))
    told = admin.eventually(lambda: admin.get(path)["status"].get("conditions"))
    assert "NamespaceContentRemaining" in {each["type"] for each in told}
    assert "deletionTimestamp" not in admin.get(f"{path}/configmaps/m")["metadata"]
    admin.patch(f"{path}/pods/x", {"metadata": {"finalizers": None}})
    assert admin.eventually(lambda: admin.gone(path))


COUNTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "configMap": ("configmaps", "/api/v1", {"data": {"a": "b"}}),
    "secret": ("secrets", "/api/v1", {"stringData": {"a": "b"}}),
    "service": ("services", "/api/v1", {"spec": {"ports": [{"port": 80}]}}),
    "replication controller": (
        "replicationcontrollers",
        "/api/v1",
        {
            "spec": {
                "replicas": 0,
                "selector": {"a": "b"},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "x"}]},
                },
            }
        },
    ),
    "pod": (
        "pods",
        "/api/v1",
        {"spec": {"containers": [{"name": "c", "image": "x"}], "terminationGracePeriodSeconds": 0}},
    ),
}


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(
            each,
            marks=pytest.mark.conformance(
                f"[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a {each}. "
                "[Conformance]",
                "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly "
                "calculated. [Conformance]",
            ),
        )
        for each in COUNTED
    ],
)
def test_quota(api: Api, what: str) -> None:
    plural, base, body = COUNTED[what]
    place = f"{base}/namespaces/{api.namespace}"
    before = len(api.get(f"{place}/{plural}")["items"])
    hard = {plural: str(before + 1)}
    quota = f"{place}/resourcequotas"
    api.post(quota, {"metadata": {"name": "q"}, "spec": {"hard": hard}})

    def used(count: int) -> bool:
        status = api.get(f"{quota}/q").get("status", {})
        return bool(status.get("hard") == hard and status.get("used") == {plural: str(count)})

    assert api.eventually(lambda: used(before))
    api.post(f"{place}/{plural}", {"metadata": {"name": "one"}, **body})
    assert api.eventually(lambda: used(before + 1))
    with pytest.raises(Refused) as caught:
        api.post(f"{place}/{plural}", {"metadata": {"name": "two"}, **body})
    assert caught.value.code == 403
    assert f"exceeded quota: q, requested: {plural}=1, used: {plural}={before + 1}" in caught.value.message
    api.delete(f"{place}/{plural}/one")
    assert api.eventually(lambda: used(before))


@pytest.mark.conformance(
    "[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope. [Conformance]",
    "[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes. [Conformance]",
)
def test_quota_scopes(api: Api) -> None:
    place = f"/api/v1/namespaces/{api.namespace}"
    for scope in ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating"):
        spec = {"hard": {"pods": "5"}, "scopes": [scope]}
        api.post(f"{place}/resourcequotas", {"metadata": {"name": scope.lower()}, "spec": spec})
    container = {"name": "c", "image": "x"}
    api.post(f"{place}/pods", {"metadata": {"name": "p"}, "spec": {"containers": [container]}})

    def used() -> dict[str, str]:
        found = api.get(f"{place}/resourcequotas")["items"]
        return {each["metadata"]["name"]: each.get("status", {}).get("used", {}).get("pods", "") for each in found}

    expected = {"besteffort": "1", "notbesteffort": "0", "terminating": "0", "notterminating": "1"}
    assert api.eventually(lambda: used() == expected)
    limits = {"limits": {"cpu": "1", "memory": "1Mi"}}
    spec = {"containers": [container | {"resources": limits}], "activeDeadlineSeconds": 3600}
    api.post(f"{place}/pods", {"metadata": {"name": "q"}, "spec": spec})
    expected |= {"notbesteffort": "1", "terminating": "1"}
    assert api.eventually(lambda: used() == expected)


@pytest.mark.conformance(
    "[sig-api-machinery] ResourceQuota should apply changes to a resourcequota status [Conformance]"
)
def test_quota_status(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/resourcequotas/q"
    api.post(path.removesuffix("/q"), {"metadata": {"name": "q"}, "spec": {"hard": {"cpu": "500m", "memory": "500Mi"}}})
    assert api.eventually(lambda: api.get(path).get("status", {}).get("hard") == {"cpu": "500m", "memory": "500Mi"})
    changed = api.change(f"{path}/status", lambda found: found["status"]["hard"].update(cpu="600m"))
    assert changed["status"]["hard"]["cpu"] == "600m" and changed["spec"]["hard"]["cpu"] == "500m"
    assert api.eventually(lambda: api.get(path)["status"]["hard"]["cpu"] == "500m")


@pytest.mark.conformance(
    "[sig-api-machinery] Garbage collector should not be blocked by dependency circle [Conformance]"
)
def test_owners_in_a_circle(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/pods"
    uids = {}
    for name in ("a", "b", "c"):
        body = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
        uids[name] = api.post(path, body)["metadata"]["uid"]
    for name, owner in (("a", "c"), ("b", "a"), ("c", "b")):
        reference = {"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": uids[owner], "controller": True,
                     "blockOwnerDeletion": True}  # fmt: skip
        api.patch(f"{path}/{name}", {"metadata": {"ownerReferences": [reference]}})
    api.delete(f"{path}/a", {"propagationPolicy": "Foreground"})
    assert api.eventually(lambda: not api.get(path)["items"])
