"""A command's streams as channels of a WebSocket: the first byte of a message says whose it is.

    0 stdin   1 stdout   2 stderr   3 the command's end   4 the terminal's size   255 (v5) a channel's end

Of a name that begins with base64, messages are text: the channel as a digit, then the data in base64.

Source: https://kubernetes.io/docs/reference/using-api/websocket-subprotocols/ (WebSocket subprotocols) and KEP-4006
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections import deque
from typing import Any, Final

import orjson

from windlass.errors import InvalidParameter
from windlass.http import Request
from windlass.http.websocket import WebSocket
from windlass.http.websocket import accept as accept_websocket
from windlass.kube.api import status
from windlass.kube.streams.commands import ERROR, RESIZE, STDERR, STDIN, STDOUT, size_of
from windlass.kube.streams.options import Wanted

Object = dict[str, Any]

V5: Final = "v5.channel.k8s.io"
PROTOCOLS: Final = (
    V5,
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
_CLOSE: Final = 255
_LONGEST_MESSAGE: Final = 32 << 20
_FULL: Final = 1 << 20  # bytes of input that wait for the command
_CHUNK: Final = 32 * 1024


class Channels:
    """A WebSocket whose messages belong to channels, by number; bytes, or base64 in text."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._is_text = "base64." in socket.subprotocol

    async def receive(self) -> tuple[int, bytes] | None:
        """The next message: channel and data; None once the client is gone or makes no sense."""
        message = await self._socket.message(_LONGEST_MESSAGE)
        while message == b"":
            message = await self._socket.message(_LONGEST_MESSAGE)
        if message is None:
            return None
        if not self._is_text:
            return message[0], message[1:]
        try:
            return message[0] - ord("0"), base64.b64decode(message[1:], validate=True)
        except binascii.Error:
            await self._socket.close(1007, "not base64")
            return None

    async def send(self, channel: int, data: bytes) -> None:
        """Send a message. Raises ConnectionError."""
        if self._is_text:
            await self._socket.send(b"%d" % channel + base64.b64encode(data), text=True)
        else:
            await self._socket.send(bytes((channel,)) + data)

    async def close(self) -> None:
        """Say goodbye."""
        await self._socket.close()


async def accept_channels(request: Request, protocols: tuple[str, ...]) -> tuple[Channels, str]:
    """Take a WebSocket over; the protocol that was chosen. Raises StatusError: 400."""
    offered = [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",") if name.strip()]
    if offered and not any(name in protocols for name in offered):
        raise status.bad_request(f"unable to upgrade: none of the protocols is spoken here: {', '.join(offered)}")
    try:
        socket = await accept_websocket(request, protocols)
    except InvalidParameter as error:
        raise status.bad_request(str(error)) from None
    return Channels(socket), socket.subprotocol


async def accept(request: Request, wanted: Wanted) -> WebSocketStreams:
    """Take a WebSocket over for a command. Raises StatusError: 400."""
    channels, protocol = await accept_channels(request, PROTOCOLS)
    streams = WebSocketStreams(channels, protocol, wanted)
    # Clients wait for a first message to know that all is well.
    await channels.send(STDOUT if wanted.stdout else STDERR if wanted.stderr else ERROR, b"")
    return streams


class WebSocketStreams:
    """See `CommandStreams`."""

    def __init__(self, channels: Channels, protocol: str, wanted: Wanted) -> None:
        self._channels = channels
        self._protocol = protocol
        self._wanted = wanted
        self._input: deque[bytes] = deque()
        self._waiting = 0
        self._input_ended = not wanted.stdin
        self._sizes: deque[tuple[int, int]] = deque()
        self._gone = False
        self._changed = asyncio.Condition()

    async def serve(self) -> None:
        """Sort what comes into channels."""
        try:
            while (message := await self._channels.receive()) is not None:
                await self._take(*message)
        finally:
            async with self._changed:
                self._gone = self._input_ended = True
                self._changed.notify_all()

    async def _take(self, channel: int, data: bytes) -> None:
        async with self._changed:
            if channel == STDIN and not self._input_ended and data:
                self._input.append(data)
                self._waiting += len(data)
            elif channel == RESIZE and (size := size_of(data)) is not None:
                self._sizes.append(size)
            elif channel == _CLOSE and self._protocol == V5 and data == bytes((STDIN,)):
                self._input_ended = True
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._waiting <= _FULL or self._input_ended)

    async def read(self) -> bytes:
        """See `CommandStreams`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._input or self._input_ended)
            if not self._input:
                return b""
            data = self._input.popleft()
            self._waiting -= len(data)
            self._changed.notify_all()
            return data

    async def read_size(self) -> tuple[int, int] | None:
        """See `CommandStreams`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._sizes or self._gone)
            return self._sizes.popleft() if self._sizes else None

    async def write(self, stream: int, data: bytes) -> None:
        """See `CommandStreams`."""
        if self._wanted.stdout if stream == STDOUT else self._wanted.stderr:
            for place in range(0, len(data), _CHUNK):
                await self._channels.send(stream, data[place : place + _CHUNK])

    async def end(self, result: Object) -> None:
        """See `CommandStreams`."""
        with contextlib.suppress(ConnectionError):
            if self._protocol.startswith(("v4.", "v5.")):
                await self._channels.send(ERROR, orjson.dumps(result))
            elif result.get("status") != "Success":
                await self._channels.send(ERROR, str(result.get("message", "")).encode())
        await self._channels.close()
