"""Published ports where the kernel cannot translate: IPv6 to a container without IPv6, and IPv6 loopback.

Linux has no translation between the IP versions, and none that lets ::1 out of the host. dockerd keeps a process for
each published port; we relay in the daemon, in its event loop, on the very socket that holds the port. Such
connections end with the daemon, as all others do not; IPv4, and IPv6 to containers that have it, never come here.

```
 client [::1]:8080 ─▶ our socket [::]:8080 ─▶ relay ─▶ 172.17.0.2:80
```

TCP is relayed with back-pressure and half-close. For UDP each client gets a socket of its own, closed after a quiet
time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from typing import NamedTuple

from windlass.networks.settings import IPAddress

_CHUNK = 65536
_CONNECT_SECONDS = 10.0
UDP_QUIET_SECONDS = 90.0
_UDP_CLIENTS = 1024

log = logging.getLogger(__name__)


class Target(NamedTuple):
    """Where a relay leads."""

    address: IPAddress
    port: int


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way; the end of one side becomes the end of the other."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class TcpRelay:
    """Relays the connections that come to a listening socket."""

    def __init__(self, listener: socket.socket, target: Target) -> None:
        """`listener` stays its owner's: the relay uses a duplicate."""
        self._listener, self._target = listener, target
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        own = self._listener.dup()
        own.setblocking(False)
        # The socket was listening without a backlog until now.
        self._server = await asyncio.start_server(self._serve, sock=own, backlog=128)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        address, port = str(self._target.address), self._target.port
        with contextlib.closing(writer):
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    far_reader, far_writer = await asyncio.open_connection(address, port)
            except (OSError, TimeoutError) as error:
                log.debug("relay to %s:%s: %s", address, port, error)
                # Nobody listens: say so as the kernel would, with a reset.
                own = writer.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return
            with contextlib.closing(far_writer):
                try:
                    async with asyncio.TaskGroup() as both:
                        both.create_task(_pump(reader, far_writer))
                        both.create_task(_pump(far_reader, writer))
                except* OSError as errors:
                    log.debug("relay to %s:%s: %s", address, port, errors.exceptions[0])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


class _UdpBack(asyncio.DatagramProtocol):
    """What comes back from the container goes to one client."""

    def __init__(self, relay: UdpRelay, client: tuple[str | int, ...]) -> None:
        self._relay, self._client = relay, client

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self._relay.answer(self._client, data)

    def error_received(self, exc: Exception) -> None:
        log.debug("relay to %s: %s", self._relay.target, exc)


class UdpRelay(asyncio.DatagramProtocol):
    """Relays the datagrams that come to a bound socket."""

    def __init__(self, bound: socket.socket, target: Target, *, quiet_seconds: float = UDP_QUIET_SECONDS) -> None:
        """`bound` stays its owner's: the relay uses a duplicate."""
        self._bound, self.target, self._quiet_seconds = bound, target, quiet_seconds
        self._transport: asyncio.DatagramTransport | None = None
        # By client: the way to the container (or datagrams until it is open), and when it was last used.
        self._ways: dict[tuple[str | int, ...], asyncio.DatagramTransport] = {}
        self._opening: dict[tuple[str | int, ...], list[bytes]] = {}
        self._used: dict[tuple[str | int, ...], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        own = self._bound.dup()
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=own)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        loop = asyncio.get_running_loop()
        self._used[addr] = loop.time()
        if self._sweep is None:
            self._sweep = loop.call_later(self._quiet_seconds, self._close_quiet)
        if way := self._ways.get(addr):
            way.sendto(data)
        elif addr in self._opening:
            if len(self._opening[addr]) < 16:
                self._opening[addr].append(data)
        elif len(self._used) <= _UDP_CLIENTS:
            self._opening[addr] = [data]
            task = loop.create_task(self._open(addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            del self._used[addr]

    async def _open(self, client: tuple[str | int, ...]) -> None:
        loop = asyncio.get_running_loop()
        remote = (str(self.target.address), self.target.port)
        try:
            way, _ = await loop.create_datagram_endpoint(lambda: _UdpBack(self, client), remote_addr=remote)
        except OSError as error:
            log.debug("relay to %s: %s", self.target, error)
            del self._opening[client]
            return
        self._ways[client] = way
        for data in self._opening.pop(client):
            way.sendto(data)

    def answer(self, client: tuple[str | int, ...], data: bytes) -> None:
        if self._transport is not None:
            self._used[client] = asyncio.get_running_loop().time()
            self._transport.sendto(data, client)

    def error_received(self, exc: Exception) -> None:
        log.debug("relay for %s: %s", self.target, exc)

    def _close_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._quiet_seconds
        for client in [each for each, used in self._used.items() if used <= oldest]:
            del self._used[client]
            if way := self._ways.pop(client, None):
                way.close()
        self._sweep = loop.call_later(self._quiet_seconds, self._close_quiet) if self._used else None

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for way in self._ways.values():
            way.close()
        self._ways.clear()
        if self._transport is not None:
            self._transport.close()
            self._transport = None


Relay = TcpRelay | UdpRelay


def make_relay(protocol: str, holder: socket.socket, target: Target) -> Relay | None:
    """The relay for a protocol, None where there is no way to relay it."""
    if protocol == "tcp":
        return TcpRelay(holder, target)
    if protocol == "udp":
        return UdpRelay(holder, target)
    return None
