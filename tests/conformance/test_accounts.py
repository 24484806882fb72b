"""Who one is and what one may: accounts, their tokens, reviews, certificate requests."""

from __future__ import annotations

import pytest

from support.kubeapi import Api

AUTHENTICATION, AUTHORIZATION = "/apis/authentication.k8s.io/v1", "/apis/authorization.k8s.io/v1"


@pytest.mark.conformance(
    "[sig-auth] ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview [Conformance]"
)
def test_token_and_review(api: Api) -> None:
    accounts = f"/api/v1/namespaces/{api.namespace}/serviceaccounts"
    account = api.post(accounts, {"metadata": {"name": "x"}})
    request = {"spec": {"expirationSeconds": 3600}}
    token = api.post(f"{accounts}/x/token", request)["status"]["token"]
    review = api.post(f"{AUTHENTICATION}/tokenreviews", {"spec": {"token": token}})["status"]
    assert review["authenticated"] is True
    user = review["user"]
    assert user["username"] == f"system:serviceaccount:{api.namespace}:x"
    assert user["uid"] == account["metadata"]["uid"]
    assert set(user["groups"]) == {
        "system:serviceaccounts", f"system:serviceaccounts:{api.namespace}", "system:authenticated"
    }  # fmt: skip
    api.delete(f"{accounts}/x")
    again = {"spec": {"token": token}}
    assert api.eventually(lambda: not api.post(f"{AUTHENTICATION}/tokenreviews", again)["status"].get("authenticated"))


@pytest.mark.conformance(
    "[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace [Conformance]"
)
def test_root_certificate(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/configmaps/kube-root-ca.crt"
    api.eventually(lambda: not api.gone(path))
    certificate = api.get(path)["data"]["ca.crt"]
    assert certificate.startswith("-----BEGIN CERTIFICATE-----")
    api.delete(path)
    assert api.eventually(lambda: not api.gone(path))
    api.patch(path, {"data": {"ca.crt": ""}})
    assert api.eventually(lambda: api.get(path)["data"]["ca.crt"] == certificate)


@pytest.mark.conformance(
    "[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer "
    "[Conformance]"
)
def test_issuer(admin: Api) -> None:
    found = admin.get("/.well-known/openid-configuration")
    assert found["issuer"] and found["response_types_supported"] == ["id_token"]
    keys = admin.get("/openid/v1/jwks")["keys"]
    assert found["jwks_uri"].endswith("/openid/v1/jwks")
    assert keys and all(each["use"] == "sig" and each["kid"] and each["kty"] for each in keys)


@pytest.mark.conformance("[sig-auth] SubjectReview should support SubjectReview API operations [Conformance]")
def test_subject_reviews(api: Api) -> None:
    name = "x"
    user = f"system:serviceaccount:{api.namespace}:{name}"
    asked = {"verb": "list", "resource": "configmaps", "namespace": api.namespace, "version": "v1"}
    spec = {"resourceAttributes": asked, "user": user}
    place = f"{AUTHORIZATION}/namespaces/{api.namespace}/localsubjectaccessreviews"
    local = {"metadata": {"namespace": api.namespace}, "spec": spec}
    assert api.post(f"{AUTHORIZATION}/subjectaccessreviews", {"spec": spec})["status"]["allowed"] is False
    assert api.post(place, local)["status"]["allowed"] is False
    assert api.post(f"{AUTHORIZATION}/selfsubjectaccessreviews", {"spec": {"resourceAttributes": asked}})["status"][
        "allowed"
    ]
    binding = {
        "metadata": {"name": "x"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": api.namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }
    api.post(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{api.namespace}/rolebindings", binding)
    assert api.eventually(lambda: api.post(place, local)["status"]["allowed"])
    assert api.post(f"{AUTHORIZATION}/subjectaccessreviews", {"spec": spec})["status"]["allowed"] is True
