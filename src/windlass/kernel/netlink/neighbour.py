"""Neighbours: who has which address (ARP, NDP), and a bridge's or tunnel's stations (FDB).

```
 ┌────────┬─────┬───────────────┬─────────────┬───────┬──────┐ attributes NDA_*
 │ family │ pad │ index (int32) │ state (u16) │ flags │ type │ ...
 └────────┴─────┴───────────────┴─────────────┴───────┴──────┘ struct ndmsg, 12 bytes
```
See rtnetlink(7), include/uapi/linux/neighbour.h.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from windlass.kernel.netlink.address import family_of
from windlass.kernel.netlink.attributes import DecodeError, attribute, parse
from windlass.kernel.netlink.connection import NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, Message, NetlinkSocket, Reply
from windlass.kernel.netlink.link import format_mac, parse_mac
from windlass.kernel.netlink.route import IPAddress, _address

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

NUD_REACHABLE, NUD_STALE, NUD_FAILED, NUD_NOARP, NUD_PERMANENT = 0x02, 0x04, 0x20, 0x40, 0x80

_NTF_USE, _NTF_SELF = 0x01, 0x02
_AF_BRIDGE = 7
_NDA_DST, _NDA_LLADDR = 1, 2
_HEADER = struct.Struct("=BxxxiHBB")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An address on a link and the station that has it. `address` is None in a bridge's own table."""

    index: int
    address: IPAddress | None
    mac: str
    state: int


def new_neighbour(index: int, address: IPAddress, mac: str, *, state: int = NUD_PERMANENT) -> Message:
    body = _HEADER.pack(family_of(address.version), index, state, 0, 0)
    body += attribute(_NDA_DST, address.packed) + attribute(_NDA_LLADDR, parse_mac(mac))
    return Message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"neighbour {address} on link {index}")


def ask_neighbour(index: int, address: IPAddress) -> Message:
    """Let the kernel ask for the neighbour's MAC now: the broadcast also tells everybody where the asker is."""
    body = _HEADER.pack(family_of(address.version), index, 0, _NTF_USE, 0) + attribute(_NDA_DST, address.packed)
    return Message(RTM_NEWNEIGH, NLM_F_CREATE, body, f"neighbour {address} on link {index}")


def delete_neighbour(index: int, address: IPAddress) -> Message:
    body = _HEADER.pack(family_of(address.version), index, 0, 0, 0) + attribute(_NDA_DST, address.packed)
    return Message(RTM_DELNEIGH, 0, body, f"neighbour {address} on link {index}")


def new_station(index: int, mac: str, remote: IPAddress) -> Message:
    """A station behind a VXLAN tunnel; the MAC of zeros is where broadcasts go, and may have many remotes."""
    body = _HEADER.pack(_AF_BRIDGE, index, NUD_PERMANENT, _NTF_SELF, 0)
    body += attribute(_NDA_LLADDR, parse_mac(mac)) + attribute(_NDA_DST, remote.packed)
    flags = NLM_F_CREATE | (NLM_F_REPLACE if parse_mac(mac) != bytes(6) else NLM_F_APPEND)
    return Message(RTM_NEWNEIGH, flags, body, f"station {mac} on link {index}")


def delete_station(index: int, mac: str, remote: IPAddress) -> Message:
    body = _HEADER.pack(_AF_BRIDGE, index, 0, _NTF_SELF, 0)
    body += attribute(_NDA_LLADDR, parse_mac(mac)) + attribute(_NDA_DST, remote.packed)
    return Message(RTM_DELNEIGH, 0, body, f"station {mac} on link {index}")


def parse_neighbour(reply: Reply) -> Neighbour:
    """Raises DecodeError."""
    body = reply.body
    if reply.type != RTM_NEWNEIGH or len(body) < _HEADER.size:
        raise DecodeError(f"message type {reply.type} of {len(body)} bytes is no neighbour")
    family, index, state, _, _ = _HEADER.unpack_from(body)
    found = parse(body, _HEADER.size)
    destination = found.get(_NDA_DST)
    if family == _AF_BRIDGE and destination is not None:
        family = socket.AF_INET if len(destination) == 4 else socket.AF_INET6
    return Neighbour(
        index=index,
        address=_address(family, destination) if destination is not None else None,
        mac=format_mac(found.get(_NDA_LLADDR, b"")),
        state=state,
    )


def read_neighbours(netlink: NetlinkSocket, family: int, *, index: int = 0) -> list[Neighbour]:
    """The neighbour table of AF_INET or AF_INET6, of all links or of one."""
    replies = netlink.dump(Message(RTM_GETNEIGH, 0, _HEADER.pack(family, 0, 0, 0, 0), "neighbours"))
    return [each for each in map(parse_neighbour, replies) if not index or each.index == index]


def read_stations(netlink: NetlinkSocket, index: int) -> list[Neighbour]:
    """The stations behind a VXLAN tunnel; `address` is the other end of it."""
    body = _HEADER.pack(_AF_BRIDGE, index, 0, 0, 0)
    replies = netlink.dump(Message(RTM_GETNEIGH, 0, body, f"stations on link {index}"))
    return [each for each in map(parse_neighbour, replies) if each.index == index]
