"""Requests to a monitor: lines of JSON on the control connection or on monitor.sock (see wire.py)."""

from __future__ import annotations

import json

from windlass.runtime import records, sockets
from windlass.runtime.monitor.loop import HANGUP, READ, WRITE, Loop
from windlass.runtime.sockets import MSG_NOSIGNAL, Socket
from windlass.runtime.wire import LaunchFailure, Lines, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Handler = Callable[["Connection", dict[str, Any], "Answer"], None]
    Answer = Callable[[dict[str, Any]], None]

_CHUNK = 64 * 1024
_QUEUE_LIMIT = 1 << 20
_PAUSE = 0.1


class Connection:
    """One client. Its requests are handled in their order; it is dropped if it does not take its answers."""

    def __init__(self, service: Service, connection: Socket) -> None:
        self._service = service
        self._connection = connection
        self._lines = Lines()
        self._queue = b""
        self.subscribed = False
        self._held = False
        connection.setblocking(False)
        service.loop.watch(connection.fileno(), READ, self._ready)

    def send(self, message: dict[str, Any]) -> None:
        """Queue an answer or event; what a dead client was told is forgotten."""
        if self._connection.fileno() < 0:
            return
        self._queue += encode(message)
        self._flush()

    @property
    def closed(self) -> bool:
        """Whether the client has gone."""
        return self._connection.fileno() < 0

    def take_over(self) -> tuple[Socket, bytes]:
        """The bare connection, for a stream, and what was read from it behind the request."""
        self._service.loop.forget(self._connection.fileno())
        self._service.connections.discard(self)
        self._connection.setblocking(True)
        if self._queue:
            self._connection.sendall(self._queue)  # a short answer to somebody who waits for it
        taken = sockets.adopt(self._connection.detach())
        rest, self._lines.rest = self._lines.rest, b""
        return taken, rest

    def hold(self) -> None:
        """Read no further request: what follows may be a stream's."""
        self._held = True
        self._flush()

    def close(self) -> None:
        """Tell what is still queued, if it is taken at once, and close."""
        if self._connection.fileno() < 0:
            return
        self._service.loop.forget(self._connection.fileno())
        self._service.connections.discard(self)
        self._connection.close()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self._held and events & HANGUP:
            self.close()
        elif events & (READ | HANGUP) and self._connection.fileno() >= 0:
            self._read()

    def _flush(self) -> None:
        try:
            while self._queue:
                self._queue = self._queue[self._connection.send(self._queue, MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._queue) > _QUEUE_LIMIT:
            self.close()
            return
        events = (0 if self._held else READ) | (WRITE if self._queue else 0)
        self._service.loop.watch(self._connection.fileno(), events, self._ready)

    def _read(self) -> None:
        try:
            data = self._connection.recv(_CHUNK)
            self._lines.feed(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            data = b""
        if not data:
            self.close()
            return
        while not self._held and self in self._service.connections and (line := self._lines.next()) is not None:
            self._handle(line)

    def _handle(self, line: bytes) -> None:
        number: object = None

        def answer(result: dict[str, Any]) -> None:
            self.send({"id": number, "result": result})

        try:
            request = json.loads(line)
            number = request["id"]
            self._service.handler(self, request, answer)
        except LaunchFailure as failure:
            problem = failure
        except OSError as error:
            problem = LaunchFailure("kernel", str(error), error.errno or 0)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            problem = LaunchFailure("request", f"bad request: {type(error).__name__}: {error}")
        else:
            return
        self.send({"id": number, "error": problem.to_json()})


class Service:
    """Accepts on monitor.sock and knows who is connected.

    Args:
        directory: descriptor of the container's directory.
        listener: of monitor.sock.
        handler: gets each request, with a function to answer it.
    """

    def __init__(self, loop: Loop, directory: int, listener: Socket, handler: Handler) -> None:
        self.loop = loop
        self.handler = handler
        self.connections: set[Connection] = set()
        self._directory = directory
        self._listener = listener
        self._listen()

    def adopt(self, connection: Socket) -> Connection:
        """Serve a connection that was not made through monitor.sock."""
        adopted = Connection(self, connection)
        self.connections.add(adopted)
        return adopted

    def publish(self, event: dict[str, Any]) -> None:
        """Tell all who have subscribed."""
        for connection in tuple(self.connections):
            if connection.subscribed:
                connection.send(event)

    def stop_listening(self) -> None:
        """Nobody can come any more; who is there stays."""
        if self._listener.fileno() >= 0:
            self.loop.forget(self._listener.fileno())
            self._listener.close()
            records.remove(self._directory, records.SOCKET)

    def close(self) -> None:
        """End it all."""
        self.stop_listening()
        for connection in tuple(self.connections):
            connection.close()

    def _listen(self) -> None:
        if self._listener.fileno() >= 0:
            self.loop.watch(self._listener.fileno(), READ, self._accept)

    def _accept(self, events: int) -> None:
        try:
            connection = sockets.accept(self._listener)
        except BlockingIOError:
            return
        except OSError:  # no descriptor or memory free: the client waits in the queue
            self.loop.forget(self._listener.fileno())
            self.loop.call_later(_PAUSE, self._listen)
            return
        self.connections.add(Connection(self, connection))
