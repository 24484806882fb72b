"""Clients on a container's streams: one connection to the monitor, fanned out to as many clients as like.

    client ◀──queue──┐                         ┌── stdin of each client, through its detach keys
    client ◀──queue──┼── AttachHub ◀──socket──▶ monitor
    client ◀──queue──┘   (frames are cut whole, so a client may come between any two)

A client may come before the container starts: it is in the hub then, and the hub's end of the socket goes along with
the launch, so the first byte is seen. Queues are bounded: while one is full the hub does not read (and the monitor, in
turn, not from the container), and a client that takes nothing for ten seconds is dropped.

The wire format is Docker's: raw bytes of a terminal; else frames of 1 byte stream, 3 zero bytes, 4 bytes length.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from windlass.engine.detach import DetachDetector

STDIN, STDOUT, STDERR, SYSTEM_ERROR = range(4)
FULL: Final = 1 << 20  # bytes waiting for a client above which nothing more is read for it
PATIENCE: Final = 10.0  # seconds without taking anything, after which a full client is dropped
_CHUNK: Final = 1 << 16
_HEADER: Final = struct.Struct(">B3xI")


def frame(stream: int, data: bytes) -> bytes:
    """One frame of the multiplexed format."""
    return _HEADER.pack(stream, len(data)) + data


def complete_frames(buffer: bytes | bytearray) -> list[tuple[int, int, int]]:
    """Where whole frames are: (stream, start, end) of each, headers included."""
    found, place, size = [], 0, len(buffer)
    while place + 8 <= size:
        stream, length = _HEADER.unpack_from(buffer, place)
        end = place + 8 + length
        if end > size:
            break
        found.append((stream, place, end))
        place = end
    return found


class ClientStream:
    """One client's view: output to read, input to write. The API's `AttachStream`.

    Without `detach_keys` the client leaves by closing alone.
    """

    def __init__(
        self,
        hub: AttachHub,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        detach_keys: bytes,
        replay: AsyncIterator[bytes] | None = None,
        on_detach: Callable[[], None] | None = None,
    ) -> None:
        self.terminal = hub.terminal
        self.detached = False
        self._hub = hub
        self._stdin = stdin
        self._wanted = {number for number, wanted in ((STDOUT, stdout), (STDERR, stderr)) if wanted}
        self._detector = DetachDetector(detach_keys) if hub.terminal and detach_keys else None
        self._replay = replay
        self._on_detach = on_detach
        self._queue: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self.waiting = 0  # bytes in the queue
        self.taken = 0  # bytes read so far

    # What the hub does -----------------------------------------------------------------------------------------

    def offer(self, data: bytes, frames: list[tuple[int, int, int]]) -> None:
        """Queue output: whole frames in `data`, or, for a terminal, all of it."""
        if self._ended or not self._wanted:
            return
        if not self.terminal and len(self._wanted) == 1:
            data = b"".join([data[start:end] for stream, start, end in frames if stream in self._wanted])
        if data:
            self._queue.append(data)
            self.waiting += len(data)
            self._changed.set()

    def offer_text(self, text: str) -> None:
        """Queue a message of the engine's, as standard output: the client has no other place for it."""
        data = text.encode()
        self._queue.append(data if self.terminal else frame(STDOUT, data))
        self._changed.set()

    def end(self) -> None:
        """No more output follows."""
        self._ended = True
        self._changed.set()

    # What the API does -------------------------------------------------------------------------------------------

    async def read(self) -> bytes:
        """The next output in wire format; empty at the end."""
        if self._replay is not None:
            async for data in self._replay:
                return data
            self._replay = None
        while not self._queue:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._queue.popleft() if len(self._queue) == 1 else b"".join(self._queue)
        self._queue.clear()
        self.waiting = 0
        self.taken += len(data)
        self._hub.drained()
        return data

    async def write(self, data: bytes) -> None:
        """Input for the container; nothing happens if it takes none."""
        if not self._stdin or self._ended:
            return
        if self._detector is not None:
            data, detached = self._detector.feed(data)
            if detached:
                await self._hub.send(data)
                self._leave_by_keys()
                return
        if data:
            await self._hub.send(data)

    def _leave_by_keys(self) -> None:
        self.detached = True
        self._hub.leave(self)
        self.end()
        if self._on_detach is not None:
            self._on_detach()

    def write_eof(self) -> None:
        """The client's input is over."""
        if not self._stdin or self._ended:
            return
        if self._hub.close_stdin_once and not self.terminal:
            self._hub.send_eof()
        elif self._hub.ends_with_stdin:
            # As in dockerd: whoever attached with input to a container that keeps its own open leaves with it.
            self._hub.leave(self)
            self.end()

    async def close(self) -> None:
        """The client is gone, and its input with it."""
        if self._stdin and not self._ended and self._hub.close_stdin_once and not self.terminal:
            self._hub.send_eof()
        self._hub.leave(self)
        self.end()
        if self._replay is not None:
            close = getattr(self._replay, "aclose", None)
            if close is not None:
                await close()
            self._replay = None


