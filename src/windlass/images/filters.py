"""Filters of images as dockerd reads them: times, labels, flags, patterns of names. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from windlass.errors import InvalidParameter
from windlass.images.image import Image

Filters = Mapping[str, Sequence[str]]

_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)
_UNIX: Final = re.compile(r"(-?\d+)(?:\.(\d{1,9}))?", re.ASCII)
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_NANO: Final = 10**9


def parse_duration(text: str) -> int | None:
    """A duration as Go writes it (`1h30m`, `-2s`) in nanoseconds; None where it is none."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    parts = _DURATION_PART.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        return None
    return sign * sum(round(float(number) * _UNITS[unit]) for number, unit in parts)


def parse_time(text: str) -> int | None:
    """An RFC 3339 time, or the beginning of one (then in UTC), in nanoseconds since the epoch; None if it is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return None
    offset = 0
    if zone and zone != "Z":
        offset = (int(zone[1:3]) * 60 + int(zone[4:6])) * 60 * (1 if zone[0] == "+" else -1)
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)).days * 86400 + moment.hour * 3600 + moment.minute * 60
    return (whole + moment.second - offset) * _NANO + int((fraction or "0").ljust(9, "0"))


def parse_moment(text: str) -> int:
    """The value of `until`: a duration back from now, a Unix time or an RFC 3339 time; nanoseconds since the epoch.

    Raises InvalidParameter.
    """
    if (duration := parse_duration(text)) is not None:
        return time.time_ns() - duration
    if (moment := parse_time(text)) is not None:
        return moment
    if match := _UNIX.fullmatch(text):
        return int(match[1]) * _NANO + int((match[2] or "0").ljust(9, "0"))
    raise InvalidParameter(f'failed to parse value as time or duration: "{text}"')


def parse_until(filters: Filters) -> int | None:
    """The only `until` of some filters, if there is one. Raises InvalidParameter."""
    values = filters.get("until") or ()
    if len(values) > 1:
        raise InvalidParameter("more than one until filter specified")
    return parse_moment(values[0]) if values else None


def parse_flag(filters: Filters, name: str, default: bool) -> bool:
    """A filter that is true or false. Raises InvalidParameter."""
    values = list(filters.get(name) or ())
    if not values:
        return default
    found = {_FLAGS.get(value) for value in values}
    if len(found) != 1 or None in found:
        raise InvalidParameter(f"invalid filter '{name}={values}'".replace('"', "").replace("'[", "['"))
    return bool(found.pop())


_FLAGS: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def created_ns(image: Image) -> int:
    """When an image was made, nanoseconds since the epoch; 0 where it does not say."""
    return parse_time(image.created) or 0


def is_labelled(image: Image, filters: Filters) -> bool:
    """Whether an image has all labels that `label` asks for and not all that `label!` excludes."""
    labels = image.execution.get("Labels") or {}

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    wanted, excluded = filters.get("label") or (), filters.get("label!") or ()
    return all(map(has, wanted)) and not (excluded and all(map(has, excluded)))


@lru_cache(256)
def _pattern(text: str) -> re.Pattern[str]:
    """Go's path.Match as a regular expression. Raises InvalidParameter for a pattern that Go refuses."""
    out, place = [], 0
    while place < len(text):
        letter = text[place]
        place += 1
        if letter == "*":
            out.append("[^/]*")
        elif letter == "?":
            out.append("[^/]")
        elif letter == "\\" and place < len(text):
            out.append(re.escape(text[place]))
            place += 1
        elif letter == "[":
            group, place = _group(text, place)
            out.append(group)
        elif letter == "\\":
            raise InvalidParameter("syntax error in pattern")
        else:
            out.append(re.escape(letter))
    return re.compile("".join(out), re.DOTALL)


def _group(text: str, place: int) -> tuple[str, int]:
    """A character class, from behind its bracket."""
    inverted = text[place : place + 1] == "^"
    place += inverted
    ranges: list[str] = []
    while not (text[place : place + 1] == "]" and ranges):
        low, place = _letter(text, place)
        high = low
        if text[place : place + 1] == "-":
            high, place = _letter(text, place + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")
    inside = "".join(ranges)
    if not inside:
        return ("." if inverted else "(?!)"), place + 1
    return f"[{'^' if inverted else ''}{inside}]", place + 1


def _letter(text: str, place: int) -> tuple[str, int]:
    letter = text[place : place + 1]
    if letter == "\\":
        place += 1
        letter = text[place : place + 1]
    elif letter in ("-", "]"):
        letter = ""
    if not letter:
        raise InvalidParameter("syntax error in pattern")
    return letter, place + 1


def matches_name(pattern: str, familiar: str) -> bool:
    """Whether `reference` lets a name through: the pattern is for the whole short name or for its repository.

    Raises InvalidParameter.
    """
    compiled = _pattern(pattern)
    return any(compiled.fullmatch(text) for text in (familiar, repository_of(familiar)))


def repository_of(name: str) -> str:
    """A name without its tag or digest."""
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
