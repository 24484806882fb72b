"""Typed decoding of JSON documents from clients: shapes as tables, and Go's behaviour where clients can see it.

A shape is a sequence of `Field`s. `decode(document, shape)` returns a new dictionary with every field of the shape in
its order, absent ones at their zero value (a list or map that was not given is `None`, as in dockerd's answers, a field
that Go marks `omitempty` is left out), and nothing that the shape does not know. A value of the wrong type raises
`InvalidParameter` with the message of Go's decoder, which names the field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from windlass.errors import InvalidParameter

Document = dict[str, Any]
Decoder = Callable[[Any, str], Any]


class Field(NamedTuple):
    """One field of a shape: its name, how its value is read, what stands for an absent one, and when it is left out."""

    name: str
    decode: Decoder
    zero: Any = None
    omit: Literal["never", "absent", "empty"] = "never"


Shape = Sequence[Field]


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int():
            return "number"
        case float():
            return f"number {value}"
        case list():
            return "array"
        case _:
            return "object"


def mismatch(value: Any, path: str, wanted: str) -> InvalidParameter:
    """The error for a value of the wrong type."""
    return InvalidParameter(
        f"invalid JSON: json: cannot unmarshal {_kind(value)} into Go struct field {path} of type {wanted}"
    )


def string(value: Any, path: str) -> str:
    """A JSON string."""
    if type(value) is not str:
        raise mismatch(value, path, "string")
    return value


def boolean(value: Any, path: str) -> bool:
    """A JSON boolean."""
    if type(value) is not bool:
        raise mismatch(value, path, "bool")
    return value


def integer(*, bits: int = 64, signed: bool = True) -> Decoder:
    """A JSON number without fraction that fits the given width."""
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    name = f"{'' if signed else 'u'}int{bits}"

    def decode(value: Any, path: str) -> int:
        if type(value) is not int:
            if type(value) is not float or not value.is_integer():
                raise mismatch(value, path, name)
            value = int(value)
        if not low <= value < high:
            raise InvalidParameter(
                f"invalid JSON: json: cannot unmarshal number {value} into Go struct field {path} of type {name}"
            )
        return int(value)

    return decode


int64 = integer()


def list_of(item: Decoder, wanted: str = "[]string") -> Decoder:
    """A JSON array."""

    def decode(value: Any, path: str) -> list[Any]:
        if type(value) is not list:
            raise mismatch(value, path, wanted)
        return [item(element, path) for element in value]

    return decode


strings = list_of(string)


def string_or_strings(value: Any, path: str) -> list[str]:
    """A JSON array of strings, or one string that stands for an array of one."""
    if type(value) is str:
        return [value]
    result: list[str] = strings(value, path)
    return result


def map_of(item: Decoder, wanted: str = "map[string]string") -> Decoder:
    """A JSON object with arbitrary names."""

    def decode(value: Any, path: str) -> Document:
        if type(value) is not dict:
            raise mismatch(value, path, wanted)
        return {key: None if element is None else item(element, path) for key, element in value.items()}

    return decode


def string_map(value: Any, path: str) -> dict[str, str]:
    """A JSON object of strings; `null` is an empty string."""
    if type(value) is not dict:
        raise mismatch(value, path, "map[string]string")
    return {key: "" if element is None else string(element, path) for key, element in value.items()}


def name_set(value: Any, path: str) -> dict[str, Document]:
    """A JSON object of which only the names count."""
    if type(value) is not dict:
        raise mismatch(value, path, "map[string]struct {}")
    for element in value.values():
        if element is not None and type(element) is not dict:
            raise mismatch(element, path, "struct {}")
    return {key: {} for key in value}


def struct(shape: Shape, wanted: str) -> Decoder:
    """A JSON object with known fields."""

    def read(value: Any, path: str) -> Document:
        if type(value) is not dict:
            raise mismatch(value, path, wanted)
        return decode(value, shape, path)

    return read


def decode(document: Document, shape: Shape, path: str) -> Document:
    """The known fields of `document`, typed, in the shape's order."""
    result: Document = {}
    for name, read, zero, omit in shape:
        value = document.get(name)
        if value is not None:
            value = read(value, f"{path}.{name}")
            if value or omit != "empty":
                result[name] = value
        elif omit == "never":
            result[name] = zero() if callable(zero) else zero
    return result
