"""SPDY sessions: streams that begin, end and wait on their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from windlass.http.spdy import Session, Stream
from windlass.http.spdy.frames import (
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Ping,
    RstStream,
    SynReply,
    SynStream,
)


class Wire:
    """The other side of a session: sends frames, and sees those that come."""

    def __init__(self) -> None:
        self._encoder, self._decoder = Encoder(), Decoder()
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.taken = 0
        self.seen: list[Frame] = []
        self.gone = False

    def send(self, *frames: Frame) -> None:
        """Send frames."""
        for frame in frames:
            self._incoming.put_nowait(self._encoder.encode(frame))

    def send_bytes(self, data: bytes) -> None:
        """Send anything; nothing at the end."""
        self._incoming.put_nowait(data)

    async def read(self) -> bytes:
        """See `ByteStream`."""
        data = await self._incoming.get()
        self.taken += len(data)
        return data

    async def write(self, data: bytes) -> None:
        """See `ByteStream`."""
        if self.gone:
            raise ConnectionResetError
        self.seen += self._decoder.feed(data)


class Opened:
    """A session that runs, and the streams in it."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.streams: list[Stream] = []
        self.session = Session(self.wire, self.streams.append)
        self.task = asyncio.create_task(self.session.run())

    async def settle(self) -> None:
        """Let everything come to rest."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        """The other side is gone."""
        self.wire.send_bytes(b"")
        await self.task


async def test_streams_are_answered_and_end_in_each_direction() -> None:
    opened = Opened()
    opened.wire.send(SynStream(1, [("streamType", "data"), ("port", "80")]), Data(1, b"in"), Data(1, b"", fin=True))
    await opened.settle()
    (stream,) = opened.streams
    assert stream.headers == {"streamtype": "data", "port": "80"}
    assert [await stream.read(), await stream.read()] == [b"in", b""]
    await stream.write(b"x" * 70_000)
    await stream.close()
    await stream.close()
    with pytest.raises(ConnectionResetError):
        await stream.write(b"more")
    first, *data = opened.wire.seen
    assert first == SynReply(1, [])
    assert b"".join(each.data for each in data if isinstance(each, Data)) == b"x" * 70_000
    assert data[-1] == Data(1, b"", fin=True) and len(data) == 4
    assert list(opened.session) == []
    await opened.close()


async def test_pings_come_back_and_resets_end_both_directions() -> None:
    opened = Opened()
    opened.wire.send(Ping(7), SynStream(1, []), SynStream(3, []), RstStream(1, 5))
    await opened.settle()
    assert Ping(7) in opened.wire.seen
    first, second = opened.streams
    assert first.was_reset and await first.read() == b""
    await second.reset(3)
    assert opened.wire.seen[-1] == RstStream(3, 3)
    opened.wire.send(Data(3, b"late"))
    await opened.close()
    assert await second.read() == b""


async def test_a_stream_that_nobody_reads_holds_the_connection_back() -> None:
    opened = Opened()
    opened.wire.send(SynStream(1, []), *[Data(1, bytes(300_000)) for _ in range(10)])
    await opened.settle()
    assert 900_000 < opened.wire.taken < 1_900_000
    (stream,) = opened.streams
    got = 0
    while got < 3_000_000:
        got += len(await asyncio.wait_for(stream.read(), 5))
    opened.wire.send(*[Data(1, bytes(300_000)) for _ in range(10)])
    await opened.settle()
    stream.forget()
    opened.wire.send(Ping(9))
    await opened.settle()
    assert Ping(9) in opened.wire.seen
    await opened.close()


async def test_all_streams_end_with_the_connection() -> None:
    opened = Opened()
    opened.wire.send(SynStream(1, []), SynStream(3, []))
    await opened.settle()
    readers = [asyncio.create_task(stream.read()) for stream in opened.streams]
    opened.wire.gone = True
    await opened.close()
    assert await asyncio.gather(*readers) == [b"", b""]
    await opened.streams[0].close()
    await opened.session.leave()


@pytest.mark.parametrize("frames", [[SynStream(2, [])], [SynStream(3, []), SynStream(1, [])]])
async def test_who_breaks_the_protocol_is_left(frames: Sequence[Frame]) -> None:
    opened = Opened()
    opened.wire.send(*frames)
    await asyncio.wait_for(opened.task, 5)
    assert isinstance(opened.wire.seen[-1], GoAway) and opened.wire.seen[-1].status == 1


async def test_no_stream_begins_after_the_goodbye() -> None:
    opened = Opened()
    await opened.session.leave()
    opened.wire.send(SynStream(1, []))
    await opened.settle()
    assert opened.streams == [] and opened.wire.seen == [GoAway(0), RstStream(1, 3)]
    await opened.close()
