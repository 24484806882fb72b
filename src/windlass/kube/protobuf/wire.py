"""Protobuf's encoding: varints and length-delimited fields. Bounded: a length never leads out of the message.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """The bytes are no message."""


def varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """A number and the position behind it."""
    result = shift = 0
    while True:
        if position >= len(data):
            raise Malformed("unexpected EOF")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift >= 70:
            raise Malformed("proto: integer overflow")


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Number, wire type and value of each field."""
    position, end = 0, len(data)
    while position < end:
        key, position = varint(data, position)
        number, kind = key >> 3, key & 7
        if not number:
            raise Malformed("proto: illegal tag 0")
        if kind == VARINT:
            value, position = varint(data, position)
            yield number, kind, value
        elif kind == BYTES:
            length, position = varint(data, position)
            if length > end - position:
                raise Malformed("unexpected EOF")
            yield number, kind, data[position : position + length]
            position += length
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
            if size > end - position:
                raise Malformed("unexpected EOF")
            yield number, kind, data[position : position + size]
            position += size
        else:
            raise Malformed(f"proto: illegal wireType {kind}")


def signed(value: int, bits: int) -> int:
    """A varint as a signed number of int32 or int64."""
    value &= (1 << 64) - 1
    if value >= 1 << 63:
        value -= 1 << 64
    if bits == 32:
        value = ((value + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    return value


def put_varint(value: int) -> bytes:
    """A number; negative ones take ten bytes."""
    value &= 0xFFFFFFFFFFFFFFFF
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def put_bytes(number: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return put_varint(number << 3 | BYTES) + put_varint(len(value)) + value


def put_number(number: int, value: int) -> bytes:
    """A varint field."""
    return put_varint(number << 3 | VARINT) + put_varint(value)


def put_double(number: int, value: float) -> bytes:
    """A double field."""
    return put_varint(number << 3 | FIXED64) + struct.pack("<d", value)
