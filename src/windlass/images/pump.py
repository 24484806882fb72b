"""Bytes from a coroutine to a thread: an asynchronous stream becomes a source that blocks, with bounded memory between.

async for chunk ─▶ │ queue, 4 MiB at most │ ─▶ source() in a worker thread
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

_T = TypeVar("_T")
_MOST_WAITING: Final = 4 << 20


class _Broken(Exception):
    """The stream has ended before its end."""


class _Queue:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._condition = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._broken: BaseException | None = None
        self._room = asyncio.Event()
        self._room.set()
        self.closed = False

    async def put(self, data: bytes) -> None:
        with self._condition:
            self._pieces.append(data)
            self._size += len(data)
            self._condition.notify()
            if self._size >= _MOST_WAITING:
                self._room.clear()
        await self._room.wait()

    def end(self, error: BaseException | None = None) -> None:
        with self._condition:
            self._ended, self._broken = True, error
            self._condition.notify()

    def take(self) -> bytes:
        """For the thread: the next piece, empty at the end."""
        with self._condition:
            while not self._pieces and not self._ended:
                self._condition.wait()
            if self._broken is not None:
                raise _Broken from self._broken
            if not self._pieces:
                return b""
            data = self._pieces.popleft()
            self._size -= len(data)
            if self._size < _MOST_WAITING:
                self._loop.call_soon_threadsafe(self._room.set)
            return data

    def close(self) -> None:
        """The thread takes no more: whoever feeds is let go."""
        self.closed = True
        self._room.set()


async def consume(stream: AsyncIterator[bytes], work: Callable[[Callable[[], bytes]], _T]) -> _T:
    """Run `work(source)` in a thread, with `source` giving the bytes of `stream`; returns what it returns.

    An error of the stream ends the work, and is raised; an error of the work is raised at once, with the rest of the
    stream unread. A cancellation ends both.
    """
    queue = _Queue(asyncio.get_running_loop())
    working = asyncio.ensure_future(asyncio.to_thread(work, queue.take))
    working.add_done_callback(lambda _: queue.close())
    try:
        async for chunk in stream:
            if queue.closed:
                break
            if chunk:
                await queue.put(chunk)
        queue.end()
    except BaseException as error:
        queue.end(error)
        # The thread sees the broken stream at its next read and gives up; it is waited for, so that nothing it holds
        # is used after we return.
        await asyncio.wait([working])
        working.exception()
        raise
    return await working
