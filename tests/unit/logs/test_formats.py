"""The rules that decide what stands in a log: lines and parts, escapes, times, blocks, frames."""

from __future__ import annotations

import json
import time

from hypothesis import given
from hypothesis import strategies as st

from windlass.logs import jsonfile, local
from windlass.logs.decoders import JsonDecoder, LocalDecoder, parse_time
from windlass.logs.entry import LogEntry
from windlass.logs.frames import format_time, frame, render
from windlass.logs.lines import PART_SIZE, LineSplitter

TEXT = st.one_of(st.binary(), st.text().map(str.encode), st.text(alphabet='ab\n"\\<&\u2028\x1b\r').map(str.encode))


def copier_messages(data: bytes) -> list[tuple[bytes, bool]]:
    """A line-by-line model of dockerd's copier: (text, whether it ends its line)."""
    messages: list[tuple[bytes, bool]] = []
    lines = data.split(b"\n")
    for line in lines[:-1]:
        while len(line) >= PART_SIZE:
            messages.append((line[:PART_SIZE], False))
            line = line[PART_SIZE:]
        messages.append((line, True))
    rest = lines[-1]
    while rest:
        messages.append((rest[:PART_SIZE], False))
        rest = rest[PART_SIZE:]
    return messages


def split_all(chunks: list[bytes]) -> tuple[list[tuple[bytes, bool]], list[int]]:
    splitter = LineSplitter()
    pieces = [piece for number, chunk in enumerate(chunks) for piece in splitter.feed(chunk, number + 1)]
    pieces += splitter.finish(len(chunks) + 1)
    messages: list[tuple[bytes, bool]] = []
    for text, _ in pieces:
        if text.endswith(b"\n"):
            messages += [(line, True) for line in text[:-1].split(b"\n")]
        else:
            assert b"\n" not in text
            messages.append((text, False))
    return messages, [time_ns for _, time_ns in pieces]


LINE = st.builds(
    lambda length, end: b"x" * length + end,
    st.one_of(st.integers(0, 40), st.integers(PART_SIZE - 2, PART_SIZE + 2), st.integers(0, 3 * PART_SIZE)),
    st.sampled_from([b"\n", b""]),
)


@given(st.lists(LINE, max_size=12), st.lists(st.integers(1, 3 * PART_SIZE), max_size=8))
def test_lines_and_parts_are_those_of_dockerd_for_any_chunks(lines: list[bytes], cuts: list[int]) -> None:
    data = b"".join(lines)
    chunks = []
    rest = data
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    chunks.append(rest)
    messages, times = split_all([chunk for chunk in chunks if chunk])
    assert messages == copier_messages(data)
    assert times == sorted(times)


def test_parts_of_a_line_carry_the_time_of_the_first() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a" * PART_SIZE, 10) == [(b"a" * PART_SIZE, 10)]
    assert splitter.feed(b"b" * 10, 20) == []
    assert splitter.feed(b"\nnext\n", 30) == [(b"b" * 10 + b"\n", 10), (b"next\n", 30)]
    assert splitter.finish(40) == []


def go_escape(data: bytes) -> bytes:
    """A byte-by-byte model of what Go's HTML-safe encoder of log lines does."""
    out = b""
    at = 0
    while at < len(data):
        byte = data[at]
        if byte < 0x80:
            char = chr(byte)
            if char in '"\\':
                out += b"\\" + bytes((byte,))
            elif char == "\n":
                out += b"\\n"
            elif char == "\r":
                out += b"\\r"
            elif byte < 0x20 or char in "<>&":
                out += b"\\u%04x" % byte
            else:
                out += bytes((byte,))
            at += 1
            continue
        for size in (2, 3, 4):
            try:
                char = data[at : at + size].decode()
            except UnicodeDecodeError:
                continue
            if len(char) == 1:
                out += b"\\u%04x" % ord(char) if char in "\u2028\u2029" else char.encode()
                at += size
                break
        else:
            out += b"\\ufffd"
            at += 1
    return out


