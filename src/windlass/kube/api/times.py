"""Times and durations as objects state them.

    2026-01-02T15:04:05Z              metav1.Time, whole seconds
    2026-01-02T15:04:05.123456Z       metav1.MicroTime
    1h30m0s                           metav1.Duration, Go's form

Source: RFC 3339; https://pkg.go.dev/time#ParseDuration
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(Z|z|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(r"([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)", re.ASCII)
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_NANOS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time.

    Raises:
        ValueError: it is none.
    """
    seconds, nanos = parse_nanos(text)
    return seconds + nanos / 10**9


def parse_nanos(text: str) -> tuple[int, int]:
    """The same as whole seconds and nanoseconds, exactly.

    Raises:
        ValueError
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"')
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    moment = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC)
    seconds = (moment - _EPOCH) // _SECOND + (int(second) - min(int(second), 59))
    if zone not in ("Z", "z"):
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds, int(fraction.ljust(9, "0")) if fraction else 0


def format_time(seconds: float) -> str:
    """metav1.Time."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()[:19] + "Z"


def format_micro_time(seconds: float) -> str:
    """metav1.MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26] + "Z"


def parse_duration(text: str) -> float:
    """Seconds of a duration in Go's form.

    Raises:
        ValueError: it is none.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'time: invalid duration "{text}"')
    sign, body = match.groups()
    nanos = sum(float(number) * _NANOS[unit] for number, unit in _PART.findall(body))
    if nanos > 2**63:
        raise ValueError(f'time: invalid duration "{text}"')
    return (-nanos if sign == "-" else nanos) / 10**9


def format_duration(seconds: float) -> str:
    """A duration in Go's form."""
    nanos = round(seconds * 10**9)
    if nanos == 0:
        return "0s"
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    if nanos < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if nanos >= size:
                return f"{sign}{_trim(nanos, size)}{unit}"
    minutes, rest = divmod(nanos, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_trim(rest, 10**9)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _trim(nanos: int, size: int) -> str:
    whole, rest = divmod(nanos, size)
    digits = str(rest).rjust(len(str(size)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def human_duration(seconds: float) -> str:
    """An age as kubectl shows it: two units where they say something, one where they are large.

    Source: k8s.io/apimachinery/pkg/util/duration (its thresholds are facts).
    """
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"
