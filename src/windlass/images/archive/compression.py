"""Compression of streams, inside this process: gzip (isa-l), zstd, xz, bzip2.

Nothing is ever given to a program found on a path or in a container (CVE-2026-41567 and its kin). The libraries
release the GIL, so a stage runs beside the one that unpacks. Every step has a bound on what it puts out, so that a bomb
meets the limits before it meets the memory:

    chunks ──decompressed()──▶ pieces of at most 1 MiB        pieces ──Compressor──▶ chunks

What is compressed here is deterministic: no time, no name, one level; equal layers get equal digests.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import IO, Final, Protocol, cast

import zstandard
from isal import igzip_lib, isal_zlib

from windlass.errors import InvalidParameter
from windlass.images.archive.limits import DEFAULT_LIMITS, Limits

PIECE: Final = 1 << 20
MAGIC_LENGTH: Final = 6
_MAGIC: Final = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
)
_XZ_MEMORY: Final = 512 << 20
_ZSTD_WINDOW: Final = 128 << 20
_GZIP_LEVEL: Final = 2
_ZSTD_LEVEL: Final = 3


def detect(start: bytes) -> str:
    """The compression that a stream's first bytes show: `gzip`, `zstd`, `xz`, `bzip2`, or `` for none.

    A zstd stream may begin with a skippable frame (RFC 8878, section 3.1.2).
    """
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F:
        return "zstd"
    return ""


def peeked(chunks: Iterable[bytes], count: int = MAGIC_LENGTH) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of a stream, and the whole stream again."""
    iterator = iter(chunks)
    start = b""
    while len(start) < count and (chunk := next(iterator, b"")):
        start += chunk

    def whole() -> Iterator[bytes]:
        if start:
            yield start
        yield from iterator

    return start, whole()


_FAILURES: Final[tuple[type[Exception], ...]] = (
    cast(type[Exception], igzip_lib.IsalError),  # its stub says otherwise
    zstandard.ZstdError,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
)


def decompressed(
    chunks: Iterable[bytes], kind: str | None = None, *, limits: Limits = DEFAULT_LIMITS
) -> Iterator[bytes]:
    """The plain bytes of a stream, in pieces of at most 1 MiB; a stream that is not compressed passes as it is.

    Args:
        kind: what `detect` returns; None: to be found out.

    Raises:
        InvalidParameter: the stream is damaged, truncated or larger than the limits allow.
    """
    if kind is None:
        start, chunks = peeked(chunks)
        kind = detect(start)
    meter = _Meter(limits)
    plain = _DECODERS[kind](meter.counted(chunks))
    try:
        for piece in plain:
            meter.check(len(piece))
            yield piece
    except _FAILURES as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the stream's source, not of its contents
        raise InvalidParameter(f"invalid {kind} data: {error}") from error


class _Meter:
    """Bytes in, bytes out."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._in = 0
        self._out = 0

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._in += len(chunk)
            yield chunk

    def check(self, count: int) -> None:
        self._out += count
        limits = self._limits
        if self._out > limits.unpacked_bytes:
            raise InvalidParameter(f"the stream unfolds to more than the allowed {limits.unpacked_bytes} bytes")
        if self._out > limits.ratio_from and self._out > limits.ratio * self._in:
            raise InvalidParameter(f"the stream unfolds to more than {limits.ratio} times its size")


class _Decoder(Protocol):
    """What gzip's, xz's and bzip2's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _streams(chunks: Iterator[bytes], new: Callable[[], _Decoder], magic: bytes) -> Iterator[bytes]:
    """One compressed stream after the other; zeros behind the last one are padding."""
    decoder = new()
    data = next(chunks, b"")
    while True:
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = next(chunks, b"")
                if not data:
                    raise EOFError("unexpected end")
            piece = decoder.decompress(data, PIECE)
            data = b""
            if piece:
                yield piece
        data = decoder.unused_data.lstrip(b"\0")
        while len(data) < len(magic):
            more = next(chunks, b"")
            if not more:
                break
            data = (data + more).lstrip(b"\0")
        if not data:
            return
        if not data.startswith(magic):
            raise ValueError("garbage behind the end")
        decoder = new()


def _plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if len(chunk) <= PIECE:
            yield chunk
        else:
            for start in range(0, len(chunk), PIECE):
                yield chunk[start : start + PIECE]


def _gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    return _streams(chunks, lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), b"\x1f\x8b")


def _xz(chunks: Iterator[bytes]) -> Iterator[bytes]:
    return _streams(chunks, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), b"\xfd7zXZ")


def _bzip2(chunks: Iterator[bytes]) -> Iterator[bytes]:
    return _streams(chunks, bz2.BZ2Decompressor, b"BZh")


def _zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    file = cast(IO[bytes], _File(_whole_frames(chunks)))
    with decompressor.stream_reader(file, read_size=PIECE, read_across_frames=True) as reader:
        while piece := reader.read(PIECE):
            yield piece


class _File:
    """An iterator of bytes with the `read` that zstandard wants."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _whole_frames(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass a zstd stream on; `EOFError` where it ends inside a frame, which the library's reader does not tell.

    Only the headers are looked at (RFC 8878, section 3.1): frame header, blocks that say how long they are, checksum.
    """
    walk = _frames()
    wanted = next(walk)
    held = b""
    skip = 0
    for chunk in chunks:
        yield chunk
        position = 0
        while position < len(chunk):
            if skip:
                step = min(skip, len(chunk) - position)
                skip -= step
                position += step
                continue
            part = chunk[position : position + wanted - len(held)]
            held += part
            position += len(part)
            if len(held) == wanted:
                answer = walk.send(held)
                held = b""
                skip, wanted = answer, next(walk)
    if skip or held or wanted != _FRAME_START:
        raise EOFError("unexpected end")


_FRAME_START: Final = 5


def _frames() -> Generator[int, bytes, None]:
    """The walk over frames: yields how many bytes it wants to see, is sent them, yields how many to skip then."""
    while True:
        start = yield _FRAME_START
        if start[1:4] == b"\x2a\x4d\x18":  # a skippable frame: its length follows, one byte of it is here
            yield 0
            rest = yield 3
            yield int.from_bytes(start[4:] + rest, "little")
            continue
        flags = start[4]
        single = flags >> 5 & 1
        window = 0 if single else 1
        content = (single, 2, 4, 8)[flags >> 6]
        yield window + (0, 1, 2, 4)[flags & 3] + content
        last = False
        while not last:
            block = int.from_bytes((yield 3), "little")
            last = bool(block & 1)
            repeated = block >> 1 & 3 == 1
            yield (1 if repeated else block >> 3) + (4 if last and flags >> 2 & 1 else 0)


_DECODERS: Final[dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]]] = {
    "": _plain,
    "gzip": _gzip,
    "zstd": _zstd,
    "xz": _xz,
    "bzip2": _bzip2,
}


class Compressor(Protocol):
    """Compresses a stream; both methods return what is ready."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def gzip_compressor() -> Compressor:
    """gzip as every registry and runtime reads it; the header has no time and no name (RFC 1952)."""
    compressor: Compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, 31)
    return compressor


def zstd_compressor() -> Compressor:
    """zstd (RFC 8878) with a checksum."""
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()


def compressed(pieces: Iterable[bytes], compressor: Compressor) -> Iterator[bytes]:
    """The compressed form of a stream."""
    for piece in pieces:
        if data := compressor.compress(piece):
            yield data
    if data := compressor.flush():
        yield data
