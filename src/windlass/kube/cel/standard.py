"""CEL's standard library: operators, conversions, strings, times.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from windlass.kube.cel.errors import EvaluationError
from windlass.kube.cel.functions import Table, add
from windlass.kube.cel.values import (
    INT_MAX,
    INT_MIN,
    TypeValue,
    checked,
    duration,
    is_equal,
    timestamp,
    type_name,
    unsigned,
)
from windlass.kube.schema import patterns


def _text_cost(*arguments: Any) -> int:
    """A tenth of the characters that are read."""
    return sum(len(each) for each in arguments if isinstance(each, str | bytes)) // 10


def _list_cost(*arguments: Any) -> int:
    return sum(len(each) for each in arguments if isinstance(each, list | dict))


def _both_cost(left: Any, right: Any) -> int:
    if isinstance(left, str | bytes) and isinstance(right, str | bytes):
        return min(len(left), len(right)) // 10
    return min(_list_cost(left), _list_cost(right))


def _divide(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _modulo(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("modulus by zero")
    return int(math.fmod(left, right)) if abs(left) < 1 << 50 else left - _divide(left, right) * right


def _float_divide(left: float, right: float) -> float:
    if right == 0:
        if left == 0 or math.isnan(left):
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1.0, right)
    return left / right


def table() -> Table:
    """A new table of the library."""
    found: Table = {}

    def on(signature: str, call: Callable[..., Any], cost: Any = None) -> None:
        add(found, signature, call, cost)

    for kind, wrap in (("int", checked), ("uint", unsigned)):
        on(f"_+_({kind}, {kind}) -> {kind}", lambda a, b, wrap=wrap: wrap(a + b))
        on(f"_-_({kind}, {kind}) -> {kind}", lambda a, b, wrap=wrap: wrap(a - b))
        on(f"_*_({kind}, {kind}) -> {kind}", lambda a, b, wrap=wrap: wrap(a * b))
        on(f"_/_({kind}, {kind}) -> {kind}", lambda a, b, wrap=wrap: wrap(_divide(a, b)))
        on(f"_%_({kind}, {kind}) -> {kind}", lambda a, b, wrap=wrap: wrap(_modulo(a, b)))
    on("_+_(double, double) -> double", lambda a, b: a + b)
    on("_-_(double, double) -> double", lambda a, b: a - b)
    on("_*_(double, double) -> double", lambda a, b: a * b)
    on("_/_(double, double) -> double", _float_divide)
    on("_+_(string, string) -> string", lambda a, b: a + b, _text_cost)
    on("_+_(bytes, bytes) -> bytes", lambda a, b: a + b, _text_cost)
    on("_+_(list(A), list(A)) -> list(A)", lambda a, b: a + b)
    on("_+_(timestamp, duration) -> timestamp", _add_time)
    on("_+_(duration, timestamp) -> timestamp", lambda a, b: _add_time(b, a))
    on("_+_(duration, duration) -> duration", lambda a, b: a + b)
    on("_-_(timestamp, timestamp) -> duration", lambda a, b: a - b)
    on("_-_(timestamp, duration) -> timestamp", lambda a, b: _add_time(a, -b))
    on("_-_(duration, duration) -> duration", lambda a, b: a - b)
    on("-_(int) -> int", lambda a: checked(-a))
    on("-_(double) -> double", lambda a: -a)
    on("!_(bool) -> bool", lambda a: not a)
    on("_==_(A, A) -> bool", is_equal, _both_cost)
    on("_!=_(A, A) -> bool", lambda a, b: not is_equal(a, b), _both_cost)
    numbers = ("int", "uint", "double")
    pairs = [(a, b) for a in numbers for b in numbers]
    pairs += [(each, each) for each in ("bool", "string", "bytes", "timestamp", "duration")]
    for left, right in pairs:
        on(f"_<_({left}, {right}) -> bool", lambda a, b: a < b, _both_cost)
        on(f"_<=_({left}, {right}) -> bool", lambda a, b: a <= b, _both_cost)
        on(f"_>_({left}, {right}) -> bool", lambda a, b: a > b, _both_cost)
        on(f"_>=_({left}, {right}) -> bool", lambda a, b: a >= b, _both_cost)
    on("@in(A, list(A)) -> bool", lambda a, b: any(is_equal(a, each) for each in b), lambda a, b: len(b))
    on("@in(A, map(A, B)) -> bool", lambda a, b: a in b)
    _add_sizes(on)
    _add_conversions(on)
    _add_strings(on)
    _add_times(on)
    on("type(A) -> type", lambda a: TypeValue(type_name(a)))
    on("dyn(A) -> dyn", lambda a: a)
    return found


def _add_sizes(on: Callable[..., None]) -> None:
    for kind in ("string", "bytes", "list(A)", "map(A, B)"):
        on(f"size({kind}) -> int", len)
        on(f"{kind}.size() -> int", len)


def _add_conversions(on: Callable[..., None]) -> None:
    on("int(int) -> int", lambda a: a)
    on("int(uint) -> int", lambda a: checked(int(a)))
    on("int(double) -> int", _int_of_double)
    on("int(string) -> int", _int_of_text)
    on("int(timestamp) -> int", lambda a: int(a.timestamp()))
    on("uint(uint) -> uint", lambda a: a)
    on("uint(int) -> uint", unsigned)
    on("uint(double) -> uint", lambda a: unsigned(_int_of_double(a)))
    on("uint(string) -> uint", lambda a: unsigned(_number(a)))
    on("double(double) -> double", lambda a: a)
    on("double(int) -> double", float)
    on("double(uint) -> double", float)
    on("double(string) -> double", _double)
    on("string(string) -> string", lambda a: a)
    on("string(int) -> string", str)
    on("string(uint) -> string", lambda a: str(int(a)))
    on("string(double) -> string", _show_double)
    on("string(bool) -> string", lambda a: "true" if a else "false")
    on("string(bytes) -> string", _decode, _text_cost)
    on("string(timestamp) -> string", _show_time)
    on("string(duration) -> string", _show_duration)
    on("bytes(string) -> bytes", lambda a: a.encode(), _text_cost)
    on("bytes(bytes) -> bytes", lambda a: a)
    on("bool(bool) -> bool", lambda a: a)
    on("bool(string) -> bool", _bool)
    on("timestamp(string) -> timestamp", timestamp)
    on("timestamp(timestamp) -> timestamp", lambda a: a)
    on("timestamp(int) -> timestamp", lambda a: datetime.datetime.fromtimestamp(a, datetime.UTC))
    on("duration(string) -> duration", duration)
    on("duration(duration) -> duration", lambda a: a)


def _int_of_double(number: float) -> int:
    if not math.isfinite(number) or not INT_MIN < number < INT_MAX:
        raise EvaluationError("integer overflow")
    return int(number)


def _number(text: str) -> int:
    try:
        if len(text) > 30:
            raise ValueError(text)
        return int(text)
    except ValueError:
        raise EvaluationError(f"cannot convert {text!r} to a number") from None


def _int_of_text(text: str) -> int:
    return checked(_number(text))


def _double(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise EvaluationError(f"cannot convert {text!r} to a double") from None


def _show_double(number: float) -> str:
    if number.is_integer() and abs(number) < 1e21:
        return str(int(number))
    return repr(number)


def _bool(text: str) -> bool:
    if text in ("true", "True", "TRUE", "t", "T", "1"):
        return True
    if text in ("false", "False", "FALSE", "f", "F", "0"):
        return False
    raise EvaluationError(f"cannot convert {text!r} to a bool")


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None


def _show_time(moment: datetime.datetime) -> str:
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if moment.microsecond:
        text += f".{moment.microsecond:06}".rstrip("0")
    return f"{text}Z"


def _show_duration(span: datetime.timedelta) -> str:
    seconds = span.total_seconds()
    return f"{int(seconds)}s" if seconds.is_integer() else f"{seconds}s"


def _add_time(moment: datetime.datetime, span: datetime.timedelta) -> datetime.datetime:
    try:
        return moment + span
    except OverflowError:
        raise EvaluationError("timestamp overflow") from None


def _add_strings(on: Callable[..., None]) -> None:
    on("string.contains(string) -> bool", lambda a, b: b in a, _text_cost)
    on("string.startsWith(string) -> bool", lambda a, b: a.startswith(b), lambda a, b: len(b) // 10)
    on("string.endsWith(string) -> bool", lambda a, b: a.endswith(b), lambda a, b: len(b) // 10)
    on("string.matches(string) -> bool", _matches, _text_cost)
    on("matches(string, string) -> bool", _matches, _text_cost)


def _matches(text: str, pattern: str) -> bool:
    try:
        return patterns.matches(pattern, text)
    except patterns.BadPattern as error:
        raise EvaluationError(str(error)) from None


def _zone(name: str) -> datetime.tzinfo:
    if name[:1] in "+-" or (name[:2].isdigit() and ":" in name):
        sign = -1 if name[:1] == "-" else 1
        hours, _, minutes = name.lstrip("+-").partition(":")
        if hours.isdigit() and minutes.isdigit():
            return datetime.timezone(sign * datetime.timedelta(hours=int(hours), minutes=int(minutes)))
    try:
        if name.startswith("/") or ".." in name:
            raise ValueError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise EvaluationError(f"unknown time zone {name}") from None


_PARTS: dict[str, Callable[[datetime.datetime], int]] = {
    "getFullYear": lambda t: t.year,
    "getMonth": lambda t: t.month - 1,
    "getDate": lambda t: t.day,
    "getDayOfMonth": lambda t: t.day - 1,
    "getDayOfWeek": lambda t: t.isoweekday() % 7,
    "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
    "getHours": lambda t: t.hour,
    "getMinutes": lambda t: t.minute,
    "getSeconds": lambda t: t.second,
    "getMilliseconds": lambda t: t.microsecond // 1000,
}


def _add_times(on: Callable[..., None]) -> None:
    for name, part in _PARTS.items():
        on(f"timestamp.{name}() -> int", part)
        on(f"timestamp.{name}(string) -> int", lambda t, zone, part=part: part(t.astimezone(_zone(zone))))
    on("duration.getHours() -> int", lambda d: int(d.total_seconds() / 3600))
    on("duration.getMinutes() -> int", lambda d: int(d.total_seconds() / 60))
    on("duration.getSeconds() -> int", lambda d: int(d.total_seconds()))
    on("duration.getMilliseconds() -> int", lambda d: int(d / datetime.timedelta(milliseconds=1)) % 1000)
