"""Netlink attributes: type-length-value records, aligned to four bytes.

```
 0       2       4                    4+payload   aligned to 4
 ┌───────┬───────┬────────────────────┬─────────┐
 │length │ type  │ payload            │ padding │      struct nlattr, host byte order
 └───────┴───────┴────────────────────┴─────────┘
          bit 15 NLA_F_NESTED, bit 14 NLA_F_NET_BYTEORDER
```

Encoding is typed by function name; decoding is strict: a length that is too short or runs past the end is an error and
never a silent stop, because a half-read answer about the network would be acted upon. See netlink(7),
include/net/netlink.h.
"""

from __future__ import annotations

import struct

NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=HH")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")
_U64 = struct.Struct("=Q")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class DecodeError(ValueError):
    """What the kernel sent (or somebody who pretends to be it) is not well-formed."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute with its padding."""
    length = len(payload) + 4
    return _HEADER.pack(length, kind) + payload + _PADDING[length & 3]


def flag(kind: int) -> bytes:
    return _HEADER.pack(4, kind)


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u16(kind: int, value: int) -> bytes:
    return attribute(kind, _U16.pack(value))


def u16_be(kind: int, value: int) -> bytes:
    """Ports travel in network byte order."""
    return attribute(kind, value.to_bytes(2, "big"))


def u32(kind: int, value: int) -> bytes:
    return _HEADER.pack(8, kind) + _U32.pack(value)


def u64(kind: int, value: int) -> bytes:
    return attribute(kind, _U64.pack(value))


def string(kind: int, value: str) -> bytes:
    """A NUL-terminated string; a NUL inside would silently shorten the name, so it is refused."""
    encoded = value.encode()
    if b"\0" in encoded:
        raise ValueError(f"NUL in {value!r}")
    return attribute(kind, encoded + b"\0")


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute whose payload is attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def parse(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` to the end, by type without flag bits. A repeated type keeps its last value.

    Raises DecodeError.
    """
    found: dict[int, bytes] = {}
    end = len(data)
    while offset < end:
        if end - offset < 4:
            # Alignment of the last record may be left out, never more than that.
            raise DecodeError(f"{end - offset} bytes left where an attribute header takes 4")
        length, kind = _HEADER.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise DecodeError(f"attribute {kind & _TYPE_MASK} says {length} bytes, {end - offset} are left")
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def parse_list(data: bytes) -> list[tuple[int, bytes]]:
    """Like `parse` for payloads in which types repeat (arrays). Raises DecodeError."""
    found: list[tuple[int, bytes]] = []
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < 4:
            raise DecodeError(f"{end - offset} bytes left where an attribute header takes 4")
        length, kind = _HEADER.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise DecodeError(f"attribute {kind & _TYPE_MASK} says {length} bytes, {end - offset} are left")
        found.append((kind & _TYPE_MASK, data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def as_u8(data: bytes) -> int:
    if len(data) != 1:
        raise DecodeError(f"{len(data)} bytes where 1 is due")
    return data[0]


def as_u16(data: bytes) -> int:
    if len(data) != 2:
        raise DecodeError(f"{len(data)} bytes where 2 are due")
    return int(_U16.unpack(data)[0])


def as_u16_be(data: bytes) -> int:
    if len(data) != 2:
        raise DecodeError(f"{len(data)} bytes where 2 are due")
    return int.from_bytes(data, "big")


def as_u32(data: bytes) -> int:
    if len(data) != 4:
        raise DecodeError(f"{len(data)} bytes where 4 are due")
    return int(_U32.unpack(data)[0])


def as_i32(data: bytes) -> int:
    if len(data) != 4:
        raise DecodeError(f"{len(data)} bytes where 4 are due")
    return int(_I32.unpack(data)[0])


def as_string(data: bytes) -> str:
    """The text before the NUL that ends it. Raises DecodeError where there is none or the text is not UTF-8."""
    text, nul, rest = data.partition(b"\0")
    if not nul or rest.strip(b"\0"):
        raise DecodeError(f"{data!r} is not a NUL-terminated string")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"{data!r} is not UTF-8") from error
