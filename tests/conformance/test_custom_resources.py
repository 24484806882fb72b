"""Kinds that users define: their life, defaults, status, discovery, selectable fields."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from support.kubeapi import Api, Refused, names

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def definition(schema: dict[str, Any] | None = None, **version: Any) -> dict[str, Any]:
    """A definition of a group of its own, with one version."""
    group = f"g{secrets.token_hex(4)}.example.com"
    first = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema or OPEN}, **version}
    return {
        "metadata": {"name": f"foos.{group}", "labels": {"scenario": group}},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
            "versions": [first],
        },
    }


class Foos:
    """Definitions that go again."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.made: list[str] = []

    def define(self, body: dict[str, Any]) -> str:
        """The path of the objects of a new definition, as soon as it is served."""
        name = self.api.post(DEFINITIONS, body)["metadata"]["name"]
        self.made.append(name)
        self.api.eventually(lambda: self.is_established(name))
        return f"/apis/{body['spec']['group']}/v1/namespaces/{self.api.namespace}/foos"

    def is_established(self, name: str) -> bool:
        """Whether its condition says so."""
        conditions = self.api.get(f"{DEFINITIONS}/{name}").get("status", {}).get("conditions", [])
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


@pytest.fixture
def foos(api: Api) -> Iterator[Foos]:
    """To define kinds with."""
    found = Foos(api)
    yield found
    for name in found.made:
        if not api.gone(f"{DEFINITIONS}/{name}"):
            api.delete(f"{DEFINITIONS}/{name}")
        api.eventually(lambda name=name: api.gone(f"{DEFINITIONS}/{name}"))


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "creating/deleting custom resource definition objects works [Conformance]",
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "listing custom resource definition objects works [Conformance]",
)
def test_definitions_come_and_go(api: Api, foos: Foos) -> None:
    bodies = [definition() for _ in range(3)]
    for each in bodies:
        each["metadata"]["labels"] = {"scenario": api.namespace}
        foos.define(each)
    selector = f"{DEFINITIONS}?labelSelector=scenario%3D{api.namespace}"
    assert sorted(names(api.get(selector))) == sorted(each["metadata"]["name"] for each in bodies)
    one = bodies[0]["metadata"]["name"]
    api.delete(f"{DEFINITIONS}/{one}")
    assert api.eventually(lambda: api.gone(f"{DEFINITIONS}/{one}"))
    api.delete(selector)
    assert api.eventually(lambda: not api.get(selector)["items"])


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition "
    "getting/updating/patching custom resource definition status sub-resource works [Conformance]"
)
def test_status_of_a_definition(api: Api, foos: Foos) -> None:
    body = definition()
    foos.define(body)
    path = f"{DEFINITIONS}/{body['metadata']['name']}"
    condition = {"type": "StatusUpdate", "status": "True", "reason": "Scenario", "message": "m"}
    updated = api.change(f"{path}/status", lambda found: found["status"]["conditions"].append(condition))
    assert condition["type"] in {each["type"] for each in updated["status"]["conditions"]}
    patched = api.patch(f"{path}/status", {"status": {"conditions": [condition | {"status": "False"}]}})
    assert patched["status"]["conditions"][0]["status"] == "False"


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for "
    "requests and from storage works [Conformance]"
)
def test_defaults_of_requests_and_of_what_is_stored(api: Api, foos: Foos) -> None:
    properties: dict[str, Any] = {"a": {"type": "string", "default": "A"}, "b": {"type": "string"}}
    body = definition({"type": "object", "properties": properties})
    path = foos.define(body)
    kind = {"apiVersion": f"{body['spec']['group']}/v1", "kind": "Foo"}
    made = api.post(path, {**kind, "metadata": {"name": "x"}})
    assert made["a"] == "A" and "b" not in made
    properties["b"]["default"] = "B"
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    api.change(
        f"{DEFINITIONS}/{body['metadata']['name']}",
        lambda found: found["spec"]["versions"][0].update(schema=schema),
    )
    assert api.eventually(lambda: api.get(f"{path}/x").get("b") == "B")
    assert api.post(path, {**kind, "metadata": {"name": "y"}})["b"] == "B"
    del properties["a"]["default"]
    api.change(
        f"{DEFINITIONS}/{body['metadata']['name']}",
        lambda found: found["spec"]["versions"][0].update(schema=schema),
    )
    assert api.eventually(lambda: "a" not in api.post(f"{path}?dryRun=All", {**kind, "metadata": {"name": "z"}}))
    assert api.get(f"{path}/x")["a"] == "A"


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource "
    "definition resources in discovery documents [Conformance]"
)
def test_discovery(admin: Api) -> None:
    groups = {each["name"]: each for each in admin.get("/apis")["groups"]}
    version = {"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"}
    assert version in groups["apiextensions.k8s.io"]["versions"]
    assert version in admin.get("/apis/apiextensions.k8s.io")["versions"]
    found = admin.get("/apis/apiextensions.k8s.io/v1")["resources"]
    assert {"customresourcedefinitions", "customresourcedefinitions/status"} <= {each["name"] for each in found}


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch "
    "on custom resource definition objects [Conformance]"
)
def test_watch(api: Api, foos: Foos) -> None:
    body = definition()
    path = foos.define(body)
    kind = {"apiVersion": f"{body['spec']['group']}/v1", "kind": "Foo"}
    begin = api.get(path)["metadata"]["resourceVersion"]
    for name in ("a", "b"):
        api.post(path, {**kind, "metadata": {"name": name}})
    api.patch(f"{path}/a", {"dummy": "changed"})
    for name in ("a", "b"):
        api.delete(f"{path}/{name}")
    found = [(what, obj["metadata"]["name"]) for what, obj in api.watch(f"{path}?resourceVersion={begin}")]
    assert found == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a"), ("DELETED", "b")]


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list "
    "and watch custom resources matching the field selector [Conformance]"
)
def test_selectable_fields(api: Api, foos: Foos) -> None:
    fields = {"host": {"type": "string"}, "port": {"type": "string"}}
    body = definition(
        {"type": "object", "properties": fields}, selectableFields=[{"jsonPath": ".host"}, {"jsonPath": ".port"}]
    )
    path = foos.define(body)
    kind = {"apiVersion": f"{body['spec']['group']}/v1", "kind": "Foo"}
    begin = api.get(path)["metadata"]["resourceVersion"]
    for name, host, port in (("a", "host1", "80"), ("b", "host1", "8080"), ("c", "host2", "80")):
        api.post(path, {**kind, "metadata": {"name": name}, "host": host, "port": port})
    assert list(names(api.get(f"{path}?fieldSelector=host%3Dhost1"))) == ["a", "b"]
    assert list(names(api.get(f"{path}?fieldSelector=host%3Dhost1,port%3D80"))) == ["a"]
    api.patch(f"{path}/a", {"host": "host2"})
    events = api.watch(f"{path}?fieldSelector=host%3Dhost1&resourceVersion={begin}")
    assert [(what, obj["metadata"]["name"]) for what, obj in events] == [
        ("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")
    ]  # fmt: skip
    with pytest.raises(Refused) as caught:
        api.get(f"{path}?fieldSelector=other%3Dx")
    assert caught.value.code == 400


