"""SPDY's frames: what is written is read, however it is cut; what is none is refused, whatever it is."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.http.spdy.frames import (
    DICTIONARY,
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Headers,
    Other,
    Ping,
    RstStream,
    SPDYError,
    SynReply,
    SynStream,
)

numbers = st.integers(1, 2**31 - 1)
words = st.integers(0, 2**32 - 1)
names = st.text("abcdefghijklmnopqrstuvwxyz-:", min_size=1, max_size=20)
values = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=60)
fields = st.lists(st.tuples(names, values), max_size=6, unique_by=lambda pair: pair[0])
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Data, numbers, st.binary(max_size=500), st.booleans()),
    st.builds(SynStream, numbers, fields, st.booleans()),
    st.builds(SynReply, numbers, fields, st.booleans()),
    st.builds(Headers, numbers, fields, st.booleans()),
    st.builds(RstStream, numbers, words),
    st.builds(Ping, words),
    st.builds(GoAway, numbers, words),
)


def test_the_dictionary_is_the_specifications() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(frames, max_size=12), st.lists(st.integers(1, 40), max_size=40))
def test_frames_come_as_they_were_sent_however_they_are_cut(sent: list[Frame], cuts: list[int]) -> None:
    encoder, decoder = Encoder(), Decoder()
    data = b"".join(encoder.encode(frame) for frame in sent)
    found: list[Frame] = []
    for size in cuts:
        found += decoder.feed(data[:size])
        data = data[size:]
    found += decoder.feed(data)
    assert found == sent


@given(st.binary(max_size=400))
def test_anything_else_is_refused_or_waited_for(data: bytes) -> None:
    try:
        Decoder().feed(data)
    except SPDYError:
        pass


@given(st.lists(frames, min_size=1, max_size=5), st.data())
def test_damaged_frames_are_refused_or_others(sent: list[Frame], data: st.DataObject) -> None:
    encoder = Encoder()
    whole = bytearray(b"".join(encoder.encode(frame) for frame in sent))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        Decoder().feed(bytes(whole))
    except SPDYError:
        pass


def test_several_values_of_a_name_are_several_pairs() -> None:
    pairs = [("a", "1"), ("a", "2"), ("b", "")]
    assert Decoder().feed(Encoder().encode(SynStream(1, pairs))) == [SynStream(1, pairs)]


def test_headers_as_go_writes_them_are_read() -> None:
    # The pairs of a stream that kubectl opens, compressed by zlib at its best level as one flushed block.
    packed = b"".join(
        struct.pack(">I", len(text)) + text for text in (b"streamtype", b"error", b"port", b"8080", b"requestid", b"0")
    )
    compressor = zlib.compressobj(9, zdict=DICTIONARY)
    block = compressor.compress(struct.pack(">I", 3) + packed) + compressor.flush(zlib.Z_SYNC_FLUSH)
    frame = struct.pack(">IIIIBB", 0x80030001, len(block) + 10, 1, 0, 0, 0) + block
    wanted = [("streamtype", "error"), ("port", "8080"), ("requestid", "0")]
    assert Decoder().feed(frame) == [SynStream(1, wanted)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack(">II", 0x80020001, 0), "SPDY version 2"),
        (struct.pack(">II", 0x80030001, 0xFFFFFF), "a control frame of 16777215 bytes"),
        (struct.pack(">II", 0x80030006, 2) + b"xx", "too short"),
        (struct.pack(">III", 0x80030008, 7, 1) + b"xyz", "headers cannot be read"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(SPDYError, match=reason):
        Decoder().feed(data)


def test_headers_that_would_fill_the_memory_are_refused() -> None:
    compressor = zlib.compressobj(zdict=DICTIONARY)
    block = compressor.compress(struct.pack(">II", 1, 40_000_000) + bytes(40_000_000))
    block += compressor.flush(zlib.Z_SYNC_FLUSH)
    assert len(block) < 64 * 1024
    with pytest.raises(SPDYError, match="too long"):
        Decoder().feed(struct.pack(">III", 0x80030008, len(block) + 4, 1) + block)


def test_types_that_say_nothing_to_us_are_passed_over() -> None:
    assert Decoder().feed(struct.pack(">II", 0x80030004, 4) + bytes(4)) == [Other(4)]
