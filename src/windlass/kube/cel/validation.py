"""x-kubernetes-validations: the rules in the schemas of custom resources.

    Rules ─ one program for each rule at each place ─▶ walks an object and its old self ─▶ field errors

A rule that names oldSelf judges changes: it is asked only where there was something before, unless it says
optionalOldSelf. What has not changed is not judged again.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from windlass.kube.api.status import (
    FieldError,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from windlass.kube.cel import types
from windlass.kube.cel.environment import Environment, Program
from windlass.kube.cel.errors import CompileError, CostExceeded, EvaluationError
from windlass.kube.cel.types import BOOL, STRING, Type
from windlass.kube.cel.values import NONE, Optional, native
from windlass.kube.schema import structural
from windlass.kube.schema.node import Schema

_KEY = "x-kubernetes-validations"
_REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")
_KINDS = {
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
}
_RULE_BUDGET = 10_000_000
_TOTAL_BUDGET = 100_000_000
_RUN_BUDGET = 10_000_000
_LONGEST_MESSAGE = 2048


class _Rule(NamedTuple):
    source: Mapping[str, Any]
    program: Program
    message: Program | None
    is_transition: bool
    optional_old: bool


class _Place(NamedTuple):
    """A schema's node with rules on it or below."""

    rules: tuple[_Rule, ...]
    type: Type
    properties: Mapping[str, _Place]
    additional: _Place | None
    items: _Place | None
    map_keys: tuple[str, ...]
    correlatable: bool


def _compile(node: Mapping[str, Any], schema: Schema, *, root: bool) -> _Place | None:
    found = types.of_schema(schema, root=root)
    rules = []
    for rule in node.get(_KEY) or ():
        optional_old = bool(rule.get("optionalOldSelf"))
        environment = Environment({"self": found, "oldSelf": types.optional_of(found) if optional_old else found})
        program = environment.compile(rule["rule"], BOOL)
        message = environment.compile(rule["messageExpression"], STRING) if rule.get("messageExpression") else None
        rules.append(_Rule(rule, program, message, "oldSelf" in rule["rule"], optional_old))
    properties = {}
    for name, child in (node.get("properties") or {}).items():
        if root and name in ("apiVersion", "kind", "metadata"):
            continue
        place = _compile(child, schema.properties[name], root=False)
        if place is not None:
            properties[name] = place
    additional = node.get("additionalProperties")
    additional_place = None
    if isinstance(additional, Mapping) and schema.additional is not None:
        additional_place = _compile(additional, schema.additional, root=False)
    items = node.get("items")
    items_place = None
    if isinstance(items, Mapping) and schema.items is not None:
        items_place = _compile(items, schema.items, root=False)
    if not (rules or properties or additional_place or items_place):
        return None
    return _Place(
        tuple(rules),
        found,
        properties,
        additional_place,
        items_place,
        schema.list_map_keys,
        schema.type != "array" or schema.list_type == "map",
    )


