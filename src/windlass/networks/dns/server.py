"""A container's name server: 127.0.0.11 in its network namespace, answered by the daemon.

```
 container: resolv.conf "nameserver 127.0.0.11"
     │ 127.0.0.11:53
     ▼ nftables, in the container's namespace
 127.0.0.11:<free port>  two sockets of the daemon, opened there ─▶ directory ─▶ answer
                                                                 └▶ upstream  ─▶ pass on
```

The port is a free one, and not 53, so that a container may run a name server of its own on all its addresses. The
daemon's death silences the server; the next daemon opens new sockets and replaces the rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from windlass.kernel.nftables import Nftables
from windlass.networks.attachment import RESOLVER
from windlass.networks.dns import message

# The response to a query, None where another server is to be asked.
Answer = Callable[[message.Query], bytes | None]

_TABLE = "windlass-dns"
_PENDING = 256
_IDLE_SECONDS = 30.0

log = logging.getLogger(__name__)


class Resolver(Protocol):
    """Who is asked for what is not known here."""

    async def ask(self, query: message.Query, data: bytes, *, tcp: bool) -> bytes | None:
        """The response, None where there is none."""
        ...


class Sockets(NamedTuple):
    """What a server listens on, inside a container's network namespace."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


def open_sockets() -> Sockets:
    """Sockets and rules in the network namespace of the calling thread. Raises OSError."""
    with contextlib.ExitStack() as undo:
        udp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        tcp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        for each in (udp, tcp):
            each.bind((RESOLVER, 0))
            each.setblocking(False)
        tcp.listen(16)
        script = f"add table ip {_TABLE}\ndelete table ip {_TABLE}\ntable ip {_TABLE} {{\nchain output {{\n"
        script += "type nat hook output priority -100\n"
        for protocol, sock in (("udp", udp), ("tcp", tcp)):
            script += f"ip daddr {RESOLVER} {protocol} dport 53 dnat to {RESOLVER}:{sock.getsockname()[1]}\n"
        with Nftables() as nftables:
            nftables.run(script + "}\n}\n", about="the name server's table")
        undo.pop_all()
    return Sockets(udp, tcp)


class DnsServer(asyncio.DatagramProtocol):
    """Answers those who reach its sockets, which it owns."""

    def __init__(self, sockets: Sockets, own: Answer, upstream: Resolver | None) -> None:
        """`own` answers what is known here; without `upstream` nothing else is known."""
        self._sockets, self._own = sockets, own
        self.upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._sockets.udp)
        self._server = await asyncio.start_server(self._serve_tcp, sock=self._sockets.tcp)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        self._sockets.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def resolve(self, data: bytes, *, tcp: bool) -> bytes | None:
        """The response to a datagram, None where there is none to give."""
        found = self._at_once(data, tcp=tcp)
        if not isinstance(found, message.Query):
            return found
        response = await self.upstream.ask(found, data, tcp=tcp) if self.upstream is not None else None
        return response or message.answer(found, code=message.SERVFAIL)

    def _at_once(self, data: bytes, *, tcp: bool) -> bytes | message.Query | None:
        """The response where nobody else has to be asked, else the query."""
        try:
            query = message.parse_query(data)
        except message.DecodeError:
            return message.refuse(data, message.FORMERR)
        if not query.standard:
            return message.refuse(data, message.NOTIMP)
        own = self._own(query)
        if own is None:
            return query
        return own if tcp or len(own) <= query.payload else message.truncated(own)

    # -- UDP

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        found = self._at_once(data, tcp=False)
        if not isinstance(found, message.Query):
            self._send(found, addr)
        # Who asks faster than he is answered is not queued for without end: he asks again.
        elif len(self._tasks) < _PENDING:
            self._spawn(self._answer(found, data, addr))

    async def _answer(self, query: message.Query, data: bytes, client: tuple[str | int, ...]) -> None:
        response = await self.upstream.ask(query, data, tcp=False) if self.upstream is not None else None
        self._send(response or message.answer(query, code=message.SERVFAIL), client)

    def _send(self, response: bytes | None, client: tuple[str | int, ...]) -> None:
        if response is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(response, client)

    def error_received(self, exc: Exception) -> None:
        log.debug("name server: %s", exc)

    # -- TCP

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= _PENDING:
            writer.close()
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.closing(writer), contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(_IDLE_SECONDS):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    data = await reader.readexactly(length)
                response = await self.resolve(data, tcp=True)
                if response is None:
                    return
                writer.write(struct.pack("!H", len(response)) + response)
                await writer.drain()
