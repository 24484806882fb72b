"""Addresses of links, IPv4 and IPv6.

```
 ┌────────┬───────────┬───────┬───────┬───────────────┐ attributes IFA_*
 │ family │ prefixlen │ flags │ scope │ index (int32) │ ...
 └────────┴───────────┴───────┴───────┴───────────────┘ struct ifaddrmsg, 8 bytes
```
See rtnetlink(7).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass

from windlass.kernel.netlink.attributes import DecodeError, as_u32, attribute, parse, u32
from windlass.kernel.netlink.connection import NLM_F_CREATE, NLM_F_REPLACE, Message, NetlinkSocket, Reply

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22

IFA_F_NODAD = 0x02

SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254

_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_HEADER = struct.Struct("=BBBBi")

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Address:
    """An address with its prefix length, and the index of the link that has it."""

    interface: Interface
    index: int
    scope: int
    flags: int


def family_of(version: int) -> int:
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)


def _message(kind: int, flags: int, index: int, address: Interface, extra: bytes) -> Message:
    packed = address.ip.packed
    header = _HEADER.pack(family_of(address.version), address.network.prefixlen, 0, SCOPE_UNIVERSE, index)
    body = header + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed) + extra
    return Message(kind, flags, body, f"address {address} on link {index}")


def new_address(index: int, address: Interface, *, nodad: bool = True) -> Message:
    """Give a link an address; one that is there already is not an error.

    `nodad`: an IPv6 address is usable at once, without a second of duplicate detection: our own tables know who has it.
    """
    extra = b""
    if address.version == 4 and address.network.prefixlen < 31:
        extra = attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    elif address.version == 6 and nodad:
        extra = u32(_IFA_FLAGS, IFA_F_NODAD)
    return _message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, address, extra)


def delete_address(index: int, address: Interface) -> Message:
    return _message(RTM_DELADDR, 0, index, address, b"")


def parse_address(reply: Reply) -> Address:
    """Raises DecodeError."""
    body = reply.body
    if reply.type != RTM_NEWADDR or len(body) < _HEADER.size:
        raise DecodeError(f"message type {reply.type} of {len(body)} bytes is no address")
    family, prefix, flags, scope, index = _HEADER.unpack_from(body)
    found = parse(body, _HEADER.size)
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if packed is None:
        raise DecodeError(f"an address of link {index} has no bytes")
    if _IFA_FLAGS in found:
        flags = as_u32(found[_IFA_FLAGS])
    return Address(_interface(family, packed, prefix), index, scope, flags)


def _interface(family: int, packed: bytes, prefix: int) -> Interface:
    try:
        if family == socket.AF_INET:
            return ipaddress.IPv4Interface((packed, prefix))
        if family == socket.AF_INET6:
            return ipaddress.IPv6Interface((packed, prefix))
    except ValueError as error:
        raise DecodeError(str(error)) from error
    raise DecodeError(f"address family {family}")


def read_addresses(netlink: NetlinkSocket, *, index: int = 0, family: int = 0) -> list[Address]:
    """All addresses, or those of one link or family (AF_INET, AF_INET6), chosen by the kernel."""
    message = Message(RTM_GETADDR, 0, _HEADER.pack(family, 0, 0, 0, index), f"addresses of link {index or 'any'}")
    return [parse_address(reply) for reply in netlink.dump(message)]