STRICT = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": {"cron": {"type": "string"}}}},
}


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation "
    "schema [Conformance]",
)
def test_open_schema_takes_all(api: Api, foos: Foos) -> None:
    body = definition()
    path = foos.define(body)
    kind = {"apiVersion": f"{body['spec']['group']}/v1", "kind": "Foo"}
    api.post(f"{path}?fieldValidation=Strict", {**kind, "metadata": {"name": "x"}, "unknown": {"deep": 1}})
    applied = api.patch(
        f"{path}/y?fieldManager=m&fieldValidation=Strict",
        {**kind, "metadata": {"name": "y"}, "unknown": {"deep": 1}},
        "apply-patch+yaml",
    )
    assert applied["unknown"] == {"deep": 1}


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema [Conformance]",
    "[sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with "
    "validation schema [Conformance]",
)
def test_closed_schema_names_what_it_does_not_know(api: Api, foos: Foos) -> None:
    body = definition(STRICT)
    path = foos.define(body)
    kind = {"apiVersion": f"{body['spec']['group']}/v1", "kind": "Foo"}
    api.post(f"{path}?fieldValidation=Strict", {**kind, "metadata": {"name": "x"}, "spec": {"cron": "* * * * *"}})
    wrong = {**kind, "metadata": {"name": "y"}, "spec": {"cron": "x", "extra": 1}}
    for call in (
        lambda: api.post(f"{path}?fieldValidation=Strict", wrong),
        lambda: api.patch(f"{path}/y?fieldManager=m&fieldValidation=Strict", wrong, "apply-patch+yaml"),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code in (400, 422, 500) and "spec.extra" in caught.value.message
    assert api.gone(f"{path}/y")


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields [Conformance]",
    "[sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of "
    "a CR [Conformance]",
)
def test_duplicates_and_unknown_metadata(api: Api, foos: Foos) -> None:
    embedded = {**OPEN, "properties": {"template": {**OPEN, "x-kubernetes-embedded-resource": True}}}
    body = definition(embedded)
    path = foos.define(body)
    start = f'{{"apiVersion": "{body["spec"]["group"]}/v1", "kind": "Foo", '
    text = start + '"metadata": {"name": "x"}, "foo": "a", "foo": "b"}'
    with pytest.raises(Refused) as caught:
        api.post(f"{path}?fieldValidation=Strict", text.encode())
    assert caught.value.code == 400 and 'duplicate field "foo"' in caught.value.message
    inner = '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "i", "unknownInner": 1}}'
    text = start + '"metadata": {"name": "x", "unknownOuter": 1}, "template": ' + inner + "}"
    with pytest.raises(Refused) as caught:
        api.post(f"{path}?fieldValidation=Strict", text.encode())
    assert caught.value.code == 400
    assert "metadata.unknownOuter" in caught.value.message
    assert "template.metadata.unknownInner" in caught.value.message
