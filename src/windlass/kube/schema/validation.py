"""Values against the schemas of custom resources, in the words of upstream's validator.

    spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"

On an update what is as it was is not looked at again (ratcheting), so that a schema may become stricter while old
objects live on.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation and
.../#validation-ratcheting
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from windlass.kube.api import names, times
from windlass.kube.api.objects import same
from windlass.kube.api.status import (
    FieldError,
    duplicate,
    invalid_value,
    not_supported,
    required,
    show_value,
    too_many,
)
from windlass.kube.schema import patterns
from windlass.kube.schema.node import Schema

_ABSENT: Any = object()
_DEEPEST = 200
_NEARLY = 1e-9
_MOST_ERRORS = 100


def validate(value: Any, schema: Schema, old: Any = _ABSENT) -> list[FieldError]:
    """What is wrong with an object; `old` is the object before an update."""
    errors: list[FieldError] = []
    _validate(value, schema, "", errors, old, 0)
    return errors


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "string" if isinstance(value, str) else "null"


def _fits(value: Any, kind: str) -> bool:
    found = _type_name(value)
    return found == kind or (kind == "number" and found == "integer")


def _validate(value: Any, schema: Schema, path: str, errors: list[FieldError], old: Any, depth: int) -> None:
    if value is old or (old is not _ABSENT and same(value, old)):
        return
    if schema.ref or len(errors) >= _MOST_ERRORS:
        return
    if depth > _DEEPEST:
        errors.append(invalid_value(path, "", "nested too deeply"))
        return
    if value is None:
        if not schema.nullable and (schema.type or schema.int_or_string):
            errors.append(_wrong_type(path, value, schema))
        return
    if schema.int_or_string:
        if not isinstance(value, str) and not _fits(value, "integer"):
            errors.append(
                invalid_value(
                    path, value, f"{path} in body must be of type integer,string: {show_value(_type_name(value))}"
                )
            )
            return
    elif schema.type and not _fits(value, schema.type):
        errors.append(_wrong_type(path, value, schema))
        return
    check_keywords(value, schema.source, path, errors)
    if isinstance(value, dict):
        _validate_object(value, schema, path, errors, old, depth)
    elif isinstance(value, list):
        _validate_list(value, schema, path, errors, old, depth)


def _wrong_type(path: str, value: Any, schema: Schema) -> FieldError:
    kind = schema.type or "integer,string"
    name = _type_name(value)
    return invalid_value(path or "<nil>", name, f"{path} in body must be of type {kind}: {show_value(name)}")


def _validate_object(
    value: dict[str, Any], schema: Schema, path: str, errors: list[FieldError], old: Any, depth: int
) -> None:
    before = old if isinstance(old, dict) else {}
    for name in sorted(schema.required):
        if name not in value:
            errors.append(required(f"{path}.{name}" if path else name))
    for name, child in value.items():
        known = schema.properties.get(name) or schema.additional
        if known is not None:
            _validate(child, known, f"{path}.{name}" if path else name, errors, before.get(name, _ABSENT), depth + 1)


def _validate_list(value: list[Any], schema: Schema, path: str, errors: list[FieldError], old: Any, depth: int) -> None:
    before = old if isinstance(old, list) else []
    kind = schema.list_type
    if kind == "set":
        _find_duplicates([_frozen(item) for item in value], value, path, errors)
    elif kind == "map":
        keys = [
            tuple(_frozen(item.get(name)) for name in schema.list_map_keys) if isinstance(item, dict) else ()
            for item in value
        ]
        shown = [
            {name: item.get(name) for name in schema.list_map_keys} if isinstance(item, dict) else item
            for item in value
        ]
        _find_duplicates(keys, shown, path, errors)
        known = {
            tuple(_frozen(item.get(name)) for name in schema.list_map_keys): item
            for item in before
            if isinstance(item, dict)
        }
    if schema.items is None:
        return
    for index, item in enumerate(value):
        if kind == "map":
            previous = known.get(keys[index], _ABSENT)
        else:
            previous = before[index] if index < len(before) else _ABSENT
        _validate(item, schema.items, f"{path}[{index}]", errors, previous, depth + 1)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted((name, _frozen(child)) for name, child in value.items()))
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return (type(value).__name__, value)


def _find_duplicates(keys: list[Any], shown: list[Any], path: str, errors: list[FieldError]) -> None:
    seen: set[Any] = set()
    for index, key in enumerate(keys):
        if key in seen:
            errors.append(duplicate(f"{path}[{index}]", shown[index]))
            if len(errors) >= _MOST_ERRORS:
                return
        seen.add(key)


def check_keywords(value: Any, node: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    """The value validations of one node: bounds, patterns, formats, enumerations, logic."""
    enum = node.get("enum")
    if enum is not None and value not in enum:
        errors.append(
            not_supported(path, value, [each if isinstance(each, str) else show_value(each) for each in enum])
        )
    if isinstance(value, str):
        _check_string(value, node, path, errors)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        _check_number(value, node, path, errors)
    elif isinstance(value, list):
        least, most = node.get("minItems"), node.get("maxItems")
        if least is not None and len(value) < least:
            errors.append(invalid_value(path, len(value), f"{path} in body should have at least {least} items"))
        if most is not None and len(value) > most:
            errors.append(too_many(path, len(value), most))
    elif isinstance(value, dict):
        least, most = node.get("minProperties"), node.get("maxProperties")
        if least is not None and len(value) < least:
            errors.append(invalid_value(path, len(value), f"{path} in body should have at least {least} properties"))
        if most is not None and len(value) > most:
            errors.append(too_many(path, len(value), most))
    _check_logic(value, node, path, errors)


def _check_string(value: str, node: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    least, most = node.get("minLength"), node.get("maxLength")
    if least is not None and len(value) < least:
        errors.append(invalid_value(path, value, f"{path} in body should be at least {least} chars long"))
    if most is not None and len(value) > most:
        errors.append(FieldError("Too long", path, f"may not be more than {most} bytes"))
    if pattern := node.get("pattern"):
        try:
            if not patterns.matches(pattern, value):
                errors.append(invalid_value(path, value, f"{path} in body should match '{pattern}'"))
        except patterns.BadPattern:
            errors.append(invalid_value(path, value, f"the schema's pattern '{pattern}' is none"))
    form = node.get("format")
    if form and not has_format(value, form):
        errors.append(invalid_value(path, value, f"{path} in body must be of type {form}: {show_value(value)}"))


def _check_number(value: float, node: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    least, most = node.get("minimum"), node.get("maximum")
    if least is not None:
        if node.get("exclusiveMinimum"):
            if value <= least:
                errors.append(invalid_value(path, value, f"{path} in body should be greater than {least}"))
        elif value < least:
            errors.append(invalid_value(path, value, f"{path} in body should be greater than or equal to {least}"))
    if most is not None:
        if node.get("exclusiveMaximum"):
            if value >= most:
                errors.append(invalid_value(path, value, f"{path} in body should be less than {most}"))
        elif value > most:
            errors.append(invalid_value(path, value, f"{path} in body should be less than or equal to {most}"))
    multiple = node.get("multipleOf")
    if multiple and not _is_multiple(value, multiple):
        errors.append(invalid_value(path, value, f"{path} in body should be a multiple of {multiple}"))
    form = node.get("format")
    if form in ("int32", "int64") and isinstance(value, int):
        bits = 31 if form == "int32" else 63
        if not -(2**bits) <= value < 2**bits:
            errors.append(invalid_value(path, value, f"{path} in body must be of type {form}: {show_value(value)}"))


def _is_multiple(value: float, of: float) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    ratio = value / of
    return abs(ratio - round(ratio)) < _NEARLY


def _check_logic(value: Any, node: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    shown = path or "<nil>"
    for child in node.get("allOf") or ():
        _check_branch(value, child, path, errors)
    if branches := node.get("anyOf"):
        found: list[list[FieldError]] = [_branch_errors(value, child, path) for child in branches]
        if all(found):
            errors.append(invalid_value(path, "", f"{shown} in body must validate at least one schema (anyOf)"))
            errors += _fewest(found)
    if branches := node.get("oneOf"):
        found = [_branch_errors(value, child, path) for child in branches]
        valid = sum(not each for each in found)
        if valid != 1:
            detail = f"Found {valid} valid alternatives" if valid else "Found none valid"
            errors.append(
                invalid_value(path, "", f"{shown} in body must validate one and only one schema (oneOf). {detail}")
            )
            if not valid:
                errors += _fewest(found)
    if (child := node.get("not")) is not None and not _branch_errors(value, child, path):
        errors.append(invalid_value(path, "", f"{shown} in body must not validate the schema (not)"))


def _branch_errors(value: Any, node: Mapping[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    _check_branch(value, node, path, errors)
    return errors


def _check_branch(value: Any, node: Mapping[str, Any], path: str, errors: list[FieldError], depth: int = 0) -> None:
    """A value against a branch of logic, which says only what its node says, not what stands around it."""
    if depth > _DEEPEST:
        return
    kind = node.get("type")
    if kind and not _fits(value, kind):
        errors.append(
            invalid_value(
                path, _type_name(value), f"{path} in body must be of type {kind}: {show_value(_type_name(value))}"
            )
        )
        return
    check_keywords(value, node, path, errors)
    if isinstance(value, dict):
        for name in node.get("required") or ():
            if name not in value:
                errors.append(required(f"{path}.{name}" if path else name))
        for name, child in (node.get("properties") or {}).items():
            if name in value:
                _check_branch(value[name], child, f"{path}.{name}" if path else name, errors, depth + 1)
        additional = node.get("additionalProperties")
        if isinstance(additional, Mapping):
            for name, item in value.items():
                if name not in (node.get("properties") or {}):
                    _check_branch(item, additional, f"{path}.{name}" if path else name, errors, depth + 1)
    elif isinstance(value, list) and isinstance(node.get("items"), Mapping):
        for index, item in enumerate(value):
            _check_branch(item, node["items"], f"{path}[{index}]", errors, depth + 1)


_HOSTNAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def has_format(value: str, form: str) -> bool:
    """Whether a string has one of the formats that upstream checks; others are only documentation."""
    try:
        match form:
            case "date-time" | "datetime":
                times.parse_time(value)
            case "date":
                if not _DATE.fullmatch(value):
                    return False
                times.parse_time(f"{value}T00:00:00Z")
            case "duration":
                times.parse_duration(value)
            case "byte":
                base64.b64decode(value, validate=True)
            case "ipv4":
                ipaddress.IPv4Address(value)
            case "ipv6":
                ipaddress.IPv6Address(value)
            case "cidr":
                ipaddress.ip_interface(value)
                return "/" in value
            case "uuid" | "uuid3" | "uuid4" | "uuid5":
                uuid.UUID(value)
            case "uri":
                return bool(urlsplit(value).scheme)
            case "hostname":
                return len(value) <= 255 and _HOSTNAME.fullmatch(value) is not None
            case "email":
                return _EMAIL.fullmatch(value) is not None
            case "mac":
                return re.fullmatch(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}", value) is not None
            case "hexcolor":
                return re.fullmatch(r"#?([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})", value) is not None
            case "k8s-short-name":
                return not names.dns1123_label(value)
            case "k8s-long-name":
                return not names.dns1123_subdomain(value)
    except (ValueError, binascii.Error):
        return False
    return True


def _fewest(found: list[list[FieldError]]) -> list[FieldError]:
    """The errors of the branch that is nearest to fitting."""
    return sorted(found, key=len)[0]
