"""From bytes of a log file to entries, many at a time.

A decoder knows three things about its format: how to decode the whole records at the begin of a buffer, how to count
them, and how to find the last N of a plain file by reading it backwards. It skips what is damaged and never raises
for it.
"""

from __future__ import annotations

import os
from calendar import timegm
from itertools import repeat
from typing import Any, NamedTuple, Protocol

import orjson

from windlass.logs import local
from windlass.logs.entry import LogEntry

_BLOCK = 64 * 1024
_SECOND = 1_000_000_000
_RECORD_START = b'{"log":"'


class Tail(NamedTuple):
    """Where the last N records of a file begin: `skip` records behind `offset`; `found` of N are in this file."""

    offset: int
    skip: int
    found: int


class Decoder(Protocol):
    """What a reader needs to know about a format."""

    def decode(self, buffer: bytes, attrs: dict[str, str] | None) -> tuple[list[LogEntry], int]:
        """The entries at the begin of `buffer`, and how many bytes they take; an unfinished record stays."""

    def count(self, buffer: bytes) -> tuple[int, int]:
        """(number of whole records at the begin of `buffer`, bytes they take)."""

    def header(self, data: bytes) -> tuple[int, dict[str, str] | None]:
        """(length of the file's header, attributes of its records); -1 where `data` does not begin a file of ours."""

    def tail(self, descriptor: int, size: int, number: int) -> Tail:
        """Find the last `number` records of the first `size` bytes of a plain file."""


class JsonDecoder:
    """json-file, as we or dockerd write it."""

    def header(self, data: bytes) -> tuple[int, dict[str, str] | None]:
        """There is none."""
        return 0, None

    def decode(self, buffer: bytes, attrs: dict[str, str] | None) -> tuple[list[LogEntry], int]:
        """One parse for all lines: inside a record a newline is always escaped, so newlines become commas."""
        used = buffer.rfind(b"\n") + 1
        if not used:
            return [], 0
        times: dict[str, int] = {}
        try:
            records = orjson.loads(b"[" + buffer[: used - 1].replace(b"\n", b",") + b"]")
            return [
                LogEntry(
                    record["stream"],
                    times.get(stamp := record["time"]) or _remember_time(times, stamp),
                    record["log"].encode(),
                    record.get("attrs"),
                )
                for record in records
            ], used
        except (ValueError, LookupError, TypeError, AttributeError):
            pass  # a damaged or incomplete record: one by one
        found = (_decode_record(line) for line in buffer[:used].splitlines())
        return [entry for entry in found if entry is not None], used

    def count(self, buffer: bytes) -> tuple[int, int]:
        """Records are lines."""
        return buffer.count(b"\n"), buffer.rfind(b"\n") + 1

    def tail(self, descriptor: int, size: int, number: int) -> Tail:
        """Count newlines backwards; text behind the last one is a torn record and no line."""
        found = -1  # the newline that ends the last record begins none
        end = size
        while end > 0:
            begin = max(0, end - _BLOCK)
            block = os.pread(descriptor, end - begin, begin)
            lines = block.count(b"\n")
            if found + lines >= number:
                at = len(block)
                for _ in range(number - found):
                    at = block.rfind(b"\n", 0, at)
                return Tail(begin + at + 1, 0, number)
            found += lines
            end = begin
        return Tail(0, 0, found + 1)