class Rules:
    """The rules of one schema, compiled when they are first needed."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self._source = source
        self._place: _Place | None = None
        self._is_compiled = False

    def evaluate(self, new: Any, old: Any | None) -> list[FieldError]:
        """What the rules say against an object."""
        if not self._is_compiled:
            self._place = _compile(self._source, structural.build_node(self._source), root=True)
            self._is_compiled = True
        if self._place is None:
            return []
        errors: list[FieldError] = []
        budget = [_RUN_BUDGET]
        try:
            _evaluate(self._place, new, old if old is not None else _NOTHING, "", errors, budget)
        except CostExceeded:
            detail = "validation failed due to running out of cost budget, no further validation rules will be run"
            errors.append(invalid_value("", "", detail))
        return errors


_NOTHING: Any = object()


def _evaluate(place: _Place, new: Any, old: Any, path: str, errors: list[FieldError], budget: list[int]) -> None:
    if new is None or (old is not _NOTHING and new == old and type(new) is type(old)):
        return
    for rule in place.rules:
        _judge(rule, place.type, new, old, path, errors, budget)
    if isinstance(new, dict):
        before = old if isinstance(old, dict) else {}
        for name, child in new.items():
            inner = place.properties.get(name) or place.additional
            if inner is not None:
                where = f"{path}.{name}" if path else name
                _evaluate(inner, child, before.get(name, _NOTHING), where, errors, budget)
    elif isinstance(new, list) and place.items is not None:
        known = {}
        if place.map_keys and isinstance(old, list):
            known = {_key(item, place.map_keys): item for item in old}
        for index, item in enumerate(new):
            before = known.get(_key(item, place.map_keys), _NOTHING) if place.map_keys else _NOTHING
            _evaluate(place.items, item, before, f"{path}[{index}]", errors, budget)


def _key(item: Any, keys: tuple[str, ...]) -> Any:
    return tuple(str(item.get(name)) for name in keys) if isinstance(item, dict) else ()


def _judge(rule: _Rule, type: Type, new: Any, old: Any, path: str, errors: list[FieldError], budget: list[int]) -> None:
    if rule.is_transition and old is _NOTHING and not rule.optional_old:
        return
    variables: dict[str, Any] = {"self": native(new, type)}
    if rule.optional_old:
        variables["oldSelf"] = NONE if old is _NOTHING else Optional(True, native(old, type))
    elif old is not _NOTHING:
        variables["oldSelf"] = native(old, type)
    try:
        holds = rule.program.evaluate(variables, limit=budget[0])
    except CostExceeded:
        raise
    except EvaluationError as error:
        errors.append(invalid_value(path or "<nil>", _shown(new), f"rule evaluation error: {error}"))
        return
    finally:
        budget[0] -= rule.program.last_cost
    if holds is True:
        return
    where = path + (rule.source.get("fieldPath") or "")
    reason = rule.source.get("reason") or "FieldValueInvalid"
    message = _message(rule, variables)
    kind = _KINDS.get(reason)
    if kind is None:
        errors.append(invalid_value(where.lstrip(".") or "<nil>", _shown(new), message))
    else:
        errors.append(FieldError(kind, where.lstrip(".") or "<nil>", message))


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else value


def _message(rule: _Rule, variables: dict[str, Any]) -> str:
    if rule.message is not None:
        try:
            text = rule.message.evaluate(variables)
        except EvaluationError:
            text = ""
        if isinstance(text, str) and text.strip() and "\n" not in text and len(text) <= _LONGEST_MESSAGE:
            return text.strip()
    return str(rule.source.get("message") or f"failed rule: {rule.source['rule'].strip()}").strip()


# -- when a definition is written


def check_schema(node: Mapping[str, Any], path: str) -> list[FieldError]:
    """What is wrong with the rules of a structural schema: types, costs, transition rules where nothing correlates."""
    errors: list[FieldError] = []
    total = [0]
    _check(node, structural.build_node(node), path, errors, total, 1, True, root=True)
    if total[0] > _TOTAL_BUDGET:
        factor = total[0] / _TOTAL_BUDGET
        detail = (
            "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds "
            "budget by factor of "
            f"{_factor(factor)} (try simplifying the rule, or adding maxItems, maxProperties, and "
            "maxLength where arrays, "
            "maps, and strings are declared)"
        )
        errors.append(forbidden_field(path, detail))
    return errors


def _factor(factor: float) -> str:
    return "more than 100x" if factor > 100 else f"{factor:.1f}x"


def _check(
    node: Mapping[str, Any],
    schema: Schema,
    path: str,
    errors: list[FieldError],
    total: list[int],
    times: int,
    correlatable: bool,
    *,
    root: bool = False,
) -> None:
    found = types.of_schema(schema, root=root)
    for index, rule in enumerate(node.get(_KEY) or ()):
        _check_rule(rule, found, f"{path}.{_KEY}[{index}]", errors, total, times, correlatable)
    for name, child in (node.get("properties") or {}).items():
        if isinstance(child, Mapping) and name in schema.properties:
            _check(child, schema.properties[name], f"{path}.properties[{name}]", errors, total, times, correlatable)
    additional = node.get("additionalProperties")
    if isinstance(additional, Mapping) and schema.additional is not None:
        count = min(int(node.get("maxProperties", 1 << 20)), 1 << 20)
        _check(
            additional, schema.additional, f"{path}.additionalProperties", errors, total, times * count, correlatable
        )
    items = node.get("items")
    if isinstance(items, Mapping) and schema.items is not None:
        count = min(int(node.get("maxItems", 1 << 20)), 1 << 20)
        follows = correlatable and schema.list_type == "map"
        _check(items, schema.items, f"{path}.items", errors, total, times * count, follows)


def _check_rule(
    rule: Mapping[str, Any],
    found: Type,
    path: str,
    errors: list[FieldError],
    total: list[int],
    times: int,
    correlatable: bool,
) -> None:
    text = (rule.get("rule") or "").strip()
    if not text:
        errors.append(required(f"{path}.rule", "rule is not specified"))
        return
    message = rule.get("message")
    if message is not None and not message.strip():
        errors.append(invalid_value(f"{path}.message", message, "message must be non-empty if specified"))
    elif message and "\n" in message.strip():
        errors.append(invalid_value(f"{path}.message", message, "message must not contain line breaks"))
    if rule.get("reason") and rule["reason"] not in _REASONS:
        errors.append(not_supported(f"{path}.reason", rule["reason"], _REASONS))
    optional_old = bool(rule.get("optionalOldSelf"))
    if "oldSelf" in text and not correlatable:
        detail = "oldSelf cannot be used on the uncorrelatable portion of the schema within " + path.rpartition(".")[0]
        errors.append(invalid_value(f"{path}.rule", text, detail))
    environment = Environment({"self": found, "oldSelf": types.optional_of(found) if optional_old else found})
    try:
        program = environment.compile(text)
    except CompileError as error:
        errors.append(invalid_value(f"{path}.rule", text, f"compilation failed: {error}"))
        return
    if not types.agrees(BOOL, program.result_type):
        errors.append(invalid_value(f"{path}.rule", text, "must evaluate to a bool"))
        return
    estimate = program.estimate()
    total[0] += min(estimate * times, 1 << 62)
    if estimate * times > _RULE_BUDGET:
        factor = estimate * times / _RULE_BUDGET
        detail = (
            f"estimated rule cost exceeds budget by factor of {_factor(factor)} (try simplifying the rule, or adding "
            "maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
        )
        errors.append(forbidden_field(f"{path}.rule", detail))
    if expression := rule.get("messageExpression"):
        try:
            if not types.agrees(STRING, environment.compile(expression).result_type):
                detail = "must evaluate to a string"
                errors.append(invalid_value(f"{path}.messageExpression", expression, detail))
        except CompileError as error:
            detail = f"messageExpression compilation failed: {error}"
            errors.append(invalid_value(f"{path}.messageExpression", expression, detail))
