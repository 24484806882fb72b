"""Asking other name servers, one after the other, over UDP or TCP.

Each question goes from a port of its own, and only a response with its number and its question counts, so that nobody
can slip in an answer (RFC 5452). Sockets come from a function, because some servers are to be asked from the host's
network and some from the container's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence

from windlass.networks.dns import message
from windlass.networks.settings import IPAddress

SERVER_SECONDS = 3.0
_LARGEST_TCP = 65535
_PORT = 53

# Family and kind (SOCK_DGRAM, SOCK_STREAM) to a socket in the right network namespace.
MakeSocket = Callable[[int, int], Awaitable[socket.socket]]

log = logging.getLogger(__name__)


class Upstream:
    """Name servers and the way to them."""

    def __init__(
        self, servers: Callable[[], Sequence[IPAddress]], make_socket: MakeSocket, *, seconds: float = SERVER_SECONDS
    ) -> None:
        """`servers` tells the addresses at the moment; `seconds` is the patience with each."""
        self._servers, self._make_socket, self._seconds = servers, make_socket, seconds

    async def ask(self, query: message.Query, data: bytes, *, tcp: bool) -> bytes | None:
        """The first response that is no failure, else the last failure, None where nobody answers."""
        last: bytes | None = None
        for server in self._servers():
            try:
                async with asyncio.timeout(self._seconds):
                    response = await (self._ask_tcp if tcp else self._ask_udp)(server, query, data)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                log.debug("name server %s: %s", server, error)
                continue
            if message.code_of(response) not in {message.SERVFAIL, message.REFUSED}:
                return response
            last = response
        return last

    async def _connect(self, server: IPAddress, kind: int) -> socket.socket:
        family = socket.AF_INET if server.version == 4 else socket.AF_INET6
        sock = await self._make_socket(int(family), int(kind))
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (str(server), _PORT))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _ask_udp(self, server: IPAddress, query: message.Query, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with await self._connect(server, socket.SOCK_DGRAM) as sock:
            await loop.sock_sendall(sock, data)
            while True:
                response = await loop.sock_recv(sock, _LARGEST_TCP)
                if message.answers_to(query, response):
                    return response

    async def _ask_tcp(self, server: IPAddress, query: message.Query, data: bytes) -> bytes:
        sock = await self._connect(server, socket.SOCK_STREAM)
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            writer.write(struct.pack("!H", len(data)) + data)
            await writer.drain()
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            response = await reader.readexactly(length)
        finally:
            writer.close()
        if not message.answers_to(query, response):
            raise OSError("not an answer to the question")
        return response
