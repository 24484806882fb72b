"""Ports of a pod, forwarded over one connection.

    SPDY                   a pair of streams for each connection: streamType data and error, with port and requestID
    SPDY in a WebSocket    the same, its bytes as the WebSocket's messages (SPDY/3.1+portforward.k8s.io)
    WebSocket v4           for each port asked for two channels, 2n data and 2n+1 errors, both beginning with the port
                           in two bytes: one connection to each, made at once

Source: https://kubernetes.io/docs/tasks/access-application-cluster/port-forward-access-application-cluster/, KEP-4006
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from windlass.errors import InvalidParameter
from windlass.http import Request
from windlass.http.spdy import ByteStream, Session, Stream
from windlass.http.websocket import WebSocket
from windlass.http.websocket import accept as accept_websocket
from windlass.kube.api import status
from windlass.kube.streams.channels import Channels, accept_channels
from windlass.kube.streams.spdystreams import accept_session

TUNNEL: Final = "SPDY/3.1+portforward.k8s.io"
_PROTOCOL: Final = "portforward.k8s.io"
_CHANNELS: Final = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
_PATIENCE: Final = 30.0
_CHUNK: Final = 64 * 1024

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[int], Awaitable[Connection]]
"""A connection to a port of the pod. Raises OSError."""


async def serve(request: Request, ports: Sequence[int], connect: Connect, about: str) -> None:
    """Take the client's connection over and forward until it ends. `about` names the pod in messages.

    Raises:
        StatusError: it asks for no upgrade, or for none that is spoken here.
    """
    upgrade = request.upgrade.lower()
    if upgrade == "spdy/3.1":
        arrived: asyncio.Queue[Stream] = asyncio.Queue()
        session, _ = await accept_session(request, (_PROTOCOL,), arrived)
        await _Pairs(connect, about).serve(session, arrived)
    elif upgrade == "websocket":
        offered = [each.strip() for each in request.headers.get("sec-websocket-protocol", "").split(",")]
        if TUNNEL in offered:
            await _serve_tunnel(request, connect, about)
        else:
            await _serve_channels(request, ports, connect, about)
    else:
        raise status.bad_request("Upgrade request required")


class _Tunnel:
    """A WebSocket whose messages' borders mean nothing."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while (data := await self._socket.receive()) == b"":
            continue
        return data or b""

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)


async def _serve_tunnel(request: Request, connect: Connect, about: str) -> None:
    try:
        socket = await accept_websocket(request, (TUNNEL,))
    except InvalidParameter as error:
        raise status.bad_request(str(error)) from None
    arrived: asyncio.Queue[Stream] = asyncio.Queue()
    tunnel: ByteStream = _Tunnel(socket)
    await _Pairs(connect, about).serve(Session(tunnel, arrived.put_nowait), arrived)
    await socket.close()


class _Pairs:
    """Finds the streams that belong together, and forwards each pair."""

    def __init__(self, connect: Connect, about: str) -> None:
        self._connect = connect
        self._about = about
        self._halves: dict[str, Stream] = {}

    async def serve(self, session: Session, arrived: asyncio.Queue[Stream]) -> None:
        """Until the connection ends."""
        async with asyncio.TaskGroup() as group:
            pairing = group.create_task(self._pair(arrived, group), name="pairs")
            await session.run()
            # All streams have ended now, and with them what is forwarded.
            pairing.cancel()

    async def _pair(self, arrived: asyncio.Queue[Stream], group: asyncio.TaskGroup) -> None:
        while True:
            stream = await arrived.get()
            headers = stream.headers
            kind, port = headers.get("streamtype", ""), headers.get("port", "")
            if kind not in ("data", "error") or not port.isdigit() or not 0 < int(port) < 65536:
                await stream.reset()
                continue
            # Clients older than requestID open the data stream right after the error stream of a pair.
            number = stream.number if kind == "error" else stream.number - 2
            key = headers.get("requestid") or str(number)
            other = self._halves.pop(key, None)
            if other is None:
                self._halves[key] = stream
                group.create_task(self._give_up(key, stream), name="half")
            else:
                data, error = (stream, other) if kind == "data" else (other, stream)
                group.create_task(self._forward(data, error, int(port)), name=f"port {port}")

    async def _give_up(self, key: str, stream: Stream) -> None:
        """Refuse a stream to which no other has come."""
        for _ in range(int(_PATIENCE)):
            await asyncio.sleep(1)
            if self._halves.get(key) is not stream or stream.ended:
                return
        del self._halves[key]
        await stream.reset()

    async def _forward(self, data: Stream, error: Stream, port: int) -> None:
        try:
            connection = await self._connect(port)
        except OSError as failure:
            with contextlib.suppress(ConnectionError):
                await error.write(f"error forwarding port {port} to pod {self._about}: {failure}".encode())
            await error.close()
            await data.close()
            return
        try:
            await _copy(connection, data.read, data.write, data.close)
        finally:
            await data.close()
            data.forget()
            await error.close()
            error.forget()


