"""Routes and routing rules.

```
 ┌────────┬─────────┬─────────┬─────┬───────┬──────────┬───────┬──────┬───────────────┐ attributes RTA_*
 │ family │ dst_len │ src_len │ tos │ table │ protocol │ scope │ type │ flags (u32)   │ ...
 └────────┴─────────┴─────────┴─────┴───────┴──────────┴───────┴──────┴───────────────┘ struct rtmsg, 12 bytes
```
See rtnetlink(7), Documentation/networking/policy-routing.rst.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import NamedTuple

from windlass.kernel.netlink.address import family_of
from windlass.kernel.netlink.attributes import DecodeError, as_u32, attribute, parse, u32
from windlass.kernel.netlink.connection import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    NetlinkSocket,
    Reply,
)

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34

TABLE_MAIN, TABLE_LOCAL = 254, 255
PROTOCOL_BOOT, PROTOCOL_STATIC = 3, 4

_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255
_RTN_UNICAST = 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_FRA_DST, _FRA_SRC, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE = 1, 2, 6, 10, 15
_FR_ACT_TO_TBL = 1
_RTNH_F_ONLINK = 4
_HEADER = struct.Struct("=BBBBBBBBI")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Route:
    """Where packets for a destination go; `type` 1 is unicast, `index` 0 means no single outgoing link."""

    destination: Network
    gateway: IPAddress | None
    index: int
    table: int
    type: int
    protocol: int
    priority: int


class Rule(NamedTuple):
    """A routing rule: which packets look into which table."""

    family: int
    source: Network | None
    destination: Network | None
    mark: int
    table: int
    priority: int


def default_network(version: int) -> Network:
    return ipaddress.IPv4Network("0.0.0.0/0") if version == 4 else ipaddress.IPv6Network("::/0")


def _message(
    kind: int,
    flags: int,
    destination: Network,
    gateway: IPAddress | None,
    index: int | None,
    source: IPAddress | None,
    *,
    table: int,
    priority: int | None,
    onlink: bool = False,
) -> Message:
    if kind == RTM_DELROUTE:
        scope = _SCOPE_NOWHERE
    else:
        scope = _SCOPE_UNIVERSE if gateway is not None or destination.version == 6 else _SCOPE_LINK
    short = table if table < 256 else 0
    header = (family_of(destination.version), destination.prefixlen, 0, 0, short, PROTOCOL_BOOT, scope, _RTN_UNICAST)
    body = _HEADER.pack(*header, _RTNH_F_ONLINK if onlink else 0)
    if destination.prefixlen:
        body += attribute(_RTA_DST, destination.network_address.packed)
    if gateway is not None:
        body += attribute(_RTA_GATEWAY, gateway.packed)
    if index is not None:
        body += u32(_RTA_OIF, index)
    if source is not None:
        body += attribute(_RTA_PREFSRC, source.packed)
    if priority is not None:
        body += u32(_RTA_PRIORITY, priority)
    if not short:
        body += u32(_RTA_TABLE, table)
    return Message(kind, flags, body, f"route to {destination}")


def new_route(
    destination: Network,
    *,
    gateway: IPAddress | None = None,
    index: int | None = None,
    source: IPAddress | None = None,
    table: int = TABLE_MAIN,
    priority: int | None = None,
    replace: bool = False,
    onlink: bool = False,
) -> Message:
    """Add (or `replace`) a route by a gateway, by a link's index, or both. `priority` is the metric.

    `onlink`: the gateway is on the link, although no address of the link says so.
    """
    flags = NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
    return _message(
        RTM_NEWROUTE, flags, destination, gateway, index, source, table=table, priority=priority, onlink=onlink
    )


def delete_route(
    destination: Network,
    *,
    gateway: IPAddress | None = None,
    index: int | None = None,
    table: int = TABLE_MAIN,
    priority: int | None = None,
) -> Message:
    return _message(RTM_DELROUTE, 0, destination, gateway, index, None, table=table, priority=priority)


def _address(family: int, packed: bytes) -> IPAddress:
    try:
        if family == socket.AF_INET:
            return ipaddress.IPv4Address(packed)
        if family == socket.AF_INET6:
            return ipaddress.IPv6Address(packed)
    except ValueError as error:
        raise DecodeError(str(error)) from error
    raise DecodeError(f"address family {family}")


def _network(family: int, packed: bytes | None, prefix: int) -> Network:
    if packed is None:
        return default_network(4 if family == socket.AF_INET else 6)
    address = _address(family, packed)
    try:
        return ipaddress.ip_network((address, prefix), strict=False)
    except ValueError as error:
        raise DecodeError(str(error)) from error


def parse_route(reply: Reply) -> Route:
    """Raises DecodeError."""
    body = reply.body
    if reply.type != RTM_NEWROUTE or len(body) < _HEADER.size:
        raise DecodeError(f"message type {reply.type} of {len(body)} bytes is no route")
    family, prefix, _, _, table, protocol, _, kind, _ = _HEADER.unpack_from(body)
    found = parse(body, _HEADER.size)
    gateway = found.get(_RTA_GATEWAY)
    return Route(
        destination=_network(family, found.get(_RTA_DST), prefix),
        gateway=_address(family, gateway) if gateway is not None else None,
        index=as_u32(found[_RTA_OIF]) if _RTA_OIF in found else 0,
        table=as_u32(found[_RTA_TABLE]) if _RTA_TABLE in found else table,
        type=kind,
        protocol=protocol,
        priority=as_u32(found[_RTA_PRIORITY]) if _RTA_PRIORITY in found else 0,
    )


def read_routes(netlink: NetlinkSocket, family: int, *, index: int = 0, table: int = 0) -> list[Route]:
    """Routes of AF_INET or AF_INET6; with `index` or `table` only those of that link or table, chosen by the kernel."""
    short = table if table < 256 else 0
    body = _HEADER.pack(family, 0, 0, 0, short, 0, 0, 0, 0)
    if index:
        body += u32(_RTA_OIF, index)
    if table:
        body += u32(_RTA_TABLE, table)
    try:
        replies = netlink.dump(Message(RTM_GETROUTE, 0, body, "routes"))
    except FileNotFoundError:
        return []  # no such table: it has no routes
    # A dump of IPv6 also reports cached exceptions, which are no routes of anybody's configuration.
    return [parse_route(reply) for reply in replies if reply.type == RTM_NEWROUTE]


def _rule(kind: int, flags: int, rule: Rule) -> Message:
    source = rule.source.prefixlen if rule.source else 0
    target = rule.destination.prefixlen if rule.destination else 0
    short = rule.table if rule.table < 256 else 0
    body = _HEADER.pack(rule.family, target, source, 0, short, 0, 0, _FR_ACT_TO_TBL, 0)
    body += u32(_FRA_PRIORITY, rule.priority) + u32(_FRA_TABLE, rule.table)
    if rule.source:
        body += attribute(_FRA_SRC, rule.source.network_address.packed)
    if rule.destination:
        body += attribute(_FRA_DST, rule.destination.network_address.packed)
    if rule.mark:
        body += u32(_FRA_FWMARK, rule.mark)
    return Message(kind, flags, body, f"rule {rule.priority} to table {rule.table}")


def new_rule(rule: Rule) -> Message:
    return _rule(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule)


def delete_rule(rule: Rule) -> Message:
    return _rule(RTM_DELRULE, 0, rule)


def parse_rule(reply: Reply) -> Rule:
    """Raises DecodeError."""
    body = reply.body
    if reply.type != RTM_NEWRULE or len(body) < _HEADER.size:
        raise DecodeError(f"message type {reply.type} of {len(body)} bytes is no rule")
    family, target, source, _, table, _, _, _, _ = _HEADER.unpack_from(body)
    found = parse(body, _HEADER.size)
    return Rule(
        family=family,
        source=_network(family, found[_FRA_SRC], source) if _FRA_SRC in found else None,
        destination=_network(family, found[_FRA_DST], target) if _FRA_DST in found else None,
        mark=as_u32(found[_FRA_FWMARK]) if _FRA_FWMARK in found else 0,
        table=as_u32(found[_FRA_TABLE]) if _FRA_TABLE in found else table,
        priority=as_u32(found[_FRA_PRIORITY]) if _FRA_PRIORITY in found else 0,
    )


def read_rules(netlink: NetlinkSocket, family: int) -> list[Rule]:
    replies = netlink.dump(Message(RTM_GETRULE, 0, _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "rules"))
    return [parse_rule(reply) for reply in replies]