class AttachHub:
    """The clients of one container (or exec) and the connection to its monitor.

    `close_stdin_once`: the container's input is closed when the first client's is (`StdinOnce`). `before_end` is
    awaited when the output is over, before the clients are told: whoever sees the end may ask for the exit code.
    """

    def __init__(
        self,
        *,
        terminal: bool,
        close_stdin_once: bool,
        ends_with_stdin: bool = True,
        before_end: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.terminal = terminal
        self.close_stdin_once = close_stdin_once
        self.ends_with_stdin = ends_with_stdin
        self._before_end = before_end
        self._clients: set[ClientStream] = set()
        self._upstream: socket.socket | None = None
        self._connected = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        self._sending = asyncio.Lock()
        self._eof_wanted = False

    @property
    def clients(self) -> int:
        """How many there are."""
        return len(self._clients)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the monitor."""
        return self._upstream is not None

    def join(self, client: ClientStream) -> None:
        """A client comes."""
        self._clients.add(client)

    def leave(self, client: ClientStream) -> None:
        """A client goes; the last one ends the connection."""
        self._clients.discard(client)
        self._drained.set()
        if not self._clients:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        self._upstream = None
        self._connected.clear()

    def connect(self, upstream: socket.socket) -> None:
        """The connection to the monitor is there."""
        upstream.setblocking(False)
        self._upstream = upstream
        self._connected.set()
        if self._eof_wanted:
            self.send_eof()
        self._pump = asyncio.create_task(self._run(upstream), name="attach")
        # Not at the end of the coroutine: cancelled early enough it never begins.
        self._pump.add_done_callback(lambda _: upstream.close())

    async def _run(self, upstream: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        rest = b""
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(upstream, _CHUNK):
                frames: list[tuple[int, int, int]] = []
                if not self.terminal:
                    data = rest + data if rest else data
                    frames = complete_frames(data)
                    end = frames[-1][2] if frames else 0
                    data, rest = data[:end], data[end:]
                for client in list(self._clients):
                    client.offer(data, frames)
                if any(client.waiting > FULL for client in self._clients):
                    await self._let_them_drain()
        if self._before_end is not None:
            await self._before_end()
        # Not when cancelled: then nobody is left, or `close` ends the clients.
        self._end_clients()

    def _end_clients(self) -> None:
        self._upstream, self._pump = None, None
        self._connected.clear()
        for client in list(self._clients):
            client.end()
        self._clients.clear()

    async def _let_them_drain(self) -> None:
        while full := [client for client in self._clients if client.waiting > FULL]:
            before = {client: client.taken for client in full}
            self._drained.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._drained.wait()
            except TimeoutError:
                for client, taken in before.items():
                    if client.taken == taken:
                        self._clients.discard(client)
                        client.end()

    def drained(self) -> None:
        """A client has taken what was waiting for it."""
        self._drained.set()

    async def send(self, data: bytes) -> None:
        """Input for the container, whole and in order, as soon as it can take it."""
        if not data:
            return
        await self._connected.wait()
        async with self._sending:
            if self._upstream is not None:
                with contextlib.suppress(OSError):
                    await asyncio.get_running_loop().sock_sendall(self._upstream, data)

    def send_eof(self) -> None:
        """The container's input is over, after what is on its way."""
        if self._upstream is None:
            self._eof_wanted = True
            return
        with contextlib.suppress(OSError):
            self._upstream.shutdown(socket.SHUT_WR)

    async def finish(self, patience: float) -> None:
        """The container has ended: pass on what is still on its way, for some seconds at most, and end the streams."""
        if self._pump is not None:
            await asyncio.wait([self._pump], timeout=patience)
        await self.close()

    async def close(self) -> None:
        """End every client's stream; what is queued can still be read."""
        pump = self._pump
        self._disconnect()
        if pump is not None:
            await asyncio.gather(pump, return_exceptions=True)
        self._end_clients()
        self._connected.set()  # whoever waits to send shall find that nobody is there
