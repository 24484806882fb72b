"""Streams between the loop and threads: order, bounds, failures on either side, leaving early."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from windlass.images.archive.streams import Abandoned, ahead, fed, in_thread, taken


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0)
        yield part


async def test_a_thread_gets_what_the_loop_has() -> None:
    assert await fed(chunks(b"a", b"", b"b", b"c"), lambda parts: b"".join(parts)) == b"abc"
    assert await fed(chunks(), lambda parts: b"".join(parts)) == b""


async def test_a_slow_thread_holds_up_the_loops_side() -> None:
    release = threading.Event()
    produced = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(100):
            produced += 1
            yield bytes(1 << 20)

    def work(parts: Iterator[bytes]) -> int:
        release.wait()
        return sum(map(len, parts))

    task = asyncio.create_task(fed(endless(), work))
    while produced < 5:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert produced <= 6, "four MiB wait, not a hundred"
    release.set()
    assert await task == 100 << 20


async def test_a_failure_of_the_work_ends_the_feeding() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    def work(parts: Iterator[bytes]) -> None:
        next(parts)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        await fed(endless(), work)


async def test_work_that_needs_no_more_ends_the_feeding() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    assert await fed(endless(), lambda parts: len(next(parts)) > 0)


async def test_a_failure_of_the_stream_meets_the_work_and_the_caller() -> None:
    seen: list[BaseException] = []

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError("gone")

    def work(parts: Iterator[bytes]) -> None:
        try:
            for _ in parts:
                pass
        except BaseException as error:
            seen.append(error)
            raise

    with pytest.raises(ConnectionResetError, match="gone"):
        await fed(broken(), work)
    assert isinstance(seen[0], ConnectionResetError)


async def test_a_cancelled_caller_waits_for_the_work_to_give_up() -> None:
    started, ended = threading.Event(), threading.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    def work(parts: Iterator[bytes]) -> None:
        started.set()
        try:
            for _ in parts:
                pass
        except Abandoned:
            ended.set()
            raise

    task = asyncio.create_task(fed(stuck(), work))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_in_thread_is_waited_for_even_if_cancelled() -> None:
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait()
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(started.wait)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_the_loop_gets_what_a_thread_makes() -> None:
    closed = threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            yield from (b"a", b"b", b"c")
        finally:
            closed.set()

    assert [piece async for piece in taken(pieces)] == [b"a", b"b", b"c"]
    assert closed.is_set()


async def test_a_reader_that_leaves_closes_the_maker() -> None:
    closed = threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    stream = taken(pieces)
    assert await anext(stream) == b"x"
    await stream.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()


async def test_a_makers_failure_is_the_readers() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise ValueError("broken")

    stream = taken(pieces)
    assert await anext(stream) == b"a"
    with pytest.raises(ValueError, match="broken"):
        await anext(stream)


def test_ahead_gives_everything_in_order_and_then_nothing() -> None:
    with ahead(iter([b"a", b"", b"b"])) as read:
        assert [read(), read(), read(), read()] == [b"a", b"b", b"", b""]


def test_ahead_gives_a_failure_in_its_place() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise ValueError("broken")

    with ahead(pieces()) as read:
        assert read() == b"a"
        with pytest.raises(ValueError, match="broken"):
            read()
        assert read() == b""


def test_ahead_ends_with_its_block() -> None:
    before = threading.active_count()
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    with ahead(endless()) as read:
        assert read() == b"x"
    assert closed.is_set()
    assert threading.active_count() == before
