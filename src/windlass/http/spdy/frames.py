"""SPDY's frames: bytes to frames and back. Pure.

    control frame                                  data frame
    +-+-------------+---------------+              +-+-----------------------------+
    |1| version: 3  | type          |              |0| stream                      |
    +-+-------------+---------------+              +-+-----------------------------+
    | flags | length (24 bits)      |              | flags | length (24 bits)      |
    +-------+-----------------------+              +-------+-----------------------+
    | what the type says            |              | data                          |

Headers are compressed with one zlib stream for all frames of a direction, which begins with the dictionary below: a
frame whose headers cannot be read ends the connection, because nothing after it can be read either.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, UNSUPPORTED_VERSION, CANCEL, INTERNAL_ERROR = 1, 2, 3, 4, 5, 6

_VERSION: Final = 3
_FIN: Final = 1
_HEAD: Final = struct.Struct(">II")
_SYN: Final = struct.Struct(">IIBB")
_PAIR: Final = struct.Struct(">II")
_WORD: Final = struct.Struct(">I")
_STREAM_MASK: Final = 0x7FFFFFFF
_LENGTH_MASK: Final = 0xFFFFFF
_LONGEST_CONTROL: Final = 64 * 1024  # bytes of a control frame that we read
_LONGEST_HEADERS: Final = 64 * 1024  # bytes of its headers, decompressed
LONGEST_DATA: Final = 16 * 1024 * 1024 - 1

_NAMES: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_WORDS: Final = (
    *_NAMES.split(),
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
)
_REST: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = b"".join(_WORD.pack(len(word)) + word.encode() for word in _WORDS) + _REST.encode()

Fields = Sequence[tuple[str, str]]
"""Headers: names in lower case, several values of a name as several pairs."""


class SPDYError(ValueError):
    """The other side does not speak SPDY/3."""


class SynStream(NamedTuple):
    """A stream begins."""

    stream: int
    fields: Fields
    fin: bool = False


class SynReply(NamedTuple):
    """A stream is accepted."""

    stream: int
    fields: Fields = ()
    fin: bool = False


class Headers(NamedTuple):
    """More headers of a stream."""

    stream: int
    fields: Fields
    fin: bool = False


class RstStream(NamedTuple):
    """A stream ends at once, both ways."""

    stream: int
    status: int


class Ping(NamedTuple):
    """Is to be sent back as it is."""

    identity: int


class GoAway(NamedTuple):
    """No new streams, please."""

    last: int
    status: int = 0


class Data(NamedTuple):
    """Bytes of a stream; `fin`: its last ones in this direction."""

    stream: int
    data: bytes
    fin: bool = False


class Other(NamedTuple):
    """A control frame that says nothing to us: SETTINGS, WINDOW_UPDATE, or one of a type that nobody knows."""

    type: int


Frame = SynStream | SynReply | Headers | RstStream | Ping | GoAway | Data | Other


class Encoder:
    """Frames to bytes, in the order in which they are sent."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        """One frame's bytes."""
        match frame:
            case Data(stream, data, fin):
                return _HEAD.pack(stream, fin << 24 | len(data)) + data
            case SynStream(stream, fields, fin):
                return _control(SYN_STREAM, _SYN.pack(stream, 0, 0, 0) + self._block(fields), fin=fin)
            case SynReply(stream, fields, fin):
                return _control(SYN_REPLY, _WORD.pack(stream) + self._block(fields), fin=fin)
            case Headers(stream, fields, fin):
                return _control(HEADERS, _WORD.pack(stream) + self._block(fields), fin=fin)
            case RstStream(stream, status):
                return _control(RST_STREAM, _PAIR.pack(stream, status))
            case Ping(identity):
                return _control(PING, _WORD.pack(identity))
            case GoAway(last, status):
                return _control(GOAWAY, _PAIR.pack(last, status))
            case Other(type):
                return _control(type, b"")

    def _block(self, fields: Fields) -> bytes:
        values: dict[str, list[str]] = {}
        for name, value in fields:
            values.setdefault(name.lower(), []).append(value)
        parts = [_WORD.pack(len(values))]
        for name, found in values.items():
            for text in (name, "\0".join(found)):
                data = text.encode("latin-1")
                parts += (_WORD.pack(len(data)), data)
        return self._zlib.compress(b"".join(parts)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class Decoder:
    """Bytes to frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now. Raises SPDYError."""
        buffer = self._buffer
        buffer += data
        found: list[Frame] = []
        place = 0
        while len(buffer) - place >= _HEAD.size:
            first, second = _HEAD.unpack_from(buffer, place)
            length = second & _LENGTH_MASK
            if first >> 31 and length > _LONGEST_CONTROL:
                raise SPDYError(f"a control frame of {length} bytes")
            end = place + _HEAD.size + length
            if end > len(buffer):
                break
            payload = bytes(buffer[place + _HEAD.size : end])
            found.append(self._frame(first, second >> 24, payload))
            place = end
        del buffer[:place]
        return found

    def _frame(self, first: int, flags: int, payload: bytes) -> Frame:
        fin = bool(flags & _FIN)
        if not first >> 31:
            return Data(first, payload, fin)
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != _VERSION:
            raise SPDYError(f"SPDY version {version}")
        try:
            match kind:
                case 1:
                    stream, *_ = _SYN.unpack_from(payload)
                    return SynStream(stream & _STREAM_MASK, self._fields(payload[_SYN.size :]), fin)
                case 2:
                    (stream,) = _WORD.unpack_from(payload)
                    return SynReply(stream & _STREAM_MASK, self._fields(payload[_WORD.size :]), fin)
                case 8:
                    (stream,) = _WORD.unpack_from(payload)
                    return Headers(stream & _STREAM_MASK, self._fields(payload[_WORD.size :]), fin)
                case 3:
                    stream, status = _PAIR.unpack_from(payload)
                    return RstStream(stream & _STREAM_MASK, status)
                case 6:
                    return Ping(*_WORD.unpack_from(payload))
                case 7:
                    last, status = _PAIR.unpack_from(payload)
                    return GoAway(last & _STREAM_MASK, status)
        except struct.error as error:
            raise SPDYError(f"a frame of type {kind} is too short: {error}") from None
        return Other(kind)

    def _fields(self, block: bytes) -> list[tuple[str, str]]:
        try:
            data = self._zlib.decompress(block, _LONGEST_HEADERS)
        except zlib.error as error:
            raise SPDYError(f"headers cannot be read: {error}") from None
        if self._zlib.unconsumed_tail:
            raise SPDYError("headers are too long")
        texts, place = [], _WORD.size
        (count,) = _WORD.unpack_from(data)
        if count > len(data):
            raise SPDYError(f"headers with {count} names")
        for _ in range(2 * count):
            (length,) = _WORD.unpack_from(data, place)
            place += _WORD.size
            if place + length > len(data):
                raise SPDYError("headers end too soon")
            texts.append(data[place : place + length].decode("latin-1"))
            place += length
        pairs: Iterable[tuple[str, str]] = zip(texts[::2], texts[1::2], strict=True)
        return [(name.lower(), value) for name, values in pairs for value in values.split("\0")]


def _control(kind: int, payload: bytes, *, fin: bool = False) -> bytes:
    return _HEAD.pack(1 << 31 | _VERSION << 16 | kind, fin << 24 | len(payload)) + payload
