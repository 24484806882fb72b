"""Where a body ends: by length or chunked (RFC 9112, sections 6 and 7). Pure: bytes in, bytes out.

A decoder takes what arrived and says which part is payload and where the body ended; what follows belongs to the next
request or to a hijacked stream, so the border must be exact to the byte. Everything doubtful is an error: a bare line
feed, a sign, white space before a size, an over-long line. Two readers that disagree about a border are a way to
smuggle requests.

    5;ext=1 CRLF  hello CRLF  0 CRLF  [trailer field CRLF]*  CRLF
    └─ size line   └ data      └ last  └ read and dropped
"""

from __future__ import annotations

import re
from typing import Protocol

LINE_LIMIT = 4096  # one size line with its extensions, one trailer field
OVERHEAD_LIMIT = 64 * 1024  # all extensions and trailers of one body together
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class FramingError(ValueError):
    """The body does not follow its framing."""


class Decoder(Protocol):
    """Reads one body."""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """Give the payload in `data`, and the bytes behind the body once it has ended (`None` until then)."""
        ...


class LengthDecoder:
    """A body of exactly `length` bytes."""

    __slots__ = ("remaining",)

    def __init__(self, length: int) -> None:
        self.remaining = length

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        if len(data) < self.remaining:
            self.remaining -= len(data)
            return [data], None
        payload, rest = data[: self.remaining], data[self.remaining :]
        self.remaining = 0
        return ([payload] if payload else []), rest


class ChunkedDecoder:
    """A body in chunks; trailers are checked for their form and dropped."""

    __slots__ = ("_left", "_line", "_overhead", "_state")

    def __init__(self) -> None:
        self._state = self._size
        self._line = b""  # the beginning of a line whose end has not arrived
        self._left = 0  # bytes of the current chunk still to come
        self._overhead = 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        payload: list[bytes] = []
        position = 0
        while position < len(data):
            following = self._state(data, position, payload)
            if following < 0:  # the body ended
                return payload, data[-following - 1 :]
            position = following
        return payload, None

    # Each state consumes from `position` and returns the next one, or -(next + 1) at the body's end.

    def _size(self, data: bytes, position: int, payload: list[bytes]) -> int:
        line, position = self._take_line(data, position)
        if line is None:
            return position
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise FramingError("invalid chunk size")
        self._count(len(line) - len(match[1]))
        self._left = int(match[1], 16)
        self._state = self._data if self._left else self._trailer
        return position

    def _data(self, data: bytes, position: int, payload: list[bytes]) -> int:
        end = position + self._left
        if end > len(data):
            end = len(data)
        if end > position:
            payload.append(data[position:end])
            self._left -= end - position
        if not self._left:
            self._state = self._data_end
        return end

    def _data_end(self, data: bytes, position: int, payload: list[bytes]) -> int:
        line, position = self._take_line(data, position)
        if line is None:
            if self._line not in (b"", b"\r"):
                raise FramingError("missing line end after a chunk")
            return position
        if line:
            raise FramingError("missing line end after a chunk")
        self._state = self._size
        return position

    def _trailer(self, data: bytes, position: int, payload: list[bytes]) -> int:
        line, position = self._take_line(data, position)
        if line is None:
            return position
        if not line:
            return -position - 1
        if not _TRAILER.fullmatch(line):
            raise FramingError("invalid trailer field")
        self._count(len(line))
        return position

    def _take_line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """A whole line without its CRLF, or `None` when its end is yet to come (the part is kept)."""
        end = data.find(b"\n", position)
        if end < 0:
            self._line += data[position:]
            if len(self._line) > LINE_LIMIT:
                raise FramingError("line too long in a chunked body")
            return None, len(data)
        line = self._line + data[position:end]
        self._line = b""
        if len(line) > LINE_LIMIT:
            raise FramingError("line too long in a chunked body")
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise FramingError("bare line end in a chunked body")
        return line[:-1], end + 1

    def _count(self, size: int) -> None:
        self._overhead += size
        if self._overhead > OVERHEAD_LIMIT:
            raise FramingError("too many chunk extensions or trailers")


def chunk(data: bytes) -> bytes:
    """One chunk of an answer; `data` must not be empty (an empty chunk is the end)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
