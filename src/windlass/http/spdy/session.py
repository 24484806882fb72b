"""A SPDY connection's streams, seen from the server: the other side opens them.

    transport ─ read ─▶ Decoder ─▶ Stream.read            one task reads for all: Session.run
              ◀ write ─ Encoder ◀─ Stream.write

Each stream ends in each direction on its own (FIN), or at once (RST_STREAM). When the connection ends, all do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from windlass.http.spdy.frames import (
    INVALID_STREAM,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Data,
    Decoder,
    Encoder,
    Fields,
    Frame,
    GoAway,
    Headers,
    Ping,
    RstStream,
    SPDYError,
    SynReply,
    SynStream,
)

_FULL: Final = 1 << 20  # bytes that wait in a stream above which nothing more is read
_CHUNK: Final = 32 * 1024  # bytes of a data frame: streams take turns
_MOST_STREAMS: Final = 4096


class ByteStream(Protocol):
    """What a session runs over."""

    async def read(self) -> bytes:
        """The next bytes, none at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send. Raises ConnectionError."""


class Stream:
    """One stream. One task may read while another writes."""

    def __init__(self, session: Session, number: int, fields: Fields) -> None:
        self.number = number
        self.headers: Mapping[str, str] = dict(reversed(list(fields)))
        self.was_reset = False
        self._session = session
        self._chunks: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._size = 0
        self._input_ended = False
        self._output_ended = False

    async def read(self) -> bytes:
        """The next bytes; none at the end, be it the stream's or the connection's."""
        while not self._chunks:
            if self._input_ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._chunks.popleft()
        self._size -= len(data)
        if self._size <= _FULL // 2:
            self._session.drained.set()
        return data

    async def write(self, data: bytes) -> None:
        """Send. Raises ConnectionError where the stream or the connection has ended."""
        for place in range(0, len(data), _CHUNK):
            if self._output_ended:
                raise ConnectionResetError("the stream has ended")
            await self._session.send(Data(self.number, data[place : place + _CHUNK]))

    async def close(self) -> None:
        """Nothing more is sent; the other side may go on. A connection that is gone is no error."""
        if not self._output_ended:
            self._output_ended = True
            with contextlib.suppress(ConnectionError):
                await self._session.send(Data(self.number, b"", fin=True))
            self._session.settle(self)

    async def reset(self, status: int = REFUSED_STREAM) -> None:
        """End the stream both ways at once."""
        if not (self._output_ended and self._input_ended):
            self.end()
            with contextlib.suppress(ConnectionError):
                await self._session.send(RstStream(self.number, status))
            self._session.settle(self)

    @property
    def ended(self) -> bool:
        """Whether both directions have."""
        return self._input_ended and self._output_ended

    # What the session calls.

    def feed(self, data: bytes, *, fin: bool) -> bool:
        """Take what has come; whether there is room for more."""
        if data and not self._input_ended:
            self._chunks.append(data)
            self._size += len(data)
        self._input_ended = self._input_ended or fin
        self._changed.set()
        return self._size <= _FULL or self._input_ended

    def end(self) -> None:
        """Nothing comes or goes any more. What has come can still be read."""
        self._input_ended = self._output_ended = True
        self._changed.set()

    @property
    def is_full(self) -> bool:
        """Whether nobody has taken what has come."""
        return self._size > _FULL and not self._input_ended

    def forget(self) -> None:
        """Nobody will read what comes."""
        self._chunks.clear()
        self._size = 0
        self._input_ended = True
        self._session.drained.set()


class Session:
    """The server's end. `opened` is called with each stream that the other side opens."""

    def __init__(self, transport: ByteStream, opened: Callable[[Stream], None]) -> None:
        self._transport = transport
        self._opened = opened
        self._encoder = Encoder()
        self._streams: dict[int, Stream] = {}
        self._last = 0
        self._leaving = False
        self.drained = asyncio.Event()

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    async def run(self) -> None:
        """Read until the connection ends; then all streams have. What is no SPDY ends it, too."""
        decoder = Decoder()
        try:
            while data := await self._transport.read():
                for frame in decoder.feed(data):
                    await self._take(frame)
        except SPDYError:
            with contextlib.suppress(ConnectionError):
                await self.send(GoAway(self._last, PROTOCOL_ERROR))
        except ConnectionError:
            pass
        finally:
            for stream in self:
                stream.end()

    async def send(self, frame: Frame) -> None:
        """Send a frame. Raises ConnectionError."""
        # Encoded and handed over without a pause between: the headers' compression knows one order alone.
        await self._transport.write(self._encoder.encode(frame))

    async def leave(self) -> None:
        """Say goodbye. A connection that is gone is no error."""
        if not self._leaving:
            self._leaving = True
            with contextlib.suppress(ConnectionError):
                await self.send(GoAway(self._last))

    def settle(self, stream: Stream) -> None:
        """Forget a stream that has ended both ways."""
        if stream.ended:
            self._streams.pop(stream.number, None)

    async def _take(self, frame: Frame) -> None:
        match frame:
            case Data(number, data, fin):
                stream = self._streams.get(number)
                if stream is None:
                    return  # it was on its way while the stream ended
                if not stream.feed(data, fin=fin):
                    while stream.is_full:
                        self.drained.clear()
                        await self.drained.wait()
                self.settle(stream)
            case SynStream(number, fields, fin):
                await self._begin(number, fields, fin=fin)
            case RstStream(number):
                stream = self._streams.pop(number, None)
                if stream is not None:
                    stream.was_reset = True
                    stream.end()
            case Headers(number, _, fin):
                stream = self._streams.get(number)
                if stream is None:
                    await self.send(RstStream(number, INVALID_STREAM))
                else:
                    stream.feed(b"", fin=fin)
                    self.settle(stream)
            case Ping():
                await self.send(frame)

    async def _begin(self, number: int, fields: Fields, *, fin: bool) -> None:
        if number <= self._last or not number % 2:
            raise SPDYError(f"stream {number} after {self._last}")
        self._last = number
        if self._leaving or len(self._streams) >= _MOST_STREAMS:
            await self.send(RstStream(number, REFUSED_STREAM))
            return
        stream = self._streams[number] = Stream(self, number, fields)
        await self.send(SynReply(number))
        stream.feed(b"", fin=fin)
        self._opened(stream)