@given(TEXT)
def test_text_is_escaped_as_go_does_it(data: bytes) -> None:
    assert jsonfile.escape(data).replace(b"\n", b"\\n") == go_escape(data)


def test_invalid_utf8_is_marked_byte_by_byte() -> None:
    assert jsonfile.escape(b"a\xe2\x82b\xff\xed\xa0\x80") == b"a" + b"\\ufffd" * 2 + b"b" + b"\\ufffd" * 4


def test_a_record_looks_exactly_as_dockerd_writes_it() -> None:
    stamp = parse_time("2024-05-01T10:00:00.1200003Z")
    assert jsonfile.encode(b"a\n<b>\n", "stdout", stamp) == (
        b'{"log":"a\\n","stream":"stdout","time":"2024-05-01T10:00:00.1200003Z"}\n'
        b'{"log":"\\u003cb\\u003e\\n","stream":"stdout","time":"2024-05-01T10:00:00.1200003Z"}\n'
    )
    attrs = jsonfile.encode_attributes({"z": "1", "a": "<é>"})
    assert (
        jsonfile.encode(b"part", "stderr", stamp, attrs)
        == (
            '{"log":"part","stream":"stderr","attrs":{"a":"\\u003cé\\u003e","z":"1"},'
            '"time":"2024-05-01T10:00:00.1200003Z"}\n'
        ).encode()
    )


@given(TEXT, st.integers(0, 4_000_000_000_000_000_000))
def test_a_json_record_reads_back_as_it_was_written(data: bytes, time_ns: int) -> None:
    data = data.replace(b"\n", b"") + b"\n"
    record = jsonfile.encode(data, "stdout", time_ns)
    readable = data.decode("utf-8", "surrogateescape")
    readable = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in readable)
    assert json.loads(record)["log"] == readable
    assert JsonDecoder().decode(record, None) == ([LogEntry("stdout", time_ns, readable.encode(), None)], len(record))


@given(st.binary(min_size=1), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40))
def test_a_local_block_reads_back_and_a_cut_one_does_not(data: bytes, time_ns: int, more: bytes) -> None:
    data = data.replace(b"\n", b"") or b"x"
    for text, lines in ((data, 1), (data + b"\n" + more.replace(b"\n", b"") + b"\n", 2)):
        block = local.encode_block(text, "stderr", time_ns)
        entries, used = LocalDecoder().decode(block, {"a": "b"})
        assert used == len(block)
        assert len(entries) == lines
        assert b"".join(entry.line for entry in entries) == text
        assert {(entry.stream, entry.time_ns, entry.attrs["a"] if entry.attrs else "") for entry in entries} == {
            ("stderr", time_ns, "b")
        }
        assert LocalDecoder().count(block)[0] == len(entries)
        assert LocalDecoder().decode(block[:-1], None) == ([], 0)


@given(st.integers(0, 10**19))
def test_times_are_written_and_read_without_loss(time_ns: int) -> None:
    assert parse_time(format_time(time_ns)) == time_ns
    assert parse_time(format_time(time_ns, fixed=True)) == time_ns


def test_times_of_other_writers() -> None:
    base = parse_time("2024-02-29T23:59:59Z")
    assert base == 1709251199 * 10**9
    assert parse_time("2024-03-01T01:59:59.5+02:00") == base + 500_000_000
    assert time.gmtime(base // 10**9).tm_yday == 60


def test_frames_and_rendering() -> None:
    assert frame("stderr", b"abc") == b"\x02\0\0\0\0\0\0\x03abc"
    entries = [
        LogEntry("stdout", 1_000_000_001, b"one\n"),
        LogEntry("stderr", 1_500_000_000, b"two", {"b": "x y", "a": "1"}),
    ]
    assert render(entries, multiplex=False) == b"one\ntwo"
    assert render(entries, multiplex=True) == frame("stdout", b"one\n") + frame("stderr", b"two")
    assert render(entries, multiplex=False, timestamps=True, details=True) == (
        b"1970-01-01T00:00:01.000000001Z  one\n1970-01-01T00:00:01.500000000Z a=1,b=x+y two"
    )
