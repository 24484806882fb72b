"""Rules in the schemas of custom resources: checked when they are written, asked when objects are."""

from __future__ import annotations

from typing import Any

import pytest

from windlass.kube.cel.validation import Rules, check_schema


def schema(*rules: dict[str, Any], **properties: Any) -> dict[str, Any]:
    spec = {"type": "object", "x-kubernetes-validations": list(rules), "properties": properties}
    return {"type": "object", "properties": {"spec": spec}}


INTEGER = {"type": "integer"}


def errors(source: dict[str, Any], new: Any, old: Any = None) -> list[str]:
    return [str(each) for each in Rules(source).evaluate({"spec": new}, None if old is None else {"spec": old})]


def test_a_rule_is_asked_with_its_message() -> None:
    source = schema({"rule": "self.a <= self.b", "message": "a is above b"}, a=INTEGER, b=INTEGER)
    assert errors(source, {"a": 1, "b": 2}) == []
    assert errors(source, {"a": 3, "b": 2}) == ['spec: Invalid value: "object": a is above b']
    found = schema({"rule": "self.a <= 1", "messageExpression": "'is ' + string(self.a)"}, a=INTEGER)
    assert errors(found, {"a": 5}) == ['spec: Invalid value: "object": is 5']
    found = schema({"rule": "self.a <= 1", "reason": "FieldValueForbidden", "fieldPath": ".a"}, a=INTEGER)
    assert errors(found, {"a": 5}) == ["spec.a: Forbidden: failed rule: self.a <= 1"]
    assert errors(found, {}) == ['spec: Invalid value: "object": rule evaluation error: no such key: a']


def test_transition_rules_judge_changes() -> None:
    source = schema({"rule": "self.a == oldSelf.a", "message": "a is fixed"}, a=INTEGER, b=INTEGER)
    assert errors(source, {"a": 1}) == []
    assert errors(source, {"a": 1, "b": 2}, {"a": 1, "b": 1}) == []
    assert errors(source, {"a": 2}, {"a": 1}) == ['spec: Invalid value: "object": a is fixed']
    once = schema(
        {"rule": "oldSelf.hasValue() || self.a > 0", "message": "begins above 0", "optionalOldSelf": True}, a=INTEGER
    )
    assert errors(once, {"a": 0}) == ['spec: Invalid value: "object": begins above 0']
    assert errors(once, {"a": 0}, {"a": 1}) == []


def test_items_of_map_lists_meet_their_old_selves() -> None:
    item = {
        "type": "object",
        "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "v never falls"}],
        "required": ["k"],
        "properties": {"k": {"type": "string"}, "v": INTEGER},
    }
    items = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item}
    source = schema(l=items)
    assert check_schema(source, "s") == []
    old = {"l": [{"k": "a", "v": 1}, {"k": "b", "v": 5}]}
    assert errors(source, {"l": [{"k": "b", "v": 6}, {"k": "a", "v": 1}]}, old) == []
    assert errors(source, {"l": [{"k": "b", "v": 4}]}, old) == ['spec.l[0]: Invalid value: "object": v never falls']


def test_names_that_are_no_identifiers_are_escaped() -> None:
    source = schema({"rule": "self.x__dash__y == 1 && self.__in__ == 2 && self.a__dot__b == 3"})
    source["properties"]["spec"]["properties"] = {"x-y": INTEGER, "in": INTEGER, "a.b": INTEGER}
    assert check_schema(source, "s") == []
    assert errors(source, {"x-y": 1, "in": 2, "a.b": 3}) == []


def test_values_have_the_types_of_their_formats() -> None:
    source = schema(
        {"rule": "self.at < timestamp('2030-01-01T00:00:00Z') && self.span > duration('1m') && self.n * 2.0 == 4.0"},
        at={"type": "string", "format": "date-time"},
        span={"type": "string", "format": "duration"},
        n={"type": "number"},
    )
    assert errors(source, {"at": "2026-01-01T00:00:00Z", "span": "1h", "n": 2}) == []


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"rule": "self.nothing == 1"}, "undefined field 'nothing'"),
        ({"rule": "self.a + 1"}, "must evaluate to a bool"),
        ({"rule": " "}, "rule is not specified"),
        ({"rule": "self.a == 'x'"}, "no matching overload"),
        ({"rule": "true", "message": ""}, "message must be non-empty"),
        ({"rule": "true", "messageExpression": "1"}, "must evaluate to a string"),
        ({"rule": "true", "reason": "Nonsense"}, "Unsupported value"),
    ],
)
def test_rules_that_cannot_be_are_refused(rule: dict[str, Any], words: str) -> None:
    found = check_schema(schema(rule, a=INTEGER), "spec.versions[0].schema.openAPIV3Schema")
    assert len(found) == 1 and words in str(found[0])
    assert found[0].field.startswith(
        "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]"
    )


def test_what_may_cost_too_much_is_refused_and_bounds_help() -> None:
    strings = {"type": "array", "items": {"type": "string"}}
    rule = {"rule": "self.l.all(x, self.l.all(y, x == y))"}
    found = check_schema(schema(rule, l=strings), "s")
    assert "estimated rule cost exceeds budget by factor of more than 100x" in str(found[0])
    bounded = {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}}
    assert check_schema(schema(rule, l=bounded), "s") == []


def test_old_selves_need_correlation() -> None:
    item = {"type": "object", "x-kubernetes-validations": [{"rule": "self == oldSelf"}], "properties": {"a": INTEGER}}
    found = check_schema(schema(l={"type": "array", "maxItems": 3, "items": item}), "s")
    assert "oldSelf cannot be used on the uncorrelatable portion of the schema" in str(found[0])
