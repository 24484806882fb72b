"""What the server says of itself: version, groups, resources, in parts and as one document."""

from __future__ import annotations

import pytest

from support.kubeapi import Api, Refused

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@pytest.mark.conformance("[sig-api-machinery] server version should find the server version [Conformance]")
def test_version(admin: Api) -> None:
    found = admin.get("/version")
    assert found["major"] == "1" and int(found["minor"].rstrip("+")) > 30
    assert {"gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"} <= set(found)


@pytest.mark.conformance(
    "[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup [Conformance]",
    "[sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup [Conformance]",
)
def test_groups(admin: Api) -> None:
    groups = {each["name"]: each for each in admin.get("/apis")["groups"]}
    assert {"apps", "batch", "rbac.authorization.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"} <= set(
        groups
    )
    for name, group in groups.items():
        assert group["preferredVersion"] in group["versions"]
        assert admin.get(f"/apis/{name}") == {"kind": "APIGroup", "apiVersion": "v1", **group}
        for each in group["versions"]:
            assert each["groupVersion"] == f"{name}/{each['version']}"
            resources = admin.get(f"/apis/{each['groupVersion']}")
            assert resources["kind"] == "APIResourceList" and resources["groupVersion"] == each["groupVersion"]
            assert all(
                {"name", "kind", "verbs", "namespaced", "singularName"} <= set(r) for r in resources["resources"]
            )


@pytest.mark.conformance(
    "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface [Conformance]",
    "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers "
    "[Conformance]",
)
def test_one_document(admin: Api) -> None:
    for root in ("/api", "/apis"):
        answer = admin.raw("GET", root, Accept=AGGREGATED)
        assert answer.headers["Content-Type"] == AGGREGATED
        found = answer.json()
        assert (found["kind"], found["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
        for group in found["items"]:
            for version in group["versions"]:
                place = f"{root}/{group['metadata']['name']}" if root == "/apis" else root
                plain = admin.get(f"{place}/{version['version']}")["resources"]
                assert {each["resource"] for each in version["resources"]} == {
                    each["name"] for each in plain if "/" not in each["name"]
                }
        unaggregated = admin.raw("GET", root, Accept="application/json").json()
        assert unaggregated["kind"] in ("APIVersions", "APIGroupList")


@pytest.mark.conformance(
    "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does "
    "not implement metadata [Conformance]"
)
def test_no_table_of_a_review(admin: Api) -> None:
    review = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}, "user": "x"}}
    with pytest.raises(Refused) as caught:
        admin.post(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            review,
            Accept="application/json;as=Table;v=v1;g=meta.k8s.io",
        )
    assert caught.value.code == 406
