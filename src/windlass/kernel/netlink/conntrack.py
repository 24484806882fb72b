"""Forgetting tracked connections (ctnetlink).

Network address translation is decided by the first packet of a connection; the tracked entry keeps the decision. UDP
has no end that the kernel could see, so a client that goes on sending keeps using a mapping that is gone, or keeps
missing one that is new, until its entry is removed.

```
 struct nfgenmsg: family, version, res_id
 CTA_TUPLE_ORIG  ┬ CTA_TUPLE_IP    ┬ source        what the first packet said
                 │                 └ destination
                 └ CTA_TUPLE_PROTO ─ number, source port, destination port
 CTA_TUPLE_REPLY ─ the same, as answers come back (source is the container's end of a translated connection)
```
Entries are listed with the kernel's filter (5.8 and newer honour it, older kernels ignore it), checked again here, and
deleted one by one, so that no kernel ever forgets more than was meant. See
include/uapi/linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple

from windlass.kernel.netlink.address import family_of
from windlass.kernel.netlink.attributes import (
    DecodeError,
    as_u8,
    as_u16_be,
    attribute,
    nested,
    parse,
    u8,
    u16_be,
    u32,
)
from windlass.kernel.netlink.connection import Message, NetlinkSocket, Reply
from windlass.kernel.netlink.route import IPAddress

_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2  # subsystem NFNL_SUBSYS_CTNETLINK
_NEW = 1 << 8
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_FILTER = 1, 2, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_FILTER_ORIG, _FILTER_REPLY = 1, 2
_F_IP_SRC, _F_IP_DST, _F_PROTO_NUM, _F_SRC_PORT, _F_DST_PORT = 1, 2, 8, 16, 32
_HEADER = struct.Struct("=BBH")


class Tuple(NamedTuple):
    """One direction of a connection; None is anything (in a pattern) or not there (ports, where there are none)."""

    source: IPAddress | None = None
    destination: IPAddress | None = None
    protocol: int | None = None
    source_port: int | None = None
    destination_port: int | None = None

    def matches(self, other: Tuple) -> bool:
        """Whether `other` is one of those that this pattern describes."""
        return all(mine is None or mine == theirs for mine, theirs in zip(self, other, strict=True))


class Connection(NamedTuple):
    """A tracked connection; `raw` is its original tuple as the kernel wrote it, by which it is deleted."""

    original: Tuple
    reply: Tuple
    raw: bytes


def _encode(kind: int, pattern: Tuple) -> tuple[bytes, int]:
    addresses = protocol = b""
    flags = 0
    for address, flag, place in ((pattern.source, _F_IP_SRC, 1), (pattern.destination, _F_IP_DST, 2)):
        if address is not None:
            addresses += attribute(place if address.version == 4 else place + 2, address.packed)
            flags |= flag
    if pattern.protocol is None and (pattern.source_port is not None or pattern.destination_port is not None):
        raise ValueError("a port is of a protocol, and none is given")
    if pattern.protocol is not None:
        protocol += u8(_CTA_PROTO_NUM, pattern.protocol)
        flags |= _F_PROTO_NUM
    for port, flag, place in (
        (pattern.source_port, _F_SRC_PORT, _CTA_PROTO_SRC_PORT),
        (pattern.destination_port, _F_DST_PORT, _CTA_PROTO_DST_PORT),
    ):
        if port is not None:
            protocol += u16_be(place, port)
            flags |= flag
    parts = (nested(_CTA_TUPLE_IP, addresses) if addresses else b"") + (
        nested(_CTA_TUPLE_PROTO, protocol) if protocol else b""
    )
    return (nested(kind, parts) if parts else b""), flags


def _decode_tuple(data: bytes) -> Tuple:
    found = parse(data)
    addresses = parse(found.get(_CTA_TUPLE_IP, b""))
    protocol = parse(found.get(_CTA_TUPLE_PROTO, b""))

    def address(place: int) -> IPAddress | None:
        packed = addresses.get(place) or addresses.get(place + 2)
        try:
            return ipaddress.ip_address(packed) if packed is not None else None
        except ValueError as error:
            raise DecodeError(str(error)) from error

    def port(place: int) -> int | None:
        return as_u16_be(protocol[place]) if place in protocol else None

    return Tuple(
        source=address(1),
        destination=address(2),
        protocol=as_u8(protocol[_CTA_PROTO_NUM]) if _CTA_PROTO_NUM in protocol else None,
        source_port=port(_CTA_PROTO_SRC_PORT),
        destination_port=port(_CTA_PROTO_DST_PORT),
    )


def parse_connection(reply: Reply) -> Connection:
    """Raises DecodeError."""
    if reply.type != _NEW or len(reply.body) < _HEADER.size:
        raise DecodeError(f"message type {reply.type} of {len(reply.body)} bytes is no connection")
    found = parse(reply.body, _HEADER.size)
    if _CTA_TUPLE_ORIG not in found or _CTA_TUPLE_REPLY not in found:
        raise DecodeError("a connection has two tuples")
    raw = found[_CTA_TUPLE_ORIG]
    return Connection(_decode_tuple(raw), _decode_tuple(found[_CTA_TUPLE_REPLY]), raw)


def read_connections(
    netlink: NetlinkSocket, family: int, *, original: Tuple | None = None, reply: Tuple | None = None
) -> list[Connection]:
    """Connections of AF_INET or AF_INET6 that match both patterns; `netlink` speaks NETLINK_NETFILTER."""
    original, reply = original or Tuple(), reply or Tuple()
    body = _HEADER.pack(family, 0, 0)
    first, first_flags = _encode(_CTA_TUPLE_ORIG, original)
    second, second_flags = _encode(_CTA_TUPLE_REPLY, reply)
    if first or second:
        flags = (u32(_FILTER_ORIG, first_flags) if first else b"") + (
            u32(_FILTER_REPLY, second_flags) if second else b""
        )
        body += first + second + nested(_CTA_FILTER, flags)
    found = (parse_connection(answer) for answer in netlink.dump(Message(_GET, 0, body, "tracked connections")))
    return [each for each in found if original.matches(each.original) and reply.matches(each.reply)]


def forget(netlink: NetlinkSocket, *, original: Tuple | None = None, reply: Tuple | None = None) -> int:
    """Forget the connections that match both patterns; at least one address or protocol must be given. How many were.

    Raises OSError and ValueError.
    """
    addresses = [
        address
        for pattern in (original or Tuple(), reply or Tuple())
        for address in (pattern.source, pattern.destination)
        if address is not None
    ]
    if (original or Tuple()) == Tuple() == (reply or Tuple()):
        raise ValueError("a pattern that matches everything")
    families = {family_of(address.version) for address in addresses} or {int(socket.AF_INET), int(socket.AF_INET6)}
    count = 0
    for family in sorted(families):
        header = _HEADER.pack(family, 0, 0)
        messages = [
            Message(_DELETE, 0, header + nested(_CTA_TUPLE_ORIG, each.raw), "tracked connection")
            for each in read_connections(netlink, family, original=original, reply=reply)
        ]
        if messages:
            outcome = netlink.attempt(*messages)
            # Entries that ended by themselves meanwhile are what was wanted.
            for error in outcome:
                if error is not None and not isinstance(error, FileNotFoundError):
                    raise error
            count += sum(error is None for error in outcome)
    return count
