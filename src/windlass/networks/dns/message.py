"""DNS messages, as much as a name server for containers needs: read one question, write answers (RFC 1035).

```
 ┌────┬───────┬─────────┬─────────┬─────────┬─────────┐ ┌──────────────────────┬──────┬───────┐
 │ id │ flags │ qdcount │ ancount │ nscount │ arcount │ │ 3 w w w 4 t e s t 0  │ type │ class │ ...
 └────┴───────┴─────────┴─────────┴─────────┴─────────┘ └──────────────────────┴──────┴───────┘
        header, 12 bytes                                  the question
```

What other servers answer is passed on as it is; only its header is looked at.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
LARGEST_UDP = 512

_HEADER = struct.Struct("!6H")
_RESPONSE, _OPCODE, _AUTHORITATIVE, _TRUNCATED = 0x8000, 0x7800, 0x0400, 0x0200
_RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x0100, 0x0080
_ANSWER = struct.Struct("!HHHIH")
_POINTER = 0xC00C  # the name that stands in the question, behind the header
_QUESTION = struct.pack("!H", _POINTER)
_RECORD = struct.Struct("!HHIH")
_EDNS_PAYLOAD = 1232


class DecodeError(ValueError):
    """What came is no DNS query that could be answered."""


class Query(NamedTuple):
    """One question. `name` is in lower case and has no dot at its end; `section` is the question as it came."""

    id: int
    flags: int
    name: str
    type: int
    kind: int
    section: bytes
    payload: int

    @property
    def standard(self) -> bool:
        return self.flags & _OPCODE == 0


def parse_query(data: bytes) -> Query:
    """Raises DecodeError: not a query, not exactly one question, or cut short."""
    if len(data) < 12:
        raise DecodeError("shorter than a header")
    identity, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE or questions != 1 or answers or authorities:
        raise DecodeError("not a query with one question")
    name, end = _name(data, 12)
    if end + 4 > len(data):
        raise DecodeError("the question is cut short")
    kind, class_ = struct.unpack_from("!HH", data, end)
    return Query(identity, flags, name, kind, class_, data[12 : end + 4], _payload(data, end + 4, additional))


def _name(data: bytes, offset: int) -> tuple[str, int]:
    """A name without compression (a question's has nothing to refer to), and where it ends."""
    labels: list[str] = []
    start = offset
    while True:
        if offset >= len(data):
            raise DecodeError("a name is cut short")
        length = data[offset]
        offset += 1
        if not length:
            break
        if length > 63 or offset + length > len(data) or offset + length - start > 255:
            raise DecodeError("not a name")
        label = data[offset : offset + length]
        # Bytes that are no text name nobody; they are kept apart from those that do.
        labels.append(label.decode("ascii", "backslashreplace").replace(".", "\\.").lower())
        offset += length
    return ".".join(labels), offset


def _payload(data: bytes, offset: int, additional: int) -> int:
    """How large an answer over UDP may be: what an EDNS record says (RFC 6891), else 512 bytes."""
    if additional == 1 and len(data) >= offset + 11 and data[offset] == 0:
        kind, size = struct.unpack_from("!HH", data, offset + 1)
        if kind == OPT:
            return max(LARGEST_UDP, int(size))
    return LARGEST_UDP


def encode_name(name: str) -> bytes:
    """Raises ValueError where a label is empty or too long."""
    encoded = b""
    for label in name.split("."):
        part = label.encode()
        if not 0 < len(part) < 64:
            raise ValueError(f"{name!r} is no domain name")
        encoded += bytes([len(part)]) + part
    if len(encoded) > 254:
        raise ValueError(f"{name!r} is too long for a domain name")
    return encoded + b"\0"


def answer(query: Query, records: Iterable[tuple[int, bytes]] = (), *, code: int = NOERROR, ttl: int = 600) -> bytes:
    """A response of ours with records (type and data) for the name asked for; `ttl` in seconds."""
    body = b""
    count = 0
    for kind, data in records:
        body += _ANSWER.pack(_POINTER, kind, IN, ttl, len(data)) + data
        count += 1
    flags = _RESPONSE | _RECURSION_AVAILABLE | (query.flags & (_OPCODE | _RECURSION_DESIRED)) | code
    if code == NOERROR:
        flags |= _AUTHORITATIVE
    return _HEADER.pack(query.id, flags, 1, count, 0, 0) + query.section + body


class Record(NamedTuple):
    """A resource record; `owner` is encoded, b"" for the name asked for."""

    owner: bytes
    type: int
    ttl: int
    data: bytes

    def encode(self) -> bytes:
        """As it is sent."""
        return (self.owner or _QUESTION) + _RECORD.pack(self.type, IN, self.ttl, len(self.data)) + self.data


def respond(
    query: Query,
    records: Sequence[Record] = (),
    *,
    authority: Sequence[Record] = (),
    additional: Sequence[Record] = (),
    code: int = NOERROR,
) -> bytes:
    """An authoritative response with records of any names; to who speaks EDNS, with an OPT record (RFC 6891, 6.1.1)."""
    options = b"\0" + _RECORD.pack(OPT, _EDNS_PAYLOAD, 0, 0) if query.payload > LARGEST_UDP else b""
    flags = _RESPONSE | _RECURSION_AVAILABLE | _AUTHORITATIVE | (query.flags & (_OPCODE | _RECURSION_DESIRED)) | code
    counts = len(records), len(authority), len(additional) + bool(options)
    body = b"".join(each.encode() for each in (*records, *authority, *additional))
    return _HEADER.pack(query.id, flags, 1, *counts) + query.section + body + options


def records_of(data: bytes) -> Iterator[Record]:
    """The answers of a response, each with its data as it came. Raises DecodeError."""
    try:
        _, _, questions, answers, _, _ = _HEADER.unpack_from(data)
        offset = 12
        for _ in range(questions):
            offset = _skip_name(data, offset) + 4
        for _ in range(answers):
            offset = _skip_name(data, offset)
            kind, _, ttl, size = _RECORD.unpack_from(data, offset)
            offset += _RECORD.size
            if offset + size > len(data):
                raise DecodeError("a record is cut short")
            yield Record(b"", kind, ttl, data[offset : offset + size])
            offset += size
    except (struct.error, IndexError) as error:
        raise DecodeError(str(error)) from None


def _skip_name(data: bytes, offset: int) -> int:
    """Where a name ends that may be compressed."""
    while (length := data[offset]) != 0:
        if length >= 0xC0:
            return offset + 2
        offset += length + 1
    return offset + 1


def refuse(data: bytes, code: int) -> bytes | None:
    """A response without a question to what could not be read; None where there is nobody to answer."""
    if len(data) < 12:
        return None
    identity, flags = struct.unpack_from("!HH", data)
    if flags & _RESPONSE:
        return None
    return _HEADER.pack(identity, _RESPONSE | _RECURSION_AVAILABLE | (flags & _OPCODE) | code, 0, 0, 0, 0)


def truncated(response: bytes) -> bytes:
    """The same response without its records, with the flag that makes the asker come again over TCP."""
    identity, flags, questions, _, _, _ = _HEADER.unpack_from(response)
    end = _name(response, 12)[1] + 4 if questions else 12
    return _HEADER.pack(identity, flags | _TRUNCATED, questions, 0, 0, 0) + response[12:end]


def answers_to(query: Query, data: bytes) -> bool:
    """Whether these bytes are somebody's response to this query."""
    if len(data) < 12:
        return False
    identity, flags, questions = struct.unpack_from("!3H", data)
    if identity != query.id or not flags & _RESPONSE:
        return False
    if not questions:
        return True  # servers that refuse may leave the question out
    section = data[12 : 12 + len(query.section)]
    return questions == 1 and section.lower() == query.section.lower()


def code_of(response: bytes) -> int:
    """The response code in a header."""
    return response[3] & 0x0F


def reverse_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `2.0.17.172.in-addr.arpa` (or ip6.arpa) asks about."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return ipaddress.IPv4Address(".".join(reversed(labels[:4])))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34 and all(len(each) == 1 for each in labels[:32]):
            return ipaddress.IPv6Address(int("".join(reversed(labels[:32])), 16).to_bytes(16, "big"))
    except ValueError:
        return None
    return None
