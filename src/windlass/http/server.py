"""Accepts connections, bounds them, sweeps their deadlines and ends them.

There are no timers per connection: one sweep a second looks at all deadlines while any connection exists, and none runs
otherwise, so an idle server does not wake.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from windlass.http.connection import Connection
from windlass.http.duplex import Duplex
from windlass.http.limits import Limits
from windlass.http.message import Handler

_SWEEP_SECONDS = 1.0
_BACKLOG = 1024
_CANCEL_SECONDS = 10.0  # what a cancelled handler may need to clean up
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_log = logging.getLogger("windlass.http")


def _http_date(second: int) -> str:
    """RFC 9110, section 5.6.7, in English whatever the locale is (and without the package `email`, which is large)."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(second)
    return f"{_DAYS[weekday]}, {day:02d} {_MONTHS[month - 1]} {year:04d} {hour:02d}:{minute:02d}:{second:02d} GMT"


class Server:
    """Serves `handler` on any number of sockets.

    `headers` are added to every answer. `preface` is called with the raw stream of a client that begins to speak HTTP/2
    without an upgrade (RFC 9113, section 3.3), its first bytes included; without it such a client gets 400.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits | None = None,
        headers: Iterable[tuple[str, str]] = (),
        preface: Callable[[Duplex], Awaitable[None]] | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self.preface = preface
        self.closing = False
        self.idle: dict[Connection, None] = {}  # kept connections between requests, longest idle first
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self._lines = self._fixed.count("\n") + 1
        self._common = ""
        self._second = -1
        self._listeners: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._half_closed: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def listen(self, sock: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        """Accept on a bound stream socket; takes ownership of it."""
        factory: Callable[[], asyncio.BaseProtocol]
        if tls is None:
            factory = lambda: Connection(self)  # noqa: E731
        else:
            from windlass.http.tls import TLSProtocol

            context = tls
            factory = lambda: TLSProtocol(Connection(self), context, self.limits.head_timeout)  # noqa: E731
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            listener = await self._loop.create_unix_server(factory, sock=sock, backlog=_BACKLOG)
        else:
            # Set on the listener, inherited by what it accepts: find clients that vanished without a word.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
            listener = await self._loop.create_server(factory, sock=sock, backlog=_BACKLOG)
        self._listeners.append(listener)

    async def close(self, grace: float = 5.0) -> None:
        """Stop: no new connections, idle and endless ones end now, running handlers have `grace` seconds."""
        self.closing = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for connection in list(self._connections):
            connection.shut_down(now=False)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for connection in list(self._connections):
            connection.shut_down(now=True)
        if self._tasks:
            _, stubborn = await asyncio.wait(self._tasks, timeout=_CANCEL_SECONDS)
            for task in stubborn:
                _log.error("a handler does not end: %r", task.get_coro())
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # lets the transports report their ends
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    # What connections call.

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; `False` when there is no room for it."""
        if self.closing:
            return False
        full = len(self._connections) >= self.limits.connections
        if full and self.idle:
            oldest = next(iter(self.idle))
            del self.idle[oldest]
            self._connections.discard(oldest)
            oldest.shut_down(now=False)
            full = False
        self._connections.add(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(_SWEEP_SECONDS, self._sweep_now)
        return not full

    def watch(self, connection: Connection) -> None:
        """The client closed its writing side: look now and then whether it is still there."""
        self._half_closed.add(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._connections.discard(connection)
        self._half_closed.discard(connection)
        self.idle.pop(connection, None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a handler; the server owns the task and waits for it when it closes."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def common_fields(self) -> tuple[str, int]:
        """The fields of every answer, and their number."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._common = f"{self._fixed}Date: {_http_date(second)}\r\n"
        return self._common, self._lines

    def _sweep_now(self) -> None:
        self._sweep = None
        now = self.now()
        for connection in [c for c in self._connections if c.deadline <= now]:
            connection.expire()
        for connection in list(self._half_closed):
            connection.check_peer()
        if self._connections:
            self._sweep = self._loop.call_later(_SWEEP_SECONDS, self._sweep_now)
