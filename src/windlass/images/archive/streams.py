"""Streams between the event loop and threads, and between threads.

Archives are worked on by threads, where reading and hashing and unpacking overlap; clients' bytes come and go on the
loop. Each crossing has a bound, so that a slow side holds up the fast one instead of filling the memory:

    async iterator ──fed()──▶ chunks in a worker thread        iterator in a thread ──taken()──▶ async iterator
    iterator ──ahead()──▶ the same, computed in a thread of its own some pieces ahead

Whoever stops early, on either side, stops the other: nothing keeps running behind the caller's back. `executor` None is
the loop's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Final, TypeVar

T = TypeVar("T")

_BUFFERED: Final = 4 << 20
_AHEAD: Final = 8
_COALESCE: Final = 256 << 10


class Abandoned(Exception):
    """The other side of a stream has gone."""


class _Feed:
    """A pipe from the loop into a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = asyncio.Event()
        self._room.set()
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._left = False

    async def put(self, chunk: bytes) -> None:
        """Add a chunk; waits while the thread is behind. Raises `Abandoned` if it has stopped reading."""
        await self._room.wait()
        with self._changed:
            if self._left:
                raise Abandoned
            self._chunks.append(chunk)
            self._size += len(chunk)
            if self._size >= _BUFFERED:
                self._room.clear()
            self._changed.notify()

    def end(self, failure: BaseException | None = None) -> None:
        """No more chunks; with `failure`, the reader gets that instead of an end."""
        with self._changed:
            self._ended = True
            self._failure = failure
            self._changed.notify()

    def leave(self) -> None:
        """In the thread: nothing more will be read."""
        with self._changed:
            self._left = True
            self._chunks.clear()
        self._loop.call_soon_threadsafe(self._room.set)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._chunks and not self._ended:
                    self._changed.wait()
                if self._failure is not None:
                    raise self._failure
                if not self._chunks:
                    return
                taken = self._chunks
                self._chunks, self._size = deque(), 0
            self._loop.call_soon_threadsafe(self._room.set)
            yield from _coalesced(taken)


def _coalesced(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Small chunks (as they come from a socket) joined to larger ones."""
    pending: list[bytes] = []
    size = 0
    for chunk in chunks:
        pending.append(chunk)
        size += len(chunk)
        if size >= _COALESCE:
            yield b"".join(pending) if len(pending) > 1 else chunk
            pending, size = [], 0
    if size:
        yield b"".join(pending)


async def fed(
    chunks: AsyncIterator[bytes], work: Callable[[Iterator[bytes]], T], executor: Executor | None = None
) -> T:
    """Run `work` in a thread with the chunks of an async iterator; returns and raises what it does.

    When the iterator fails, `work` meets that failure where it reads. When the caller is cancelled, `work` meets
    `Abandoned`, and is waited for before the cancellation goes on.
    """
    loop = asyncio.get_running_loop()
    feed = _Feed(loop)

    def run() -> T:
        try:
            return work(iter(feed))
        finally:
            feed.leave()

    worker = loop.run_in_executor(executor, run)
    try:
        try:
            async for chunk in chunks:
                if chunk:
                    await feed.put(chunk)
            feed.end()
        except Abandoned:
            pass  # the worker has its result, or a failure of its own
        except Exception as error:
            feed.end(error)
        return await asyncio.shield(worker)
    except asyncio.CancelledError:
        feed.end(Abandoned())
        await settled(worker)
        raise


async def in_thread(work: Callable[[], T], executor: Executor | None = None) -> T:
    """Run `work` in a thread. A cancelled caller waits for its end all the same: it must not go on unobserved."""
    worker = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(worker)
    except asyncio.CancelledError:
        await settled(worker)
        raise


async def settled(future: asyncio.Future[T]) -> None:
    """Wait for a future's end, whatever it is, and however often the waiting is cancelled."""
    while not future.done():
        with contextlib.suppress(BaseException):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()


async def taken(make: Callable[[], Iterator[bytes]], executor: Executor | None = None) -> AsyncIterator[bytes]:
    """The pieces of an iterator that is run in threads, one piece ahead of its reader."""
    loop = asyncio.get_running_loop()
    iterator = await in_thread(make, executor)
    pending = loop.run_in_executor(executor, next, iterator, None)
    try:
        while (piece := await asyncio.shield(pending)) is not None:
            pending = loop.run_in_executor(executor, next, iterator, None)
            yield piece
    finally:
        await settled(pending)
        close = getattr(iterator, "close", None)
        if close is not None:
            await settled(loop.run_in_executor(executor, close))


@contextlib.contextmanager
def ahead(pieces: Iterator[bytes], depth: int = _AHEAD) -> Iterator[Callable[[], bytes]]:
    """Compute an iterator in a thread, `depth` pieces ahead; gives a function that returns the next piece or b"".

    A failure of the iterator is raised by that function. At the end of the block the thread has ended.
    """
    pipe: queue.Queue[bytes | BaseException] = queue.Queue(depth)
    stopped = threading.Event()

    def run() -> None:
        last: bytes | BaseException = b""
        try:
            for piece in pieces:
                if stopped.is_set():
                    return
                if piece:
                    pipe.put(piece)
        except BaseException as error:
            last = error
        finally:
            pipe.put(last)

    ended = False

    def read() -> bytes:
        nonlocal ended
        if ended:
            return b""
        item = pipe.get()
        if isinstance(item, bytes):
            ended = not item
            return item
        ended = True
        raise item

    thread = threading.Thread(target=run, name="archive stream", daemon=True)
    thread.start()
    try:
        yield read
    finally:
        stopped.set()
        while not ended:  # make room until the thread has seen that it is to stop
            item = pipe.get()
            ended = not isinstance(item, bytes) or not item
        thread.join()
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
