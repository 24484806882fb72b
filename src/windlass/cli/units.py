"""Sizes, durations and times, in and out, as docker writes them (docker/go-units)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

_BYTES = re.compile(r"^(\d+(?:\.\d+)*) ?([kKmMgGtTpP])?(?:i?[bB])?$")
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_TIME = re.compile(r"^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$")


def parse_bytes(text: str) -> int:
    """`64m`, `1.5g`, `1024`: bytes, in powers of 1024. Raises ValueError."""
    if text == "-1":
        return -1
    match = _BYTES.match(text)
    if not match:
        raise ValueError(f"invalid size: '{text}'")
    factor = 1024 ** (" kmgtp".index(match[2].lower()) if match[2] else 0)
    return int(float(match[1]) * factor)


def parse_duration(text: str) -> int:
    """A Go duration (`1m30s`, `500ms`): nanoseconds. Raises ValueError."""
    if text == "0":
        return 0
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text)
    total, position = 0.0, 0
    for match in _DURATION.finditer(body):
        if match.start() != position:
            break
        total += float(match[1]) * _NANOSECONDS[match[2]]
        position = match.end()
    if not body or position != len(body):
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * int(total)


def _scaled(size: float, base: float, units: list[str]) -> tuple[float, str]:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return size, units[index]


def human_size(size: float, precision: int = 3) -> str:
    """Bytes in powers of 1000 with `precision` significant digits: `4.26MB`."""
    value, unit = _scaled(size, 1000.0, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
    return f"{value:.{precision}g}{unit}" if value < 1000 else f"{value:.4g}{unit}"


def bytes_size(size: float) -> str:
    """Bytes in powers of 1024: `1.5MiB`."""
    value, unit = _scaled(size, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
    return f"{value:.4g}{unit}"


def human_duration(seconds: float) -> str:
    """How long ago or for how long, in one unit: `2 minutes`."""
    if seconds < 1:
        return "Less than a second"
    whole = int(seconds)
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, divisor, unit in ((48, 1, "hours"), (24 * 7 * 2, 24, "days"), (24 * 30 * 2, 24 * 7, "weeks")):
        if hours < limit:
            return f"{hours // divisor} {unit}"
    return f"{hours // (24 * 30)} months" if hours < 24 * 365 * 2 else f"{hours // (24 * 365)} years"


def parse_time(text: str) -> float:
    """RFC 3339 with nanoseconds: seconds since the epoch; 0 for Go's zero time. Raises ValueError."""
    match = _TIME.match(text)
    if not match:
        raise ValueError(f"not a time: {text}")
    if match[1] == "0001":
        return 0.0
    import calendar

    whole = calendar.timegm((*(int(match[index]) for index in range(1, 7)), 0, 0, 0))
    fraction = float(f"0.{match[7]}") if match[7] else 0.0
    zone = match[8]
    offset = 0 if zone == "Z" else (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60) * (1 if zone[0] == "+" else -1)
    return whole - offset + fraction


def ago(seconds: float, *, now: Callable[[], float] = time.time) -> str:
    """`3 hours ago` for a time since the epoch."""
    return f"{human_duration(now() - seconds)} ago"


def stamp(seconds: float) -> str:
    """`2026-11-20 19:42:00 +0000 UTC`, as docker's tables write a time in full."""
    local = time.localtime(seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S %z ", local) + (local.tm_zone or "")


def parse_since(text: str, *, now: Callable[[], float] = time.time) -> str:
    """A Unix time, an RFC 3339 time or a duration back from now, in the API's form (seconds.nanoseconds)."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return text
    try:
        return f"{now() - parse_duration(text) / 1e9:.9f}"
    except ValueError:
        pass
    import datetime

    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'failed to parse value as time or duration: "{text}"') from None
    return f"{when.timestamp():.9f}"
