"""Where bodies end, to the byte, however they are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.http.framing import (
    LAST_CHUNK,
    LINE_LIMIT,
    OVERHEAD_LIMIT,
    ChunkedDecoder,
    Decoder,
    FramingError,
    LengthDecoder,
    chunk,
)


def decode(decoder: Decoder, pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """Payload and what follows the body (`None`: it has not ended)."""
    payload = b""
    for index, piece in enumerate(pieces):
        parts, rest = decoder.feed(piece)
        payload += b"".join(parts)
        if rest is not None:
            return payload, rest + b"".join(pieces[index + 1 :])
    return payload, None


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(position % (len(data) + 1) for position in at)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(chunks=st.lists(st.binary(min_size=1, max_size=300)), rest=st.binary(max_size=50), at=st.lists(st.integers(0)))
def test_a_chunked_body_ends_at_the_same_byte_however_it_is_cut(
    chunks: list[bytes], rest: bytes, at: list[int]
) -> None:
    wire = b"".join(map(chunk, chunks)) + LAST_CHUNK + rest
    assert decode(ChunkedDecoder(), cut(wire, at)) == (b"".join(chunks), rest)


@given(body=st.binary(max_size=500), rest=st.binary(max_size=50), at=st.lists(st.integers(0)))
def test_a_counted_body_ends_at_the_same_byte_however_it_is_cut(body: bytes, rest: bytes, at: list[int]) -> None:
    if not body:
        return  # the server makes no decoder for an empty body
    assert decode(LengthDecoder(len(body)), cut(body + rest, at)) == (body, rest)


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_decode_or_are_refused(pieces: list[bytes]) -> None:
    decoder = ChunkedDecoder()
    try:
        decode(decoder, pieces)
    except FramingError:
        pass


@pytest.mark.parametrize(
    "wire",
    [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;name=value\r\nhello\r\n0\r\n\r\n",
        b'5 ; a="b\tc"\r\nhello\r\n0\r\n\r\n',
        b"05\r\nhello\r\n00\r\n\r\n",
        b"5\r\nhello\r\n0\r\nDigest: abc\r\nX: \r\n\r\n",
    ],
)
def test_forms_that_the_specification_allows(wire: bytes) -> None:
    assert decode(ChunkedDecoder(), [wire + b"next"]) == (b"hello", b"next")
    assert decode(ChunkedDecoder(), [bytes([byte]) for byte in wire]) == (b"hello", b"")


@pytest.mark.parametrize(
    "wire",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"ffffffffffffffffffff\r\n",
        b"5\r\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nname : value\r\n\r\n",
        b"0\r\n folded: value\r\n\r\n",
        b"1" * (LINE_LIMIT + 1),
        b"1;" + b"a" * LINE_LIMIT + b"\r\n",
        b"".join(b"1;%b\r\nx\r\n" % (b"a" * 4000) for _ in range(OVERHEAD_LIMIT // 4000 + 1)),
        b"0\r\n" + b"name: value\r\n" * (OVERHEAD_LIMIT // 11 + 1),
    ],
)
def test_doubtful_forms_are_refused(wire: bytes) -> None:
    with pytest.raises(FramingError):
        decode(ChunkedDecoder(), [wire])
    with pytest.raises(FramingError):
        decode(ChunkedDecoder(), [bytes([byte]) for byte in wire])
