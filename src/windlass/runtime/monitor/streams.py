"""The standard streams of one process: its output to the log and to all who look on, their input to it.

    stdout, stderr pipes   or   pty master                attachers (any number) ──> stdin pipe or pty master
            └─ read 64 KiB ─> log writer, attachers       all held while the process takes nothing

The end of an attacher's input means what it means to dockerd: with StdinOnce (or an exec) and no terminal it closes the
process's stdin and the output goes on; otherwise stdin stays open for the next, and this attacher is let go.
"""

from __future__ import annotations

import errno
import os
import time

from windlass.runtime.monitor.attacher import Attacher
from windlass.runtime.monitor.loop import READ, WRITE, Loop, Timer
from windlass.runtime.sockets import Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Log(Protocol):
        """Keeps the output."""

        def write(self, stream: str, data: bytes, timestamp_ns: int) -> None:
            """Store a chunk."""


_CHUNK = 64 * 1024
_PIPE_CHUNKS = (1 << 20) // _CHUNK
"""A pipe holds no more than this."""
_LAST_WORDS = 2.0
"""Seconds that a stream may stay open after its process has ended, because another process holds it (as dockerd)."""


class Streams:
    """Owns the monitor's ends of a process's stdio.

    Args:
        outputs: descriptor -> "stdout" or "stderr"; for a terminal the master.
        stdin: where input is written, -1 if the process has none.
        terminal: raw bytes on the wire instead of frames.
        stdin_once: the first attacher's end of input is the process's.
        log: keeps the output, or None.
    """

    def __init__(
        self,
        loop: Loop,
        *,
        outputs: dict[int, str],
        stdin: int,
        terminal: bool,
        stdin_once: bool,
        log: Log | None,
    ) -> None:
        self._loop = loop
        self._outputs = outputs
        self._stdin = stdin
        self._takes_input = stdin >= 0
        self._terminal = terminal
        self._stdin_once = stdin_once
        self._log = log
        self._attachers: list[Attacher] = []
        self._pending = b""  # input that the process has not taken yet
        self._closing_stdin = False
        self._paused = False
        self._ended: Callable[[], None] | None = None
        self._timer: Timer | None = None
        for descriptor in outputs:
            os.set_blocking(descriptor, False)
        if stdin >= 0:
            os.set_blocking(stdin, False)

    @property
    def watched(self) -> bool:
        """Whether somebody is attached."""
        return bool(self._attachers)

    def start(self) -> None:
        """Begin to read; what was attached before sees the first byte."""
        for descriptor in self._outputs:
            self._listen(descriptor)

    def attach(
        self,
        connection: Socket,
        *,
        stdin: bool,
        stdout: bool = True,
        stderr: bool = True,
        early_input: bytes = b"",
    ) -> None:
        """Add one who looks on; `early_input` is what it has sent already."""
        attacher = Attacher(
            self._loop,
            connection,
            self,
            multiplex=not self._terminal,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            on_gone=self._gone,
        )
        self._attachers.append(attacher)
        attacher.hold(bool(self._pending))
        if stdin and early_input:
            self.input(attacher, early_input)

    def end(self, callback: Callable[[], None]) -> None:
        """The process has ended: call back when its last output is read. Attachers stay until `close`."""
        self._ended = callback
        for descriptor in tuple(self._outputs):
            for _ in range(_PIPE_CHUNKS):
                if descriptor not in self._outputs or self._paused or not self._read(descriptor):
                    break
        if self._outputs:
            self._timer = self._loop.call_later(_LAST_WORDS, self._give_up)
        else:
            self._finish()

    def close(self) -> None:
        """Let everybody go, as soon as each has taken what is queued for it."""
        self.close_stdin()
        for descriptor in tuple(self._outputs):
            self._close_output(descriptor)
        for attacher in tuple(self._attachers):
            attacher.finish()

    # --- output

    def _listen(self, descriptor: int) -> None:
        self._loop.watch(descriptor, READ, lambda events: self._readable(descriptor))

    def _readable(self, descriptor: int) -> None:
        self._read(descriptor)

    def _read(self, descriptor: int) -> bool:
        """Read a chunk and hand it on; False if there is none now."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a pty's way to say that all its users are gone
                raise
            data = b""
        if not data:
            self._close_output(descriptor)
            return False
        name = self._outputs[descriptor]
        if self._log is not None:
            self._log.write(name, data, time.time_ns())
        if self._attachers:
            for attacher in tuple(self._attachers):
                attacher.send(name, data)
            if any(attacher.full for attacher in self._attachers):
                self._pause()
        return True

    def _close_output(self, descriptor: int) -> None:
        if self._outputs.pop(descriptor, None) is None:
            return
        self._loop.forget(descriptor)
        os.close(descriptor)
        if not self._outputs and self._ended is not None:
            self._finish()

    def _finish(self) -> None:
        callback, self._ended = self._ended, None
        if self._timer is not None:
            self._timer.cancel()
        if callback is not None:
            callback()

    def _give_up(self) -> None:
        if self._paused:  # nobody's fault but a slow attacher's, who has its own limit
            self._timer = self._loop.call_later(_LAST_WORDS, self._give_up)
            return
        for descriptor in tuple(self._outputs):
            self._close_output(descriptor)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            for descriptor in self._outputs:
                self._loop.forget(descriptor)

    def relieved(self, attacher: Attacher) -> None:
        """An attacher has caught up: read on, if it was the last that had to."""
        if self._paused and not any(other.full for other in self._attachers):
            self._paused = False
            for descriptor in self._outputs:
                self._listen(descriptor)

    def _gone(self, attacher: Attacher) -> None:
        if attacher in self._attachers:
            self._attachers.remove(attacher)
        self.relieved(attacher)

    # --- input

    def input(self, attacher: Attacher, data: bytes) -> None:
        """Input from an attacher; none: it will send no more."""
        if not self._takes_input:
            return  # it was never asked for any: neither does its end mean anything
        if data:
            if self._stdin >= 0 and not self._closing_stdin:
                self._pending += data
                self._write()
        elif self._stdin_once and not self._terminal:
            self._closing_stdin = True
            self._write()
        else:
            attacher.drop()

    def close_stdin(self) -> None:
        """The process reads the end of its input, now."""
        if self._stdin >= 0:
            self._loop.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1
        self._pending = b""
        self._hold(False)

    def _write(self) -> None:
        """Hand over what is pending, as far as it is taken."""
        if self._stdin < 0:
            return
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._stdin, self._pending) :]
        except BlockingIOError:
            self._loop.watch(self._stdin, WRITE, lambda events: self._write())
            self._hold(True)
            return
        except OSError:  # nobody reads it any more: further input goes nowhere
            self.close_stdin()
            return
        self._loop.forget(self._stdin)
        self._hold(False)
        if self._closing_stdin:
            self.close_stdin()

    def _hold(self, held: bool) -> None:
        for attacher in tuple(self._attachers):
            if attacher.stdin:
                attacher.hold(held)
