"""What a monitor does with output and input: log, attachers, back-pressure, half-close. No container needed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from windlass.logs.frames import frame
from windlass.runtime.monitor import attacher
from windlass.runtime.monitor.loop import READ, Loop
from windlass.runtime.monitor.streams import Streams


class MemoryLog:
    """A log writer that remembers."""

    lost_bytes = 0

    def __init__(self) -> None:
        self.chunks: list[tuple[str, bytes]] = []

    def write(self, stream: str, data: bytes, timestamp_ns: int) -> None:
        self.chunks.append((stream, data))

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def text(self, stream: str = "stdout") -> bytes:
        return b"".join(data for name, data in self.chunks if name == stream)


class Process:
    """The other side of the streams: what a container's process would hold."""

    def __init__(self, *, stdin: bool = True, stdin_once: bool = True, terminal: bool = False) -> None:
        self.loop = Loop()
        self.log = MemoryLog()
        out_reading, self.stdout = os.pipe()
        err_reading, self.stderr = os.pipe()
        self.stdin, in_writing = os.pipe() if stdin else (-1, -1)
        self.streams = Streams(
            self.loop,
            outputs={out_reading: "stdout", err_reading: "stderr"},
            stdin=in_writing,
            terminal=terminal,
            stdin_once=stdin_once,
            log=self.log,
        )
        self.streams.start()

    def attach(self, **wants: bool) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.streams.attach(theirs, **{"stdin": True, **wants})
        ours.setblocking(False)
        return ours

    def until(self, condition: Callable[[], object]) -> None:
        """Turn the loop until the condition holds; a condition that never does is the test's time-out."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self.loop.call_later(0.02, lambda: None)
            self.loop.run_once()

    def settle(self) -> None:
        """Turn the loop until nothing is ready any more."""
        done: list[bool] = []
        for _ in range(5):
            self.loop.call_later(0, lambda: done.append(True))
            self.loop.run_once()

    def close(self) -> None:
        for descriptor in (self.stdout, self.stderr, self.stdin):
            if descriptor >= 0:
                try:
                    os.close(descriptor)
                except OSError:
                    pass
        self.streams.close()


@pytest.fixture
def make_process() -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(**options: bool) -> Process:
        made.append(Process(**options))
        return made[-1]

    yield make
    for process in made:
        process.close()


def received(connection: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := connection.recv(1 << 20):
            data += chunk
    except BlockingIOError:
        pass
    return data


def at_end(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_output_goes_to_the_log_and_to_every_attacher_as_it_wants_it(make_process: Callable[..., Process]) -> None:
    process = make_process()
    both, only_errors = process.attach(), process.attach(stdout=False)
    os.write(process.stdout, b"out\n")
    process.until(lambda: process.log.text())
    os.write(process.stderr, b"err\n")
    process.until(lambda: process.log.text("stderr"))
    assert process.log.chunks == [("stdout", b"out\n"), ("stderr", b"err\n")]
    assert received(both) == frame("stdout", b"out\n") + frame("stderr", b"err\n")
    assert received(only_errors) == frame("stderr", b"err\n")
    both.close()
    only_errors.close()


def test_a_terminal_has_no_frames(make_process: Callable[..., Process]) -> None:
    process = make_process(terminal=True)
    connection = process.attach()
    os.write(process.stdout, b"raw")
    process.until(lambda: process.log.text())
    assert received(connection) == b"raw"
    connection.close()


def test_half_close_ends_the_input_and_not_the_output(make_process: Callable[..., Process]) -> None:
    process = make_process()
    connection = process.attach()
    connection.send(b"some input")
    connection.shutdown(socket.SHUT_WR)
    process.settle()
    assert os.read(process.stdin, 100) == b"some input"
    assert os.read(process.stdin, 100) == b""
    os.write(process.stdout, b"answer")
    process.until(lambda: process.log.text())
    assert received(connection) == frame("stdout", b"answer")
    connection.close()


@pytest.mark.parametrize("options", [{"stdin_once": False}, {"terminal": True}])
def test_without_stdin_once_the_end_of_input_detaches_and_stdin_stays_open(
    make_process: Callable[..., Process], options: dict[str, bool]
) -> None:
    process = make_process(**options)
    first = process.attach()
    first.send(b"one")
    first.shutdown(socket.SHUT_WR)
    process.until(lambda: at_end(first))
    second = process.attach()
    second.send(b"two")
    process.settle()
    assert os.read(process.stdin, 100) == b"onetwo"
    first.close()
    second.close()


def test_the_input_of_one_who_only_looks_on_is_ignored(make_process: Callable[..., Process]) -> None:
    process = make_process()
    connection = process.attach(stdin=False)
    connection.send(b"no")
    connection.shutdown(socket.SHUT_WR)
    process.settle()
    os.set_blocking(process.stdin, False)
    with pytest.raises(BlockingIOError):
        os.read(process.stdin, 10)
    os.write(process.stdout, b"still here")
    process.until(lambda: process.log.text())
    assert received(connection) == frame("stdout", b"still here")
    connection.close()


def test_the_end_of_input_means_nothing_to_a_process_without_stdin(make_process: Callable[..., Process]) -> None:
    process = make_process(stdin=False, stdin_once=False)
    connection = process.attach()
    connection.shutdown(socket.SHUT_WR)
    process.settle()
    os.write(process.stdout, b"output")
    process.until(lambda: process.log.text())
    assert received(connection) == frame("stdout", b"output")
    connection.close()


def test_input_waits_for_a_process_that_does_not_read_it(make_process: Callable[..., Process]) -> None:
    process = make_process()
    connection = process.attach()
    data = os.urandom(1 << 20)
    taken = sent = 0
    collected = b""
    closed = False
    while len(collected) < len(data):
        try:
            sent += connection.send(data[sent : sent + 65536]) if sent < len(data) else 0
        except BlockingIOError:
            pass
        if sent == len(data) and not closed:
            connection.shutdown(socket.SHUT_WR)
            closed = True
        process.settle()
        if taken % 3 == 0:
            os.set_blocking(process.stdin, False)
            try:
                collected += os.read(process.stdin, 50_000)
            except BlockingIOError:
                pass
        taken += 1
    assert collected == data
    process.settle()
    assert os.read(process.stdin, 1) == b""
    connection.close()


def test_output_nobody_takes_stops_the_process_and_goes_on_when_it_is_taken(
    make_process: Callable[..., Process],
) -> None:
    process = make_process()
    slow, other = process.attach(), process.attach()
    os.set_blocking(process.stdout, False)
    written = 0
    seen_by_other = b""
    for _ in range(2000):
        try:
            written += os.write(process.stdout, b"x" * 65536)
        except BlockingIOError:
            pass
        process.settle()
        seen_by_other += received(other)
    # The queue, the socket and the pipe are full; the process would have written for ever.
    assert attacher.QUEUE_LIMIT < written < attacher.QUEUE_LIMIT + (1 << 20)
    seen = b""
    while len(process.log.text()) < written or seen.count(b"x") < written:
        seen += received(slow)
        process.settle()
    assert seen.count(b"x") == written
    slow.close()
    other.close()


def test_who_takes_nothing_is_let_go(make_process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacher, "PATIENCE", 0.2)
    process = make_process()
    connection = process.attach()
    os.set_blocking(process.stdout, False)
    written = 0
    deadline = time.monotonic() + 20
    while written < 4 * attacher.QUEUE_LIMIT:
        assert time.monotonic() < deadline
        try:
            written += os.write(process.stdout, b"x" * 65536)
        except BlockingIOError:
            process.loop.call_later(0.05, lambda: None)
            process.loop.run_once()
    assert not process.streams.watched
    connection.close()


def test_an_attacher_that_vanishes_disturbs_nobody(make_process: Callable[..., Process]) -> None:
    process = make_process(stdin_once=False)
    gone, stays = process.attach(), process.attach()
    gone.send(b"last words")
    gone.close()
    process.settle()
    assert os.read(process.stdin, 100) == b"last words"
    os.write(process.stdout, b"on")
    process.until(lambda: process.log.text())
    assert received(stays) == frame("stdout", b"on")
    stays.close()


def test_the_end_waits_for_the_last_output_and_attachers_get_it(make_process: Callable[..., Process]) -> None:
    process = make_process()
    connection = process.attach()
    os.write(process.stdout, b"last")
    os.close(process.stdout)
    os.close(process.stderr)
    ended: list[bool] = []
    process.streams.end(lambda: ended.append(True))
    process.until(lambda: ended)
    process.streams.close()
    process.until(lambda: not process.streams.watched)
    assert received(connection) == frame("stdout", b"last")
    assert at_end(connection)
    connection.close()


def test_a_process_that_inherited_the_output_delays_the_end_only_for_a_moment(
    make_process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.runtime.monitor.streams._LAST_WORDS", 0.05)
    process = make_process()
    ended: list[bool] = []
    process.streams.end(lambda: ended.append(True))  # our ends of the pipes stay open
    process.until(lambda: ended)


def test_input_after_the_process_closed_its_stdin_goes_nowhere(make_process: Callable[..., Process]) -> None:
    process = make_process()
    connection = process.attach()
    os.close(process.stdin)
    process.stdin = -1
    connection.send(b"too late")
    process.settle()
    connection.send(b"again")
    process.settle()
    os.write(process.stdout, b"fine")
    process.until(lambda: process.log.text())
    assert received(connection) == frame("stdout", b"fine")
    connection.close()


def test_timers_run_in_their_order_and_can_be_cancelled() -> None:
    loop = Loop()
    order: list[int] = []
    loop.call_later(0.02, lambda: order.append(2))
    loop.call_later(0.01, lambda: order.append(1))
    loop.call_later(0.0, lambda: order.append(0)).cancel()
    while len(order) < 2:
        loop.run_once()
    assert order == [1, 2]


def test_a_descriptor_that_is_forgotten_in_a_round_is_not_handled_in_it() -> None:
    loop = Loop()
    first, second = os.pipe(), os.pipe()
    calls: list[int] = []

    def handle(own: int, other: int) -> Callable[[int], None]:
        def handler(events: int) -> None:
            calls.append(own)
            loop.forget(other)

        return handler

    loop.watch(first[0], READ, handle(first[0], second[0]))
    loop.watch(second[0], READ, handle(second[0], first[0]))
    os.write(first[1], b"x")
    os.write(second[1], b"x")
    loop.run_once()
    assert len(calls) == 1
    for descriptor in (*first, *second):
        os.close(descriptor)
