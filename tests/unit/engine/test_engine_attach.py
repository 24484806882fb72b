"""Clients on a container's streams, with a socket pair in the monitor's place."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.engine.attach import (
    FULL,
    STDERR,
    STDOUT,
    AttachHub,
    ClientStream,
    complete_frames,
    frame,
)
from windlass.engine.detach import DEFAULT_KEYS


class Monitor:
    """The far end of the connection."""

    far_ends: ClassVar[list[socket.socket]] = []

    def __init__(self, hub: AttachHub) -> None:
        near, self.far = socket.socketpair()
        self.far_ends.append(self.far)
        self.far.setblocking(False)
        hub.connect(near)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.far, data)

    async def receive(self, size: int = 1024) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.far, size)


def join(hub: AttachHub, *, stdout: bool = True, stderr: bool = True, stdin: bool = False) -> ClientStream:
    client = ClientStream(hub, stdin=stdin, stdout=stdout, stderr=stderr, detach_keys=DEFAULT_KEYS)
    hub.join(client)
    return client


@pytest.fixture(autouse=True)
def close_far_ends() -> Iterator[None]:
    yield
    while Monitor.far_ends:
        Monitor.far_ends.pop().close()


@pytest.fixture
async def hub() -> AsyncIterator[AttachHub]:
    made = AttachHub(terminal=False, close_stdin_once=True)
    yield made
    await made.close()


@pytest.fixture
async def terminal() -> AsyncIterator[AttachHub]:
    made = AttachHub(terminal=True, close_stdin_once=False)
    yield made
    await made.close()


async def test_everybody_sees_everything(hub: AttachHub) -> None:
    first, second = join(hub), join(hub)
    monitor = Monitor(hub)
    await monitor.send(frame(STDOUT, b"one"))
    assert await first.read() == await second.read() == frame(STDOUT, b"one")


async def test_a_client_gets_the_streams_that_it_asked_for(hub: AttachHub) -> None:
    out, err, nothing = join(hub, stderr=False), join(hub, stdout=False), join(hub, stdout=False, stderr=False)
    monitor = Monitor(hub)
    await monitor.send(frame(STDOUT, b"o") + frame(STDERR, b"e") + frame(STDOUT, b"p"))
    monitor.far.close()
    assert await out.read() == frame(STDOUT, b"o") + frame(STDOUT, b"p")
    assert await err.read() == frame(STDERR, b"e")
    assert await nothing.read() == b""


async def test_who_comes_between_two_halves_of_a_frame_sees_the_next_one(hub: AttachHub) -> None:
    first = join(hub)
    monitor = Monitor(hub)
    whole = frame(STDOUT, b"first")
    await monitor.send(whole[:9])
    await asyncio.sleep(0.01)
    late = join(hub)
    await monitor.send(whole[9:] + frame(STDOUT, b"second"))
    monitor.far.close()
    seen = b""
    while data := await first.read():
        seen += data
    assert seen == whole + frame(STDOUT, b"second")
    late_seen = b""
    while data := await late.read():
        late_seen += data
    assert late_seen.endswith(frame(STDOUT, b"second"))
    assert complete_frames(late_seen)[-1][2] == len(late_seen)


async def test_output_before_the_end_is_read_after_it(hub: AttachHub) -> None:
    client = join(hub)
    monitor = Monitor(hub)
    await monitor.send(frame(STDOUT, b"x"))
    monitor.far.close()
    assert await client.read() == frame(STDOUT, b"x")
    assert await client.read() == b""


async def test_input_waits_for_the_start_and_ends_with_the_client(hub: AttachHub) -> None:
    client = join(hub, stdin=True)
    writing = asyncio.ensure_future(client.write(b"hello"))
    await asyncio.sleep(0)
    assert not writing.done()
    monitor = Monitor(hub)
    await writing
    assert await monitor.receive() == b"hello"
    client.write_eof()
    assert await monitor.receive() == b""
    await monitor.send(frame(STDOUT, b"still here"))
    assert await client.read() == frame(STDOUT, b"still here")


async def test_an_end_of_input_before_the_start_is_remembered(hub: AttachHub) -> None:
    client = join(hub, stdin=True)
    client.write_eof()
    monitor = Monitor(hub)
    assert await monitor.receive() == b""
    await client.close()


async def test_detach_keys_end_one_client_only(terminal: AttachHub) -> None:
    other = join(terminal)
    left = []
    client = ClientStream(
        terminal,
        stdin=True,
        stdout=True,
        stderr=True,
        detach_keys=DEFAULT_KEYS,
        on_detach=lambda: left.append(True),
    )
    terminal.join(client)
    monitor = Monitor(terminal)
    await client.write(b"ls\n\x10\x11")
    assert await monitor.receive() == b"ls\n"
    assert await client.read() == b"" and client.detached and left == [True]
    await monitor.send(b"raw bytes")
    assert await other.read() == b"raw bytes"


async def test_a_terminals_client_that_ends_its_input_leaves(terminal: AttachHub) -> None:
    client = join(terminal, stdin=True)
    Monitor(terminal)
    client.write_eof()
    assert await client.read() == b""


async def test_a_slow_client_stops_the_reading_until_it_takes_something(hub: AttachHub) -> None:
    slow = join(hub)
    monitor = Monitor(hub)
    chunk = frame(STDOUT, b"x" * 60_000)
    sending = asyncio.ensure_future(monitor.send(chunk * 60))
    for _ in range(200):
        await asyncio.sleep(0.001)
        if slow.waiting > FULL:
            break
    assert not sending.done()
    total = 0
    while total < len(chunk) * 60:
        total += len(await slow.read())
    await sending
    assert total == len(chunk) * 60


async def test_a_dead_client_is_dropped_and_the_others_go_on(hub: AttachHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windlass.engine.attach.PATIENCE", 0.05)
    dead, living = join(hub), join(hub)
    monitor = Monitor(hub)
    chunk = frame(STDOUT, b"x" * 60_000)
    sending = asyncio.ensure_future(monitor.send(chunk * 40))
    total = 0
    while total < len(chunk) * 40:
        total += len(await living.read())
    await sending
    assert hub.clients == 1 and dead.waiting > FULL


async def test_the_last_client_takes_the_connection_along_and_the_next_brings_one(hub: AttachHub) -> None:
    client = join(hub)
    monitor = Monitor(hub)
    await client.close()
    assert await monitor.receive() == b""
    assert not hub.connected
    again = join(hub)
    monitor = Monitor(hub)
    await monitor.send(frame(STDOUT, b"again"))
    assert await again.read() == frame(STDOUT, b"again")


async def test_the_log_comes_before_what_is_new(hub: AttachHub) -> None:
    async def replay() -> AsyncIterator[bytes]:
        yield frame(STDOUT, b"old")
        yield frame(STDERR, b"older")

    client = ClientStream(hub, stdin=False, stdout=True, stderr=True, detach_keys=DEFAULT_KEYS, replay=replay())
    hub.join(client)
    monitor = Monitor(hub)
    await monitor.send(frame(STDOUT, b"new"))
    assert [await client.read() for _ in range(3)] == [
        frame(STDOUT, b"old"),
        frame(STDERR, b"older"),
        frame(STDOUT, b"new"),
    ]


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8), st.data())
def test_frames_are_found_wherever_the_data_is_cut(parts: list[tuple[int, bytes]], data: st.DataObject) -> None:
    whole = b"".join(frame(stream, payload) for stream, payload in parts)
    cut = data.draw(st.integers(0, len(whole)))
    first = complete_frames(whole[:cut])
    end = first[-1][2] if first else 0
    second = complete_frames(whole[end:])
    found = [(stream, whole[start + 8 : stop]) for stream, start, stop in first]
    found += [(stream, whole[end + start + 8 : end + stop]) for stream, start, stop in second]
    assert found == parts
