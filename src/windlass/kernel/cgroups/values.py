"""Strict, bounded parsers for what control files hold and what people write into them.

    single value     `max` or a number                          memory.max, pids.max
    flat keyed       `KEY VALUE` lines                          memory.stat, cpu.stat
    nested keyed     `KEY SUB=VALUE SUB=VALUE` lines            io.stat
    operation lists  `MAJOR:MINOR OPERATION VALUE` lines        blkio.throttle.io_service_bytes_recursive
    list of numbers  `0-3,8`                                    cpuset.cpus (Linux: cpuset(7), "List format")

All raise `ValueError` on text of any other form. See Documentation/admin-guide/cgroup-v2.rst, "Interface Files".
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

UNLIMITED_V1 = 0x7FFFFFFFFFFFF000
"""What v1 shows for "no limit" on a machine with 4 KiB pages: the largest multiple of a page that a long holds."""

LARGEST_CPU = 8191
"""The kernel's own bound is CONFIG_NR_CPUS <= 8192. `0-4000000000` must not become four billion numbers."""

_NUMBER = re.compile(r"[0-9]{1,20}")
_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
_DEVICE = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")


class Operation(NamedTuple):
    """A line of a block device's figures: the device, `Read`/`Write`/… (v1) or `read`/`write` (v2), the figure."""

    major: int
    minor: int
    op: str
    value: int


def parse_number(text: str) -> int:
    """A non-negative decimal number, surrounding white space allowed."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"not a number: {text[:40]!r}")
    return int(text)


def parse_limit(text: str) -> int | None:
    """A number, or None for "no limit" (`max`, `-1`, or v1's largest value)."""
    text = text.strip()
    if text in {"max", "-1"}:
        return None
    number = parse_number(text)
    return None if number >= UNLIMITED_V1 else number


def parse_flat(text: str) -> dict[str, int]:
    """`KEY VALUE` lines. Values that are not plain numbers are an error; an empty file is an empty dict."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(" ")
        if not key or not separator or not value.isascii() or not value.removeprefix("-").isdigit():
            raise ValueError(f"not a key and a number: {line[:80]!r}")
        found[key] = int(value)
    return found


def parse_nested(text: str) -> dict[str, dict[str, str]]:
    """`KEY SUB=VALUE …` lines, values as text (they may be `max`). A key may have none (io.stat prints such)."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        if not key:
            raise ValueError(f"not a key with values: {line[:80]!r}")
        values = found.setdefault(key, {})
        for part in rest.split():
            name, separator, value = part.partition("=")
            if not name or not separator:
                raise ValueError(f"not a name=value pair: {part[:80]!r}")
            values[name] = value
    return found


def parse_device(text: str) -> tuple[int, int]:
    """`MAJOR:MINOR`."""
    match = _DEVICE.fullmatch(text)
    if not match:
        raise ValueError(f"not a device number: {text[:40]!r}")
    return int(match[1]), int(match[2])


def parse_operations(text: str) -> tuple[Operation, ...]:
    """v1's blkio figures. The closing `Total N` line, which belongs to no device, is left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "Total":
            continue
        if len(words) != 3:
            raise ValueError(f"not a device, an operation and a number: {line[:80]!r}")
        major, minor = parse_device(words[0])
        found.append(Operation(major, minor, words[1], parse_number(words[2])))
    return tuple(found)


def parse_list(text: str, *, largest: int = LARGEST_CPU) -> frozenset[int]:
    """A list of numbers and ranges (`0-2,7`) as a set; nothing in it exceeds `largest`. Empty text is the empty set."""
    found: set[int] = set()
    text = text.strip()
    if not text:
        return frozenset()
    # A set cannot grow past `largest`, but the text can: 65,536 characters name every CPU that there may be.
    if len(text) > 65536:
        raise ValueError("the list is too long")
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if not match:
            raise ValueError(f"not a number or a range: {part[:40]!r}")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if first > last:
            raise ValueError(f"the range runs backwards: {part!r}")
        if last > largest:
            raise ValueError(f"value out of range, maximum is {largest}")
        found.update(range(first, last + 1))
    return frozenset(found)


def format_list(numbers: frozenset[int] | set[int]) -> str:
    """The shortest list that `parse_list` reads as `numbers`."""
    parts: list[str] = []
    ordered = sorted(numbers)
    start = 0
    for index, number in enumerate(ordered):
        if index + 1 < len(ordered) and ordered[index + 1] == number + 1:
            continue
        parts.append(str(number) if start == index else f"{ordered[start]}-{number}")
        start = index + 1
    return ",".join(parts)


def weight_from_shares(shares: int) -> int:
    """v2's cpu.weight (1 to 10,000) for v1's cpu.shares (2 to 262,144).

    The curve that crun 1.23 and runc 1.3.2 agreed on: a quadratic in log2(shares) through the three points that matter,
    the smallest, the default (1024 becomes 100) and the largest. The straight line used before made 39 of the default.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    logarithm = math.log2(shares)
    return math.ceil(10 ** (logarithm * logarithm / 612 + 125 * logarithm / 612 - 7 / 34))


def io_weight_from_blkio(weight: int) -> int:
    """v2's io.weight (1 to 10,000) for v1's blkio.weight (10 to 1,000)."""
    return 1 + (weight - 10) * 9999 // 990
