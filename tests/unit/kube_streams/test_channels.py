"""A command's streams as channels of a WebSocket."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from typing import Any

import orjson

from windlass.kube.streams.channels import Channels, WebSocketStreams
from windlass.kube.streams.commands import STDERR, STDOUT, SUCCESS, non_zero, size_of
from windlass.kube.streams.options import Wanted

ALL = Wanted(stdin=True, stdout=True, stderr=True, tty=False)


class Socket:
    """A WebSocket whose client has sent some messages, and waits."""

    def __init__(self, subprotocol: str, messages: Iterable[bytes], *, stays: bool = False) -> None:
        self.subprotocol = subprotocol
        self._messages = list(messages)
        self._stays = stays
        self.sent: list[bytes] = []
        self.closed: list[int] = []

    async def message(self, limit: int) -> bytes | None:
        """See `WebSocket`."""
        del limit
        await asyncio.sleep(0)
        if self._messages:
            return self._messages.pop(0)
        if self._stays:
            await asyncio.Event().wait()
        return None

    async def send(self, data: bytes, *, text: bool = False) -> None:
        """See `WebSocket`."""
        del text
        self.sent.append(data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """See `WebSocket`."""
        del reason
        self.closed.append(code)


def opened(
    protocol: str, *messages: bytes, wanted: Wanted = ALL, stays: bool = False
) -> tuple[Socket, WebSocketStreams]:
    socket: Any = Socket(protocol, messages, stays=stays)
    return socket, WebSocketStreams(Channels(socket), protocol, wanted)


async def drained(streams: WebSocketStreams) -> list[bytes]:
    found = []
    while data := await streams.read():
        found.append(data)
    return found


async def test_input_ends_where_v5_says_so_and_sizes_are_read() -> None:
    size = orjson.dumps({"Width": 80, "Height": 24})
    messages = (b"\x00one", b"", b"\x04" + size, b"\x04{}", b"\xff\x00", b"\x00lost")
    _, streams = opened("v5.channel.k8s.io", *messages, stays=True)
    serving = asyncio.create_task(streams.serve())
    assert await drained(streams) == [b"one"]
    assert await streams.read_size() == (80, 24)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert await streams.read_size() is None


async def test_older_protocols_know_no_end_of_input_but_the_connections() -> None:
    _, streams = opened("v4.channel.k8s.io", b"\x00one", b"\xff\x00", b"\x00two")
    await streams.serve()
    assert await drained(streams) == [b"one", b"two"]


async def test_a_command_that_reads_nothing_holds_the_client_back() -> None:
    socket, streams = opened("v5.channel.k8s.io", *[b"\x00" + bytes(400_000) for _ in range(8)])
    serving = asyncio.create_task(streams.serve())
    await asyncio.sleep(0.05)
    assert len(socket._messages) >= 4
    assert sum(map(len, await drained(streams))) == 3_200_000
    await serving


async def test_output_and_the_end_go_to_their_channels() -> None:
    socket, streams = opened("v4.channel.k8s.io", wanted=Wanted(stdout=True))
    await streams.write(STDOUT, b"x" * 40_000)
    await streams.write(STDERR, b"not asked for")
    await streams.end(non_zero(3))
    *output, end = socket.sent
    assert b"".join(each[1:] for each in output) == b"x" * 40_000 and {each[0] for each in output} == {1}
    status = orjson.loads(end[1:])
    assert (end[0], status["reason"], status["details"]["causes"]) == (
        3,
        "NonZeroExitCode",
        [{"reason": "ExitCode", "message": "3"}],
    )
    assert socket.closed == [1000]


async def test_the_first_protocol_tells_of_failures_in_words() -> None:
    socket, streams = opened("channel.k8s.io")
    await streams.end(SUCCESS)
    assert socket.sent == []
    socket, streams = opened("channel.k8s.io")
    await streams.end(non_zero(3))
    assert socket.sent == [b"\x03command terminated with non-zero exit code: 3"]


async def test_browsers_get_base64() -> None:
    socket, streams = opened("v4.base64.channel.k8s.io", b"0" + base64.b64encode(b"in"), b"0***", b"0" + b"aGk=")
    await streams.serve()
    assert await drained(streams) == [b"in"]
    assert socket.closed == [1007]
    await streams.write(STDOUT, b"out")
    assert socket.sent == [b"1" + base64.b64encode(b"out")]


def test_sizes_that_are_none_are_passed_over() -> None:
    assert size_of(b'{"Width":80,"Height":24}') == (80, 24)
    for text in (b"", b"[]", b'{"Width":0,"Height":24}', b'{"Width":"x","Height":1}', b'{"Width":70000,"Height":1}'):
        assert size_of(text) is None
