"""One who looks on: a stream socket that gets the output and may give input.

The output is queued up to 1 MiB; beyond that the process is not read any further, so it waits in its write(2), as it
does in front of any slow pipe. Who takes nothing at all for ten seconds is let go, so that nobody can hold a
container for ever.
"""

from __future__ import annotations

from collections import deque

from windlass.logs.frames import frame
from windlass.runtime.monitor.loop import HANGUP, READ, WRITE, Loop, Timer
from windlass.runtime.sockets import MSG_NOSIGNAL, Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Source(Protocol):
        """What an attacher is attached to."""

        def input(self, attacher: Attacher, data: bytes) -> None:
            """It has sent this; nothing: it will send no more."""

        def relieved(self, attacher: Attacher) -> None:
            """Its queue has become short again, or it is gone."""


QUEUE_LIMIT = 1 << 20
PATIENCE = 10.0
_CHUNK = 64 * 1024


class Attacher:
    """A connection that carries Docker's stream.

    Args:
        source: gets its input.
        multiplex: frames (no terminal) or raw bytes.
        stdin, stdout, stderr: what it takes part in.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Socket,
        source: Source,
        *,
        multiplex: bool,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        on_gone: Callable[[Attacher], None],
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._source = source
        self._multiplex = multiplex
        self._on_gone = on_gone
        self._wanted = {name for name, want in (("stdout", stdout), ("stderr", stderr)) if want}
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._finishing = False
        self._reading = True  # until its end of input
        self._held = False  # the process takes no input now
        self._timer: Timer | None = None
        self.stdin = stdin
        connection.setblocking(False)
        self._update()

    @property
    def full(self) -> bool:
        """Whether no more output should be read for it."""
        return self._queued > QUEUE_LIMIT

    @property
    def gone(self) -> bool:
        """Whether the connection is closed."""
        return self._connection.fileno() < 0

    def send(self, stream: str, data: bytes) -> None:
        """Output of the process; never blocks."""
        if self.gone or stream not in self._wanted:
            return
        view = memoryview(frame(stream, data) if self._multiplex else data)
        if not self._queue:
            try:
                view = view[self._connection.send(view, MSG_NOSIGNAL) :]
            except BlockingIOError:
                pass
            except OSError:
                self.drop()
                return
            if not view:
                return
            self._timer = self._loop.call_later(PATIENCE, self.drop)
        self._queue.append(view)
        self._queued += len(view)
        self._update()

    def hold(self, held: bool) -> None:
        """Whether to leave its input where it is for now."""
        if held != self._held and not self.gone:
            self._held = held
            self._update()

    def finish(self) -> None:
        """No more output will come: close when what is queued has been taken."""
        self._finishing = True
        if not self._queue:
            self.drop()

    def drop(self) -> None:
        """Close now."""
        if self.gone:
            return
        self._loop.forget(self._connection.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._connection.close()
        self._queue.clear()
        self._queued = 0
        self._on_gone(self)

    def _update(self) -> None:
        events = (READ if self._reading and not self._held else 0) | (WRITE if self._queue else 0)
        self._loop.watch(self._connection.fileno(), events, self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._write()
        if events & READ and not self.gone and self._reading:
            self._read()
        elif events & HANGUP and not self.gone:
            # Both directions are closed: no more than what the socket holds is still to be read, so read it.
            if self._reading:
                self._read()
            else:
                self.drop()

    def _write(self) -> None:
        before = self.full
        try:
            while self._queue:
                view = self._queue[0]
                sent = self._connection.send(view, MSG_NOSIGNAL)
                self._queued -= sent
                if sent < len(view):
                    self._queue[0] = view[sent:]
                else:
                    self._queue.popleft()
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self._loop.call_later(PATIENCE, self.drop) if self._queue else None
        except BlockingIOError:
            pass
        except OSError:
            self.drop()
            return
        if not self._queue and self._finishing:
            self.drop()
            return
        self._update()
        if before and not self.full:
            self._source.relieved(self)

    def _read(self) -> None:
        try:
            data = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._reading = False
            self._update()
        if self.stdin:
            self._source.input(self, data)
