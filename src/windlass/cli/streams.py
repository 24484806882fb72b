"""A terminal or pipes against a container: raw mode, resizing, detach keys, signals, Docker's multiplexed frames.

One thread and one poll loop. Standard input goes to the stream until it ends, then the stream's writing side is closed
and reading goes on; output ends when the engine closes. Signals arrive in the loop through a wake-up socket.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from windlass.cli.client import Connection

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


class Detached(Exception):
    """The detach keys were typed."""


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` or `a,b`: the bytes that are typed. Raises ValueError."""
    keys = bytearray()
    for part in (text or DEFAULT_DETACH_KEYS).split(","):
        if len(part) == 1:
            keys += part.encode()
        elif part.startswith("ctrl-") and len(part) == 6 and (code := ord(part[5].upper()) - 64) in range(32):
            keys.append(code)
        else:
            raise ValueError(f"Unknown character: '{part}'")
    return bytes(keys)


class EscapeFilter:
    """Takes the detach keys out of what is typed; keys that begin the sequence are held back until it is decided."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> bytes:
        """What goes to the container. Raises Detached at the end of the sequence."""
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    raise Detached
                continue
            out += self._keys[: self._matched]
            self._matched = 1 if byte == self._keys[0] else 0
            if not self._matched:
                out.append(byte)
        return bytes(out)


class Demultiplexer:
    """Splits Docker's frames ({stream, 0, 0, 0, length} and payload) onto two outputs."""

    def __init__(self, stdout: Callable[[bytes], object], stderr: Callable[[bytes], object]) -> None:
        self._outputs = {0: stdout, 1: stdout, 2: stderr, 3: stderr}
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        """Write each complete frame."""
        buffer, offset = self._buffer + data, 0
        while len(buffer) - offset >= 8:
            stream, length = struct.unpack_from(">BxxxI", buffer, offset)
            if len(buffer) - offset - 8 < length:
                break
            self._outputs.get(stream, self._outputs[1])(buffer[offset + 8 : offset + 8 + length])
            offset += 8 + length
        self._buffer = buffer[offset:]


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, or end quietly where the reader has gone, as a filter does."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def terminal_size(descriptor: int = 1) -> tuple[int, int] | None:
    """(height, width) in characters of the terminal on `descriptor`, None where there is none."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return None
    return size.lines, size.columns


@contextlib.contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """The terminal in raw mode: every key goes to the container, Ctrl-C too."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class Signals:
    """Signals as bytes in a socket, for a poll loop."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers
        self.reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def __enter__(self) -> Signals:
        def ignore(_number: int, _frame: FrameType | None) -> None:
            """The wake-up socket carries it."""

        self._before = {number: signal.signal(number, ignore) for number in self._numbers}
        self._fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.reader.close()
        self._writer.close()

    def take(self) -> list[int]:
        """Signals that have arrived."""
        return [number for number in self.reader.recv(64) if number in self._numbers]


def proxied_signals() -> list[int]:
    """What `--sig-proxy` forwards: all but those that cannot be caught or that concern this process alone."""
    own = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH}
    own |= {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP}
    return [number for number in signal.valid_signals() if number not in own and number < signal.SIGRTMIN]


class Session:
    """Standard streams against one hijacked connection."""

    def __init__(
        self,
        connection: Connection,
        *,
        tty: bool,
        stdin: bool,
        detach_keys: str = "",
        resize: Callable[[int, int], object] | None = None,
        kill: Callable[[int], object] | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> None:
        self._connection = connection
        self._tty = tty
        self._stdin = stdin
        self._filter = EscapeFilter(parse_detach_keys(detach_keys)) if tty and stdin else None
        self._resize = resize if tty else None
        self._kill = kill
        self._raw = tty and stdin and os.isatty(0)

        def drop(_data: bytes) -> None:
            """An output that was not asked for."""

        out = (lambda data: write_all(1, data)) if stdout else drop
        err = (lambda data: write_all(2, data)) if stderr else drop
        self._output: Callable[[bytes], None] = out if tty else Demultiplexer(out, err).feed

    def run(self) -> None:
        """Carry bytes until the engine ends the stream. Raises Detached."""
        sys.stdout.flush()
        numbers = ([signal.SIGWINCH] if self._resize else []) + (proxied_signals() if self._kill else [])
        with contextlib.ExitStack() as stack:
            signals = stack.enter_context(Signals(numbers))
            if self._raw:
                stack.enter_context(raw_terminal(0))
            self.fit()
            self._loop(signals)

    def fit(self) -> None:
        """Tell the engine the terminal's size."""
        if self._resize and (size := terminal_size()):
            self._resize(*size)

    def _loop(self, signals: Signals) -> None:
        remote = self._connection.socket
        poll = select.poll()
        poll.register(remote, select.POLLIN)
        poll.register(signals.reader, select.POLLIN)
        if self._stdin:
            poll.register(0, select.POLLIN)
        if self._connection.buffer:
            self._output(self._connection.buffer)
            self._connection.buffer = b""
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == remote.fileno():
                    try:
                        data = remote.recv(1 << 18)
                    except ConnectionResetError:
                        return
                    if not data:
                        return
                    self._output(data)
                elif descriptor == 0:
                    if not self._type(remote):
                        poll.unregister(0)
                else:
                    for number in signals.take():
                        self.fit() if number == signal.SIGWINCH else self._kill and self._kill(number)

    def _type(self, remote: socket.socket) -> bool:
        """Carry what is typed; False at the end of the input."""
        data = os.read(0, 1 << 16)
        if self._filter and data:
            data = self._filter.feed(data)
            if not data:
                return True
        try:
            if data:
                remote.sendall(data)
                return True
            remote.shutdown(socket.SHUT_WR)
        except OSError:
            # The container has ended; its output may still be on the way.
            return False
        return False
