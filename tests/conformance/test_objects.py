"""Typed objects: fields nobody knows, keys nobody may use, values that never change, generations, service classes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.kubeapi import Api, Refused

POD = {"containers": [{"name": "c", "image": "registry.example.com/x:1"}]}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d"},
    "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": POD},
    },
}


def refusal(api: Api, method: str, path: str, body: Any, **headers: str) -> Refused:
    """The answer no."""
    with pytest.raises(Refused) as caught:
        api.call(method, path, body, **headers)
    return caught.value


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object [Conformance]"
)
def test_unknown_and_duplicate_fields(api: Api) -> None:
    path = f"/apis/apps/v1/namespaces/{api.namespace}/deployments"
    text = json.dumps(DEPLOYMENT).replace(
        '"spec": {"selector"', '"spec": {"unknown": 1, "paused": true, "paused": false, "selector"'
    )
    refused = refusal(api, "POST", f"{path}?fieldValidation=Strict", text.encode())
    assert refused.code == 400
    assert 'unknown field "spec.unknown"' in refused.message and 'duplicate field "spec.paused"' in refused.message
    warned = api.raw("POST", f"{path}?fieldValidation=Warn&dryRun=All", text.encode())
    warnings = " ".join(warned.headers.getlist("Warning"))
    assert warned.status == 201 and "unknown field" in warnings and "duplicate field" in warnings
    ignored = api.raw("POST", f"{path}?fieldValidation=Ignore&dryRun=All", text.encode())
    assert ignored.status == 201 and "Warning" not in ignored.headers


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object [Conformance]"
)
def test_unknown_metadata(api: Api) -> None:
    body = {**DEPLOYMENT, "metadata": {"name": "d", "unknownMeta": "x"}}
    path = f"/apis/apps/v1/namespaces/{api.namespace}/deployments?fieldValidation=Strict"
    refused = refusal(api, "POST", path, body)
    assert refused.code == 400 and 'unknown field "metadata.unknownMeta"' in refused.message


@pytest.mark.parametrize(
    "plural",
    [
        pytest.param("configmaps", marks=pytest.mark.conformance(
            "[sig-node] ConfigMap should fail to create ConfigMap with empty key [Conformance]",
            "[sig-storage] ConfigMap should be immutable if `immutable` field is set [Conformance]")),
        pytest.param("secrets", marks=pytest.mark.conformance(
            "[sig-node] Secrets should fail to create secret due to empty secret key [Conformance]",
            "[sig-storage] Secrets should be immutable if `immutable` field is set [Conformance]")),
    ],
)  # fmt: skip
def test_keys_and_immutability(api: Api, plural: str) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/{plural}"
    refused = refusal(api, "POST", path, {"metadata": {"name": "x"}, "data": {"": "dmFsdWU="}})
    assert (refused.code, refused.reason) == (422, "Invalid")
    api.post(path, {"metadata": {"name": "x"}, "data": {"a": "YQ=="}})
    api.patch(f"{path}/x", {"data": {"a": "Yg=="}})
    api.patch(f"{path}/x", {"immutable": True})
    for change in ({"immutable": False}, {"immutable": None}, {"data": {"a": "YQ=="}}):
        assert refusal(api, "PATCH", f"{path}/x", change, Content_Type="application/merge-patch+json").code == 422
    assert api.patch(f"{path}/x", {"metadata": {"labels": {"a": "b"}}})["data"] == {"a": "Yg=="}
    api.delete(f"{path}/x")
    assert api.gone(f"{path}/x")


@pytest.mark.conformance(
    "[sig-node] Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for "
    "memory and cpu [Conformance]"
)
def test_quality_of_service(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/pods"
    amounts = {"cpu": "100m", "memory": "100Mi"}
    for name, resources, expected in (
        ("guaranteed", {"requests": amounts, "limits": amounts}, "Guaranteed"),
        ("limits", {"limits": amounts}, "Guaranteed"),
        ("burstable", {"requests": amounts}, "Burstable"),
        ("best", {}, "BestEffort"),
    ):
        container = {"name": "c", "image": "registry.example.com/x:1", "resources": resources}
        made = api.post(path, {"metadata": {"name": name}, "spec": {"containers": [container]}})
        assert made["status"]["qosClass"] == expected


@pytest.mark.conformance(
    "[sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass [NodeConformance] [Conformance]"
)
def test_pods_of_unknown_runtime_class(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/pods"
    refused = refusal(api, "POST", path, {"metadata": {"name": "x"}, "spec": {**POD, "runtimeClassName": "nobody"}})
    assert refused.code == 403 and '"nobody" not found' in refused.message


@pytest.mark.conformance(
    "[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. "
    "[Conformance]"
)
def test_limit_range(api: Api) -> None:
    limits = {
        "type": "Container",
        "min": {"cpu": "50m", "memory": "100Mi"},
        "max": {"cpu": "500m", "memory": "500Mi"},
        "default": {"cpu": "500m", "memory": "500Mi"},
        "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
    }
    api.post(
        f"/api/v1/namespaces/{api.namespace}/limitranges",
        {"metadata": {"name": "l"}, "spec": {"limits": [limits]}},
    )
    path = f"/api/v1/namespaces/{api.namespace}/pods"
    made = api.post(path, {"metadata": {"name": "bare"}, "spec": POD})["spec"]["containers"][0]["resources"]
    assert made == {"requests": limits["defaultRequest"], "limits": limits["default"]}
    partly = {**POD["containers"][0], "resources": {"requests": {"cpu": "300m"}}}
    made = api.post(path, {"metadata": {"name": "partly"}, "spec": {"containers": [partly]}})
    assert made["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "300m", "memory": "200Mi"},
        "limits": limits["default"],
    }
    for amount in ("10m", "600m"):
        container = {**partly, "resources": {"requests": {"cpu": amount}, "limits": {"cpu": amount}}}
        refused = refusal(api, "POST", path, {"metadata": {"name": "no"}, "spec": {"containers": [container]}})
        assert refused.code == 403 and "cpu usage per Container" in refused.message
