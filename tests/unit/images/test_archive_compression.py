"""Compressed streams: each kind is found out, read to its end and no further than the limits allow."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.errors import InvalidParameter
from windlass.images.archive.compression import (
    PIECE,
    compressed,
    decompressed,
    detect,
    gzip_compressor,
    zstd_compressor,
)
from windlass.images.archive.limits import Limits

DATA = os.urandom(200_000) + bytes(3_000_000) + b"the end"


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data)


def streaming_zstd(data: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(level=3).compressobj()  # no content size, several blocks
    return compressor.compress(data) + compressor.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "gzip": gzip.compress,
    "gzip, fast": lambda data: b"".join(compressed([data], gzip_compressor())),
    "zstd": zstd,
    "zstd, streaming": streaming_zstd,
    "zstd, ours": lambda data: b"".join(compressed([data], zstd_compressor())),
    "xz": lzma.compress,
    "bzip2": lambda data: bz2.compress(data, 1),
}


def plain(chunks: Iterable[bytes], **limits: int) -> bytes:
    parts = list(decompressed(chunks, limits=Limits(**limits) if limits else Limits()))
    assert all(len(part) <= PIECE for part in parts)
    return b"".join(parts)


@pytest.mark.parametrize("name", PACKERS)
def test_each_kind_is_found_out_and_read(name: str) -> None:
    packed = PACKERS[name](DATA)
    assert detect(packed) == name.partition(",")[0]
    assert plain([packed]) == DATA
    assert plain(packed[i : i + 10_000] for i in range(0, len(packed), 10_000)) == DATA
    assert plain([packed[:1], packed[1:3], packed[3:10], packed[10:]]) == DATA


@pytest.mark.parametrize("name", [name for name in PACKERS if name])
def test_several_streams_are_one(name: str) -> None:
    one, two = PACKERS[name](DATA), PACKERS[name](b"more")
    assert plain([one + two]) == DATA + b"more"
    assert plain([one, two[:2], two[2:]]) == DATA + b"more"


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2"])
def test_zeros_behind_the_end_are_padding(name: str) -> None:
    assert plain([PACKERS[name](DATA) + bytes(5000)]) == DATA


@pytest.mark.parametrize("name", [name for name in PACKERS if name])
def test_a_stream_that_was_cut_is_refused(name: str) -> None:
    packed = PACKERS[name](DATA)
    for cut in (len(packed) - 1, len(packed) - 5, len(packed) // 2, 12, 7):
        with pytest.raises(InvalidParameter, match=f"invalid {name.partition(',')[0]} data"):
            plain([packed[:cut]])


@pytest.mark.parametrize("name", [name for name in PACKERS if name])
def test_garbage_behind_the_end_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter):
        plain([PACKERS[name](DATA) + b"garbage behind it"])


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz", "bzip2"])
@given(place=st.integers(20, 100_000), value=st.integers(1, 255))
@settings(max_examples=15, deadline=None)
def test_a_damaged_stream_is_never_taken_for_a_good_one(name: str, place: int, value: int) -> None:
    packed = bytearray(PACKERS[name](DATA))
    packed[place % len(packed)] ^= value
    try:
        found = plain([bytes(packed)])
    except InvalidParameter:
        return
    # A header's fields that nothing depends on (a time, an operating system) may be damaged without harm.
    assert found == DATA


BOMBS = {name: PACKERS[name](bytes(50_000_000)) for name in ("gzip", "zstd", "xz", "bzip2")}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_meet_the_limits(name: str) -> None:
    with pytest.raises(InvalidParameter, match="more than the allowed 10000000 bytes"):
        plain([BOMBS[name]], unpacked_bytes=10_000_000)
    with pytest.raises(InvalidParameter, match="more than 100 times its size"):
        plain([BOMBS[name]], ratio=100, ratio_from=1_000_000)


def test_a_bomb_never_unfolds_whole_in_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        for packed in BOMBS.values():
            for _ in decompressed([packed]):
                pass
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_window_that_is_too_large_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = compressor.compress(DATA) + compressor.flush()
    with pytest.raises(InvalidParameter, match="invalid zstd data"):
        plain([packed])


def test_skippable_frames_are_skipped() -> None:
    skippable = b"\x5a\x2a\x4d\x18" + (1000).to_bytes(4, "little") + bytes(1000)
    assert detect(skippable) == "zstd"
    assert plain([skippable + zstd(DATA) + skippable + zstd(b"more") + skippable]) == DATA + b"more"
    with pytest.raises(InvalidParameter):
        plain([zstd(DATA) + skippable[:500]])


@given(st.binary(max_size=500), st.sampled_from([b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9"]))
@settings(max_examples=200, deadline=None)
def test_noise_is_never_more_than_an_error(noise: bytes, magic: bytes) -> None:
    try:
        plain([magic + noise])
    except InvalidParameter:
        pass


def test_the_same_data_gives_the_same_bytes() -> None:
    """An image imported twice has one digest."""
    first = b"".join(compressed([DATA], gzip_compressor()))
    second = b"".join(compressed((DATA[i : i + 1000] for i in range(0, len(DATA), 1000)), gzip_compressor()))
    assert zlib.decompress(first, 31) == DATA
    assert first == b"".join(compressed([DATA], gzip_compressor()))
    assert zlib.decompress(second, 31) == DATA
    assert first[4:8] == bytes(4), "no time"


def test_nothing_is_not_compressed() -> None:
    assert plain([]) == b""
    assert plain([b"ab"]) == b"ab"


def test_a_failure_of_the_source_is_not_the_datas_fault() -> None:
    def source() -> Iterable[bytes]:
        yield gzip.compress(DATA)[:100]
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        plain(source())