async def _copy(
    connection: Connection,
    read: Callable[[], Awaitable[bytes]],
    write: Callable[[bytes], Awaitable[None]],
    close: Callable[[], Awaitable[None]],
) -> None:
    """Both ways; each direction ends on its own."""
    reader, writer = connection

    async def give() -> None:
        with contextlib.suppress(ConnectionError):
            while data := await read():
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    async def take() -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                await write(data)
        await close()

    giving = asyncio.create_task(give(), name="give")
    try:
        # When the pod's side has ended nobody hears what the client still says.
        await take()
    finally:
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


# WebSocket v4 --------------------------------------------------------------------------------------------------------


class _Port:
    """One port's two channels."""

    def __init__(self, channels: Channels, index: int, port: int) -> None:
        self._channels = channels
        self._index = index
        self.port = port
        self.input: asyncio.Queue[bytes] = asyncio.Queue(64)

    async def begin(self) -> None:
        for offset in (0, 1):
            await self._channels.send(2 * self._index + offset, self.port.to_bytes(2, "little"))

    async def write(self, data: bytes) -> None:
        await self._channels.send(2 * self._index, data)

    async def fail(self, text: str) -> None:
        await self._channels.send(2 * self._index + 1, text.encode())


async def _serve_channels(request: Request, ports: Sequence[int], connect: Connect, about: str) -> None:
    if not ports:
        raise status.bad_request('query parameter "port" is required')
    channels, _ = await accept_channels(request, _CHANNELS)
    all_ports = [_Port(channels, index, port) for index, port in enumerate(ports)]
    for each in all_ports:
        await each.begin()
    forwarding = [asyncio.create_task(_forward_channel(each, connect, about)) for each in all_ports]
    serving = asyncio.create_task(_sort(channels, all_ports, forwarding))
    every = asyncio.create_task(_ended(forwarding))
    try:
        # Channels have no end of their own: the last connection's is the WebSocket's.
        await asyncio.wait([serving, every], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (serving, every, *forwarding):
            task.cancel()
        await asyncio.gather(serving, every, *forwarding, return_exceptions=True)
    await channels.close()


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _sort(channels: Channels, ports: Sequence[_Port], forwarding: Sequence[asyncio.Task[None]]) -> None:
    while (message := await channels.receive()) is not None:
        number, data = message
        index, is_error = divmod(number, 2)
        if index < len(ports) and not is_error and data and not forwarding[index].done():
            putting = asyncio.ensure_future(ports[index].input.put(data))
            await asyncio.wait([putting, forwarding[index]], return_when=asyncio.FIRST_COMPLETED)
            putting.cancel()


async def _forward_channel(port: _Port, connect: Connect, about: str) -> None:
    with contextlib.suppress(ConnectionError):
        try:
            connection = await connect(port.port)
        except OSError as failure:
            await port.fail(f"error forwarding port {port.port} to pod {about}: {failure}")
            return
        await _copy(connection, port.input.get, port.write, _nothing)


async def _nothing() -> None:
    """A channel has no end of its own."""
