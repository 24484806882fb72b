"""Attached streams: a hijacked connection or a WebSocket on one side, a container's or exec's streams on the other.

      client ── input ──▶ ┌──────┐ ──▶ AttachStream.write, then write_eof
                          │ pump │
      client ◀─ output ── └──────┘ ◀── AttachStream.read (raw for a terminal, else frames of 8 bytes + payload)

The client may end its input and go on reading; the end of the output ends everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from windlass.api.docker.backend import AttachStream
from windlass.api.docker.call import Call
from windlass.http import Duplex
from windlass.http.websocket import WebSocket, accept

RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"

_HEADER: Final = struct.Struct(">BxxxL")
STDOUT: Final = 1


def frame(stream: int, payload: bytes) -> bytes:
    """One frame of a multiplexed stream."""
    return _HEADER.pack(stream, len(payload)) + payload


def content_type(call: Call, *, terminal: bool) -> str:
    """What the bytes are; before API 1.42 multiplexed bytes went under the raw name."""
    return RAW if terminal or call.older(1, 42) else MULTIPLEXED


async def open_raw(call: Call, *, terminal: bool) -> Duplex:
    """Take the connection: 101 for a client that asked for an upgrade, else 200 and raw bytes."""
    if call.request.upgrade or "upgrade" in call.request.headers:
        fields = [
            ("Content-Type", content_type(call, terminal=terminal)),
            ("Connection", "Upgrade"),
            ("Upgrade", "tcp"),
        ]
        return await call.request.hijack(101, fields)
    return await call.request.hijack(200, [("Content-Type", RAW)])


async def serve_raw(duplex: Duplex, stream: AttachStream) -> None:
    """Connect both until the output ends or the client is gone."""

    async def receive() -> bytes | None:
        return await duplex.read() or None

    await _pump(stream, receive, duplex.write)


async def serve_websocket(call: Call, stream: AttachStream) -> None:
    """The same over a WebSocket, whose messages carry the bare output, both streams mixed."""
    try:
        socket = await accept(call.request)
    except BaseException:
        await stream.close()
        raise
    if stream.terminal:
        await _pump(stream, socket.receive, _sender(call, socket))
    else:
        send, unwrap = _sender(call, socket), Demultiplexer()

        async def send_payloads(data: bytes) -> None:
            for payload in unwrap.feed(data):
                await send(payload)

        await _pump(stream, socket.receive, send_payloads)
    await socket.close()


def _sender(call: Call, socket: WebSocket) -> Callable[[bytes], Awaitable[None]]:
    text = call.older(1, 28)

    async def send(data: bytes) -> None:
        await socket.send(data, text=text)

    return send


async def _pump(
    stream: AttachStream,
    receive: Callable[[], Awaitable[bytes | None]],
    send: Callable[[bytes], Awaitable[None]],
) -> None:
    async def inputs() -> None:
        with contextlib.suppress(ConnectionError, BrokenPipeError):  # the container does not take input any more
            while (data := await receive()) is not None:
                await stream.write(data)
            stream.write_eof()

    feeding = asyncio.create_task(inputs())
    try:
        with contextlib.suppress(ConnectionError):
            while data := await stream.read():
                await send(data)
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await stream.close()


class Demultiplexer:
    """Takes the frames off a multiplexed stream."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0  # payload of the current frame still to come

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads in `data`; a payload may come in parts."""
        data = self._buffer + data
        position = 0
        while position < len(data):
            if not self._left:
                if len(data) - position < _HEADER.size:
                    break
                _, self._left = _HEADER.unpack_from(data, position)
                position += _HEADER.size
                continue
            part = data[position : position + self._left]
            self._left -= len(part)
            position += len(part)
            yield part
        self._buffer = data[position:]
