"""Read a decoded object as a built-in type would: types, unknown fields, nulls.

What Go's typed decoding does, `conform` does in one walk: a null is an absent field (in a list or map the zero value),
an unknown field is reported and dropped, a value of another type is an error, a quantity gets its canonical form.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#validation-for-unrecognized-or-duplicate-fields
"""

from __future__ import annotations

import binascii
import re
from typing import Any

from windlass.kube.api import quantity, times
from windlass.kube.schema.node import Schema

_DEEPEST = 200
_INT_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


class TypeMismatch(ValueError):
    """A value is not of its field's type; the message is that of Go's decoder."""


def conform(obj: dict[str, Any], schema: Schema, path: str = "") -> list[str]:
    """Make an object what its type can hold, in place.

    Args:
        path: where the object is, for what is told of it.

    Returns:
        The paths of unknown fields, which are dropped: `spec.foo`, `spec.containers[0].bar`.

    Raises:
        TypeMismatch
    """
    unknown: list[str] = []
    _object(obj, schema, schema.ref, path, unknown, 0)
    return unknown


def _object(obj: dict[str, Any], schema: Schema, owner: str, path: str, unknown: list[str], depth: int) -> None:
    if depth > _DEEPEST:
        raise TypeMismatch("exceeded max depth")
    properties = schema.properties
    owner = schema.ref or owner
    dropped: list[str] = []
    for name, value in obj.items():
        child = properties.get(name)
        if child is None:
            child = schema.additional
            if child is None:
                if schema.preserve_unknown or schema.is_any:
                    continue
                unknown.append(f"{path}.{name}" if path else name)
                dropped.append(name)
                continue
            if value is None and child.type == "string" and not child.format:
                obj[name] = ""
                continue
        if value is None:
            dropped.append(name)
            continue
        kind = child.type
        if kind == "string":
            if type(value) is not str:
                raise _mismatch(value, child, owner, f"{path}.{name}" if path else name)
            if child.format:
                _check_format(value, child.format, f"{path}.{name}" if path else name)
        elif kind == "object":
            if type(value) is not dict:
                raise _mismatch(value, child, owner, f"{path}.{name}" if path else name)
            _object(value, child, owner, f"{path}.{name}" if path else name, unknown, depth + 1)
        elif kind == "array":
            if type(value) is not list:
                raise _mismatch(value, child, owner, f"{path}.{name}" if path else name)
            _array(value, child, owner, f"{path}.{name}" if path else name, unknown, depth + 1)
        else:
            obj[name] = _scalar(value, child, owner, f"{path}.{name}" if path else name)
    for name in dropped:
        del obj[name]


def _array(items: list[Any], schema: Schema, owner: str, path: str, unknown: list[str], depth: int) -> None:
    child = schema.items
    if child is None:
        return
    if child.type == "string" and not child.format:
        for index, value in enumerate(items):
            if value is None:
                items[index] = ""
            elif type(value) is not str:
                raise _mismatch(value, child, owner, path)
        return
    for index, value in enumerate(items):
        if child.type == "object":
            if value is None:
                items[index] = {}
                continue
            if type(value) is not dict:
                raise _mismatch(value, child, owner, path)
            _object(value, child, owner, f"{path}[{index}]", unknown, depth + 1)
        elif child.type == "array":
            if type(value) is not list:
                raise _mismatch(value, child, owner, path)
            _array(value, child, owner, f"{path}[{index}]", unknown, depth + 1)
        elif child.type == "string":
            if type(value) is not str:
                raise _mismatch(value, child, owner, path)
            _check_format(value, child.format, path)
        else:
            items[index] = _scalar(value, child, owner, path)


def _scalar(value: Any, schema: Schema, owner: str, path: str) -> Any:
    kind = schema.type
    if kind == "integer":
        if type(value) is not int:
            raise _mismatch(value, schema, owner, path)
        low, high = _INT_RANGES.get(schema.format, _INT_RANGES["int64"])
        if not low <= value <= high:
            raise _mismatch(value, schema, owner, path)
    elif kind == "boolean":
        if type(value) is not bool:
            raise _mismatch(value, schema, owner, path)
    elif kind == "number":
        if type(value) not in (int, float):
            raise _mismatch(value, schema, owner, path)
    elif schema.format == "quantity":
        try:
            return quantity.canonical(value)
        except quantity.BadQuantity as error:
            raise TypeMismatch(str(error)) from None
    elif schema.int_or_string and type(value) not in (int, str):
        raise _mismatch(value, schema, owner, path)
    return value


def _check_format(value: str, format: str, path: str) -> None:
    if format == "date-time":
        try:
            times.parse_time(value)
        except ValueError as error:
            raise TypeMismatch(str(error)) from None
    elif format == "byte":
        try:
            binascii.a2b_base64(value, strict_mode=True)
        except binascii.Error:
            raise TypeMismatch(f"illegal base64 data at input byte {_bad_byte(value)}") from None


def _bad_byte(value: str) -> int:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
    return next((index for index, char in enumerate(value) if char not in alphabet), len(value) // 4 * 4)


_INDEX = re.compile(r"\[\d+\]")
_GO_TYPES = {"string": "string", "boolean": "bool", "integer": "int64", "number": "float64"}


def _mismatch(value: Any, schema: Schema, owner: str, path: str) -> TypeMismatch:
    if isinstance(value, bool):
        found = "bool"
    elif isinstance(value, int | float):
        found = f"number {value}" if schema.type == "integer" else "number"
    else:
        found = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else "string"
    wanted = schema.format if schema.format in _INT_RANGES else _GO_TYPES.get(schema.type, "")
    if not wanted:
        name = schema.ref.rpartition(".")[2]
        wanted = (
            f"v1.{name}" if name else {"object": "map[string]string", "array": "[]string"}.get(schema.type, "string")
        )
    field = f"{owner.rpartition('.')[2]}.{_INDEX.sub('', path)}"
    return TypeMismatch(f"json: cannot unmarshal {found} into Go struct field {field} of type {wanted}")
