"""Schemas: the published ones read as Go's types are; those of custom resources pruned, defaulted, validated."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube import protobuf
from windlass.kube.api.custom.embedded import Embedded
from windlass.kube.api.status import StatusError
from windlass.kube.api.yamlform import BadYAML, dump, load, load_all
from windlass.kube.protobuf import table, wire
from windlass.kube.schema import Schema, structural
from windlass.kube.schema.catalogue import OBJECT_META, Catalogue
from windlass.kube.schema.conform import TypeMismatch, conform
from windlass.kube.schema.defaulting import apply_defaults
from windlass.kube.schema.pruning import prune
from windlass.kube.schema.validation import validate

CATALOGUE = Catalogue()
POD = CATALOGUE.schema("io.k8s.api.core.v1.Pod")


def test_the_catalogue_has_every_kind_once() -> None:
    assert CATALOGUE.version == "v1.37.0"
    assert CATALOGUE.kinds()[("apps", "v1", "Deployment")] == "io.k8s.api.apps.v1.Deployment"
    containers = POD.properties["spec"].properties["containers"]
    assert (containers.list_type, containers.list_map_keys) == ("map", ("name",))
    assert CATALOGUE.schema("io.k8s.api.core.v1.Pod") is POD
    for name in CATALOGUE.names():
        CATALOGUE.schema(name)


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def test_objects_are_read_as_types_are() -> None:
    found = pod(containers=[{"name": "c", "foo": 1, "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}], x=None)
    found["extra"] = {}
    assert conform(found, POD) == ["spec.containers[0].foo", "spec.x", "extra"]
    assert found["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "1Gi"}
    assert "x" not in found["spec"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"nodeName": 1}, "cannot unmarshal number into Go struct field PodSpec.spec.nodeName of type string"),
        ({"hostNetwork": "yes"}, "cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        ({"terminationGracePeriodSeconds": "1"}, "of type int64"),
        ({"priority": 2**31}, "of type int32"),
        ({"containers": {}}, "cannot unmarshal object into Go struct field PodSpec.spec.containers"),
        ({"containers": [{"resources": {"limits": {"cpu": "x"}}}]}, "quantities must match the regular expression"),
        ({"nodeSelector": {"a": 1}}, "cannot unmarshal number"),
    ],
)
def test_other_types_are_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeMismatch, match=message.replace("(", "\\(")):
        conform(pod(**spec), POD)


CRON = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["schedule"],
            "properties": {
                "schedule": {"type": "string", "pattern": "^[*0-9 ]+$", "maxLength": 20},
                "replicas": {"type": "integer", "minimum": 1, "maximum": 5, "default": 2},
                "port": {"x-kubernetes-int-or-string": True},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "mode": {"type": "string", "enum": ["a", "b"]},
                "maybe": {"type": "string", "nullable": True},
                "one": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
                        "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
            },
        }
    },
}  # fmt: skip
SCHEMA = structural.build(CRON, CATALOGUE)


def test_unknown_fields_are_pruned() -> None:
    obj = {
        "apiVersion": "g/v1",
        "metadata": {"name": "x"},
        "spec": {"schedule": "*", "foo": 1, "free": {"a": {"b": 1}}, "labels": {"any": "x"}},
        "status": {},
    }
    assert set(prune(obj, SCHEMA)) == {"spec.foo", "status"}
    assert obj["spec"] == {"schedule": "*", "free": {"a": {"b": 1}}, "labels": {"any": "x"}}


def test_metadata_is_what_it_is_in_every_object() -> None:
    inner = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    schema = structural.build(
        {"type": "object", "properties": {"template": inner, "all": {"type": "array", "items": inner}}}, CATALOGUE
    )
    embedded = Embedded(schema, CATALOGUE.schema(OBJECT_META))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "odd": 1}, "spec": {"any": 1}}
    obj: dict[str, Any] = {"metadata": {"name": "x", "odd": 1}, "template": pod, "all": [{"kind": "9"}]}
    assert set(embedded.shape(obj)) == {"metadata.odd", "template.metadata.odd"}
    assert "odd" not in pod["metadata"] and pod["spec"] == {"any": 1}
    assert {error.field for error in embedded.validate(obj)} == {"all[0].apiVersion", "all[0].kind"}
    pod["metadata"] = {"labels": {"a b": "c"}, "namespace": "A"}
    assert {error.field for error in embedded.validate(obj)} >= {
        "template.metadata.labels",
        "template.metadata.namespace",
    }
    for wrong in ({"template": {"metadata": 5}}, {"metadata": {"labels": {"a": 1}}}, {"all": [{"kind": 1}]}):
        with pytest.raises(TypeMismatch):
            embedded.shape(wrong)


@pytest.mark.parametrize(
    ("schema", "value", "fits"),
    [
        ({"type": "number", "multipleOf": 0.1}, 0.3, True),
        ({"type": "number", "multipleOf": 0.1}, 0.35, False),
        ({"type": "integer", "multipleOf": 3}, 9, True),
        ({"type": "string", "format": "hexcolor"}, "#a1b2c3", True),
        ({"type": "string", "format": "hexcolor"}, "#a1b2c", False),
        ({"type": "string", "format": "k8s-short-name"}, "a.b", False),
    ],
)
def test_numbers_and_formats(schema: dict[str, Any], value: Any, fits: bool) -> None:
    built = structural.build({"type": "object", "properties": {"a": schema}}, CATALOGUE)
    assert (not validate({"a": value}, built)) is fits


def test_true_is_not_one() -> None:
    inner = {"type": "object", "properties": {"n": {"type": "integer"}}}
    built = structural.build({"type": "object", "properties": {"in": inner}}, CATALOGUE)
    assert validate({"in": {"n": True}}, built, {"in": {"n": 1}})


def test_defaults_are_applied() -> None:
    obj: dict[str, Any] = {"spec": {"schedule": "*"}}
    apply_defaults(obj, SCHEMA)
    assert obj["spec"]["replicas"] == 2
    obj = {"spec": {"replicas": None}}
    apply_defaults(obj, SCHEMA)
    assert obj["spec"]["replicas"] == 2
    assert structural.has_defaults(SCHEMA)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"schedule": "* 1"}, []),
        ({}, ["spec.schedule: Required value"]),
        ({"schedule": 1},
         ['spec.schedule: Invalid value: "integer": spec.schedule in body must be of type string: "integer"']),
        ({"schedule": "x"}, ["spec.schedule: Invalid value: \"x\": spec.schedule in body should match '^[*0-9 ]+$'"]),
        ({"schedule": "*" * 21}, ["spec.schedule: Too long: may not be more than 20 bytes"]),
        ({"schedule": "*", "replicas": 9},
         ["spec.replicas: Invalid value: 9: spec.replicas in body should be less than or equal to 5"]),
        ({"schedule": "*", "tags": ["a", "a"]}, ['spec.tags[1]: Duplicate value: "a"']),
        ({"schedule": "*", "mode": "c"}, ['spec.mode: Unsupported value: "c": supported values: "a", "b"']),
        ({"schedule": "*", "port": "http", "maybe": None}, []),
        ({"schedule": "*", "one": {"x": 1}}, []),
        ({"schedule": "*", "one": {"x": 1, "y": 1}},
         ['spec.one: Invalid value: "": spec.one in body must validate one and only one schema (oneOf). '
          "Found 2 valid alternatives"]),
    ],
)  # fmt: skip
def test_values_are_validated_in_upstreams_words(spec: Any, expected: list[str]) -> None:
    assert [str(each) for each in validate({"spec": spec}, SCHEMA)] == expected


def test_what_was_wrong_before_may_stay() -> None:
    old = {"spec": {"schedule": "not allowed", "replicas": 1}}
    assert validate({"spec": {"schedule": "not allowed", "replicas": 2}}, SCHEMA, old) == []
    assert len(validate({"spec": {"schedule": "still not", "replicas": 2}}, SCHEMA, old)) == 1


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, "type: Required value: must not be empty at the root"),
        ({"type": "string"}, "must be object at the root"),
        ({"type": "object", "properties": {"a": {}}}, "must not be empty for specified object fields"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "properties[a].items: Required value"),
        ({"type": "object", "properties": {"a": {"$ref": "#/x", "type": "object"}}}, "$ref is not supported"),
        ({"type": "object", "additionalProperties": False}, "cannot be set to false"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}, "must be a valid "
            "regular expression"),
        ({"type": "object", "anyOf": [{"type": "string"}]}, "must be empty to be structural"),
        ({"type": "object", "properties": {"a": {"type": "strange"}}}, "Unsupported value"),
        (None, "schemas are required"),
    ],
)  # fmt: skip
def test_what_is_not_structural(node: Any, message: str) -> None:
    assert any(message in str(each) for each in structural.check(node, "s"))
    assert structural.check(CRON, "s") == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["spec", "metadata", "containers", "schedule", "tags", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["spec", "metadata", "x"]), JSON))
def test_any_object_is_read_or_refused(obj: dict[str, Any]) -> None:
    validate(copy.deepcopy(obj), SCHEMA)
    prune(copy.deepcopy(obj), SCHEMA)
    with contextlib.suppress(TypeMismatch):
        conform(obj, POD)


@given(JSON)
def test_yaml_goes_round(value: Any) -> None:
    assert load(dump(value)) == value


def test_yaml_is_the_core_schema() -> None:
    text = "a: yes\nb: true\nc: 012\nd: 1.5\ne: ~\nf: 2026-01-01\ng: 0x1F\nh: !!str 5\ni: on\n"
    assert load(text) == {
        "a": "yes", "b": True, "c": 10, "d": 1.5, "e": None, "f": "2026-01-01", "g": 31, "h": "5", "i": "on"
    }  # fmt: skip
    assert load_all("a: 1\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]
    duplicates: list[str] = []
    assert load("a: {b: 1, b: 2}", duplicates) == {"a": {"b": 2}} and duplicates == ["a.b"]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: !!python/object:os.system x",
        "? [a]\n: b",
        "\t- x",
        BOMB,
        "[" * 1000,
    ],
)  # fmt: skip
def test_yaml_that_is_refused(text: str) -> None:
    with pytest.raises(BadYAML):
        load(text)


def test_protobuf_goes_round() -> None:
    obj = {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "d", "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 3},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {
                    "containers": [
                        {
                            "name": "c",
                            "resources": {"limits": {"cpu": "1"}},
                            "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 5},
                        }
                    ],
                    "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x"}}],
                },
            },
        },
    }
    assert protobuf.decode(protobuf.encode(obj)) == obj
    crd = {
        "kind": "CustomResourceDefinition",
        "apiVersion": "apiextensions.k8s.io/v1",
        "spec": {
            "versions": [
                {
                    "name": "v1",
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "a": {"type": "array", "items": {"type": "string"}, "default": ["x"]},
                                "b": {"type": "object", "additionalProperties": {"type": "integer"}},
                                "c": {"type": "object", "additionalProperties": True},
                            },
                        }
                    },
                }
            ]
        },
    }
    assert protobuf.decode(protobuf.encode(crd)) == crd


def test_every_message_is_known_to_its_end() -> None:
    for name in table._lines():
        for field in table.message(name).by_number.values():
            if "." in field.type:
                table.message(field.type)


def test_envelopes_in_envelopes_end_somewhere() -> None:
    def envelope(kind: str, raw: bytes) -> bytes:
        return (
            b"k8s\0"
            + wire.put_bytes(1, wire.put_bytes(1, b"apps/v1") + wire.put_bytes(2, kind.encode()))
            + (wire.put_bytes(2, raw))
        )

    body = b""
    for _ in range(400):
        body = envelope("ControllerRevision", wire.put_bytes(2, wire.put_bytes(1, body)))
    with pytest.raises(StatusError, match="nested too deeply"):
        protobuf.decode(body)


def test_times_keep_their_fractions() -> None:
    lease = {
        "kind": "Lease",
        "apiVersion": "coordination.k8s.io/v1",
        "spec": {"renewTime": "2026-01-02T05:04:05.123456+02:00"},
    }
    found = protobuf.decode(protobuf.encode(lease))
    assert found["spec"]["renewTime"] == "2026-01-02T03:04:05.123456Z"
    lease["spec"] = {"renewTime": "0001-01-02T00:00:00.000001Z"}
    assert protobuf.decode(protobuf.encode(lease))["spec"] == lease["spec"]


@given(st.binary(max_size=60))
def test_any_bytes_are_protobuf_or_refused(data: bytes) -> None:
    head = b"k8s\0\n\n\n\x02v1\x12\x03Pod\x12" + bytes([len(data)])
    for body in (data, b"k8s\0" + data, head + data):
        with contextlib.suppress(StatusError):
            protobuf.decode(body)


def test_schemas_that_know_nothing_keep_everything() -> None:
    assert Schema().is_any and Schema().child("x") is not None
