"""Moments and durations in the words of the Engine API.

Inside the engine a moment is an `int`, nanoseconds since the epoch, and 0 is "never". At the edge it is RFC 3339 with
up to nine fractional digits and no trailing zeros, as Go prints it (`0001-01-01T00:00:00Z` is "never"), and in `ps` a
rounded length such as "About an hour".
"""

from __future__ import annotations

import calendar
import re
import time

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
NEVER = "0001-01-01T00:00:00Z"

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?)?(Z|z|[+-]\d\d:\d\d)?", re.ASCII
)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}


def rfc3339(moment: int) -> str:
    """`moment` (nanoseconds since the epoch, UTC) as Go's RFC3339Nano; 0 is Go's zero time."""
    if moment == 0:
        return NEVER
    seconds, nanoseconds = divmod(moment, SECOND)
    year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
    text = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"
    if nanoseconds:
        text += f".{nanoseconds:09d}".rstrip("0")
    return text + "Z"


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time, which may be cut after the day, hour or minute.

    A time without a zone is UTC. The zero time is 0. Raises `ValueError`.
    """
    if text.startswith("0001-01-01T00:00:00"):
        return 0
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"cannot parse {text!r} as a time")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(max(year, 1), month)[1]):
        raise ValueError(f"cannot parse {text!r} as a time: day out of range")
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"cannot parse {text!r} as a time: hour out of range")
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if (zone := match[8]) and zone not in "Zz":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * SECOND + int((match[7] or "").ljust(9, "0"))


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as `1h30m`, `-1.5s`, `0`. Raises `ValueError`."""
    unsigned = text[1:] if text[:1] in {"+", "-"} else text
    if unsigned == "0":
        return 0
    total, position = 0.0, 0
    while match := _DURATION_PART.match(unsigned, position):
        total += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    if position == 0 or position != len(unsigned):
        raise ValueError(f"time: invalid duration {text!r}")
    return round(-total if text[0] == "-" else total)


def parse_moment(text: str, *, now: int) -> int:
    """A filter's moment: a duration before `now`, RFC 3339, or seconds since the epoch with a fraction.

    Raises `ValueError` with dockerd's words.
    """
    if not text.strip():
        raise ValueError("failed to parse value as time or duration: value is empty")
    if text != "0":
        try:
            return now - parse_duration(text)
        except ValueError:
            pass
    try:
        return parse_rfc3339(text)
    except ValueError:
        if "-" in text:
            raise
    seconds, _, fraction = text.partition(".")
    if not (seconds.isascii() and seconds.isdigit()) or (fraction and not (fraction.isascii() and fraction.isdigit())):
        raise ValueError(f'failed to parse value as time or duration: invalid seconds "{seconds}": invalid syntax')
    return int(seconds) * SECOND + int(fraction[:9].ljust(9, "0"))


def human_duration(nanoseconds: int) -> str:
    """How `docker ps` says a length of time."""
    seconds = nanoseconds // SECOND
    hours = int(nanoseconds / (3600 * SECOND) + 0.5)
    days = 24
    for below, words in (
        (1, "Less than a second"),
        (2, "1 second"),
        (60, f"{seconds} seconds"),
        (120, "About a minute"),
        (3600, f"{seconds // 60} minutes"),
    ):
        if seconds < below:
            return words
    for limit, words in (
        (2, "About an hour"),
        (48, f"{hours} hours"),
        (days * 7 * 2, f"{hours // days} days"),
        (days * 30 * 2, f"{hours // days // 7} weeks"),
        (days * 365 * 2, f"{hours // days // 30} months"),
    ):
        if hours < limit:
            return words
    return f"{hours // days // 365} years"
