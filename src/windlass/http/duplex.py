"""A hijacked connection: raw bytes both ways, each direction ending on its own.

The docker client closes its writing side when its stdin ends and goes on reading, so the end of one direction must not
end the other. asyncio closes a transport at end of file unless `eof_received` says otherwise; `Connection` says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windlass.http.connection import Connection


class Duplex:
    """Made by `Request.hijack`. One task may read while another writes."""

    __slots__ = ("_chunks", "_connection", "_eof", "_lost", "_waiter", "size")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._eof = False
        self._lost = False
        self.size = 0  # bytes held

    async def read(self) -> bytes:
        """The next bytes that the client sent; `b""` once it closed its writing side or is gone."""
        while not self._chunks:
            if self._eof:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks.popleft()
        self.size -= len(data)
        self._connection.raw_taken()
        return data

    async def write(self, data: bytes) -> None:
        """Send, waiting while the client is slow. Raises `ConnectionResetError` when it is gone."""
        await self._connection.write(data)

    def write_eof(self) -> None:
        """Close our writing side; reading goes on."""
        self._connection.write_eof()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._connection.abort()

    @property
    def gone(self) -> bool:
        """Whether the client has closed both directions."""
        return self._lost

    # What the connection calls.

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self.size += len(data)
        self._wake()

    def feed_eof(self, *, lost: bool) -> None:
        self._eof = True
        self._lost = self._lost or lost
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