class LocalDecoder:
    """local, our own blocks."""

    def header(self, data: bytes) -> tuple[int, dict[str, str] | None]:
        """The magic word and the attributes."""
        found = local.read_file_header(data)
        if found is None:
            return -1, None
        length, text = found
        try:
            attrs = orjson.loads(text) if text else None
        except ValueError:
            attrs = None
        return length, attrs

    def decode(self, buffer: bytes, attrs: dict[str, str] | None) -> tuple[list[LogEntry], int]:
        """Block by block; the lines of a block by one split."""
        entries: list[LogEntry] = []
        at = 0
        while (end := _block_end(buffer, at)) > 0:
            stream = local.STREAMS[buffer[at + 4]]
            time_ns = int.from_bytes(buffer[at + 8 : at + local.HEAD_SIZE], "little", signed=True)
            text = buffer[at + local.HEAD_SIZE : end - local.TAIL_SIZE]
            if text.endswith(b"\n"):
                lines = [line + b"\n" for line in text[:-1].split(b"\n")]
                entries.extend(map(LogEntry, repeat(stream), repeat(time_ns), lines, repeat(attrs)))
            else:
                entries.append(LogEntry(stream, time_ns, text, attrs))
            at = end
        return entries, at

    def count(self, buffer: bytes) -> tuple[int, int]:
        """Lines in blocks, and parts."""
        number = at = 0
        while (end := _block_end(buffer, at)) > 0:
            number += _records(buffer, at, end)
            at = end
        return number, at

    def tail(self, descriptor: int, size: int, number: int) -> Tail:
        """Walk back from block to block by the length at the end of each."""
        header = local.read_file_header(os.pread(descriptor, min(size, 1 << 20), 0))
        if header is None:
            return Tail(0, 0, 0)
        end = size
        found = 0
        while end > header[0]:
            length = int.from_bytes(os.pread(descriptor, local.TAIL_SIZE, end - local.TAIL_SIZE), "little")
            begin = end - local.TAIL_SIZE - length - local.HEAD_SIZE
            block = os.pread(descriptor, end - begin, begin) if begin >= header[0] and length <= local.MAX_TEXT else b""
            if _block_end(block, 0) != len(block) or not block:
                if found:
                    break  # damage in the middle: what lies before it is out of reach
                end = local.last_block_end(descriptor, size)  # a torn block at the end
                if end >= size:
                    break
                size = end
                continue
            records = _records(block, 0, len(block))
            if found + records >= number:
                return Tail(begin, found + records - number, number)
            found += records
            end = begin
        return Tail(max(end, header[0]), 0, found)


def _block_end(buffer: bytes, at: int) -> int:
    """Where the block at `at` ends, 0 if it is not whole."""
    length = local.block_length(buffer[at : at + local.HEAD_SIZE])
    end = at + local.HEAD_SIZE + length + local.TAIL_SIZE
    if length < 0 or end > len(buffer) or buffer[end - local.TAIL_SIZE : end] != buffer[at : at + local.TAIL_SIZE]:
        return 0
    return end


def _records(buffer: bytes, at: int, end: int) -> int:
    """How many records the block from `at` to `end` holds."""
    return 1 if buffer[at + 5] & local.PART else buffer.count(b"\n", at + local.HEAD_SIZE, end - local.TAIL_SIZE)


def _decode_record(line: bytes) -> LogEntry | None:
    """One line of json-file; where a torn record was continued by a whole one, the whole one."""
    starts = [0]
    if (inner := line.rfind(_RECORD_START)) > 0:
        starts.append(inner)
    for start in starts:
        try:
            record: dict[str, Any] = orjson.loads(line[start:])
            attrs = record.get("attrs")
            return LogEntry(
                str(record.get("stream", "stdout")),
                parse_time(record["time"]),
                record.get("log", "").encode(),
                attrs if isinstance(attrs, dict) else None,
            )
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
    return None


def _remember_time(times: dict[str, int], stamp: str) -> int:
    value = times[stamp] = parse_time(stamp)
    return value


def parse_time(stamp: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time with any number of digits behind the second.

    Raises:
        ValueError: it is none.
    """
    date, _, clock = stamp[:19].partition("T")
    rest = stamp[19:]
    year, month, day = map(int, date.split("-"))
    hour, minute, second = map(int, clock.split(":"))
    offset = 0
    if rest.endswith(("Z", "z")):
        rest = rest[:-1]
    else:
        sign = 1 if rest[-6:-5] == "+" else -1 if rest[-6:-5] == "-" else 0
        if not sign or rest[-3:-2] != ":":
            raise ValueError(f"no RFC 3339 time: {stamp!r}")
        offset = sign * (int(rest[-5:-3]) * 3600 + int(rest[-2:]) * 60)
        rest = rest[:-6]
    if rest and not (rest[0] == "." and rest[1:].isdigit()):
        raise ValueError(f"no RFC 3339 time: {stamp!r}")
    fraction = int(rest[1:10].ljust(9, "0")) if rest else 0
    return (timegm((year, month, day, hour, minute, second)) - offset) * _SECOND + fraction
