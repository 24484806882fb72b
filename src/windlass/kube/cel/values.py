"""Values at run time: JSON's, and the few types that CEL adds."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from windlass.kube.cel.errors import EvaluationError
from windlass.kube.cel.syntax import UInt
from windlass.kube.cel.types import BYTES, DURATION, TIMESTAMP, Type

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Optional:
    """A value that may be absent; `value` means something only where `present`."""

    present: bool
    value: Any = None


NONE = Optional(False)


@dataclass(frozen=True, slots=True)
class TypeValue:
    """What `type(x)` gives."""

    name: str


class Opaque:
    """A value of a library's own type (URL, IP, quantity); `type_name` is CEL's name of it."""

    __slots__ = ("type_name", "value")

    def __init__(self, type_name: str, value: Any) -> None:
        self.type_name = type_name
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.type_name == other.type_name and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((self.type_name, self.value))


def type_name(value: Any) -> str:
    """CEL's name of a value's type."""
    if value is None:
        return "null_type"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, UInt):
        return "uint"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "double"
    if isinstance(value, str):
        return "string"
    if isinstance(value, bytes):
        return "bytes"
    if isinstance(value, list):
        return "list"
    if isinstance(value, dict):
        return "map"
    if isinstance(value, datetime.datetime):
        return "google.protobuf.Timestamp"
    if isinstance(value, datetime.timedelta):
        return "google.protobuf.Duration"
    if isinstance(value, Optional):
        return "optional_type"
    if isinstance(value, TypeValue):
        return "type"
    if isinstance(value, Opaque):
        return value.type_name
    return type(value).__name__


def native(value: Any, type: Type) -> Any:
    """A JSON value as its static type wants it: times, durations, bytes, doubles."""
    name = type.name
    if value is None or name in ("dyn", "string", "int", "bool", "object"):
        return value
    if name == "double":
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if name == TIMESTAMP.name and isinstance(value, str):
        return timestamp(value)
    if name == DURATION.name and isinstance(value, str):
        return duration(value)
    if name == BYTES.name and isinstance(value, str):
        import base64

        return base64.b64decode(value)
    if name == "list" and isinstance(value, list) and type.parameters and needs_conversion(type.parameters[0]):
        return [native(item, type.parameters[0]) for item in value]
    if name == "map" and isinstance(value, dict) and type.parameters and needs_conversion(type.parameters[1]):
        return {key: native(item, type.parameters[1]) for key, item in value.items()}
    return value


def needs_conversion(type: Type) -> bool:
    """Whether values of a type are not as JSON has them."""
    if type.name in ("double", TIMESTAMP.name, DURATION.name, BYTES.name):
        return True
    return type.name in ("list", "map") and any(needs_conversion(each) for each in type.parameters)


def timestamp(text: str) -> datetime.datetime:
    """RFC 3339. Raises EvaluationError."""
    from windlass.kube.api import times

    try:
        if len(text) == 10:
            text += "T00:00:00Z"
        return datetime.datetime.fromtimestamp(times.parse_time(text), datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise EvaluationError(f"timestamp: {error}") from None


def duration(text: str) -> datetime.timedelta:
    """Go's form. Raises EvaluationError."""
    from windlass.kube.api import times

    try:
        return datetime.timedelta(seconds=times.parse_duration(text))
    except (ValueError, OverflowError) as error:
        raise EvaluationError(f"duration: {error}") from None


def is_equal(left: Any, right: Any) -> bool:
    """CEL's equality: numbers by value across their types, everything else only within one."""
    left_bool, right_bool = isinstance(left, bool), isinstance(right, bool)
    if left_bool or right_bool:
        return left_bool and right_bool and left == right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, Optional) and isinstance(right, Optional):
        return left.present == right.present and (not left.present or is_equal(left.value, right.value))
    return type(left) is type(right) and bool(left == right)


def checked(number: int) -> int:
    """A signed number of 64 bits. Raises EvaluationError."""
    if not INT_MIN <= number <= INT_MAX:
        raise EvaluationError("integer overflow")
    return number


def unsigned(number: int) -> UInt:
    """An unsigned number of 64 bits. Raises EvaluationError."""
    if not 0 <= number < 1 << 64:
        raise EvaluationError("unsigned integer overflow")
    return UInt(number)
