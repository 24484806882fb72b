"""Connections to a monitor: one with requests, answers and events, or one that becomes a stream."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from windlass.runtime import records, wire
from windlass.runtime.client.types import LaunchError

_PEEK = 1 << 16


class LinkLost(Exception):
    """The monitor's end of the connection is closed."""


class Link(asyncio.Protocol):
    """Requests and their answers by number; events to a callback, the end to another.

    Attributes:
        closed: by `close`, not by the monitor.
        lost: it has ended.
    """

    def __init__(self, on_event: Callable[[dict[str, Any]], None], on_lost: Callable[[], None]) -> None:
        self.on_event = on_event
        self.on_lost = on_lost
        self.closed = False
        self.lost = False
        self._transport: asyncio.Transport | None = None
        self._lines = wire.Lines()
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    @classmethod
    async def open(
        cls, connection: socket.socket, on_event: Callable[[dict[str, Any]], None], on_lost: Callable[[], None]
    ) -> Link:
        """Serve `connection`, which is taken over."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: cls(on_event, on_lost), sock=connection)
        return link

    async def request(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to `request`.

        Raises:
            LaunchError: the monitor's refusal.
            LinkLost: it is gone.
        """
        if self._transport is None or self.lost:
            raise LinkLost
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._transport.write(wire.encode({"id": number, **request}))
        return _result(await answer)

    def close(self) -> None:
        """End the connection from our side."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it begins."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio: the monitor has written."""
        self._lines.feed(data)
        while (line := self._lines.next()) is not None:
            message = json.loads(line)
            if "event" in message:
                self.on_event(message)
                continue
            answer = self._answers.pop(message["id"], None)
            if answer is not None and not answer.done():
                answer.set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it has ended."""
        self.lost = True
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LinkLost())
        self._answers.clear()
        self.on_lost()


async def connect(directory: Path) -> socket.socket:
    """A new connection to monitor.sock, by way of the directory: a socket's path may have 108 bytes at most.

    Raises:
        OSError: nobody listens there.
    """
    descriptor = records.open_directory(str(directory))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, f"/proc/self/fd/{descriptor}/{records.SOCKET}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection


async def request_stream(directory: Path, request: dict[str, Any]) -> tuple[socket.socket, dict[str, Any]]:
    """A request on a connection of its own, which becomes a stream with the answer.

    Returns:
        The non-blocking socket, and the answer.

    Raises:
        LaunchError: the monitor's refusal, or it is gone.
    """
    try:
        connection = await connect(directory)
    except OSError as error:
        raise LaunchError("monitor", "the container's monitor is gone", error.errno or 0) from None
    try:
        await asyncio.get_running_loop().sock_sendall(connection, wire.encode({"id": 0, **request}))
        # What follows the answer is the stream's: take no more than the line.
        answer = b""
        while not answer.endswith(b"\n"):
            seen = await _peek(connection)
            if not seen:
                raise LaunchError("monitor", "the container's monitor is gone")
            answer += connection.recv(seen.find(b"\n") + 1 or len(seen))
        return connection, _result(json.loads(answer))
    except BaseException:
        connection.close()
        raise


async def readable(descriptor: int) -> None:
    """Wait until a descriptor can be read."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def writable(descriptor: int) -> None:
    """Wait until a descriptor can be written."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)


async def _peek(connection: socket.socket) -> bytes:
    while True:
        try:
            return connection.recv(_PEEK, socket.MSG_PEEK)
        except BlockingIOError:
            await readable(connection.fileno())


def _result(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise LaunchError.from_json(message["error"])
    result: dict[str, Any] = message["result"]
    return result
