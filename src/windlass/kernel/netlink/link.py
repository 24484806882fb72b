"""Links (network interfaces): bridge, veth, vxlan, macvlan; making, changing, removing, reading.

```
 ┌──────────┬──────┬──────┬─────────┬───────┬────────┐ attributes IFLA_*
 │family, 0 │ type │ index (int32)  │ flags │ change │ ...
 └──────────┴──────┴────────────────┴───────┴────────┘ struct ifinfomsg, 16 bytes
```

The functions build messages; `NetlinkSocket` sends them, several at once where that saves time. Indexes are the
kernel's (per network namespace, from 1); a link may be named by index or by name. See rtnetlink(7),
include/uapi/linux/if_link.h.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from windlass.kernel.netlink.attributes import (
    DecodeError,
    as_i32,
    as_string,
    as_u8,
    as_u32,
    attribute,
    nested,
    parse,
    string,
    u8,
    u16_be,
    u32,
)
from windlass.kernel.netlink.connection import NLM_F_CREATE, NLM_F_EXCL, Message, NetlinkSocket, Reply

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_RUNNING = 0x40
IFNAMSIZ = 16
OPERATIONAL_UP = 6  # RFC 2863: what the kernel says after it has worked off a change of the carrier

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
_IFLA_OPERSTATE, _IFLA_IFALIAS, _IFLA_STATS64, _IFLA_GROUP, _IFLA_NET_NS_FD, _IFLA_EXT_MASK = 16, 20, 23, 27, 28, 29
_IFLA_LINK_NETNSID = 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER = 1
_IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED = 4, 33
_IFLA_BR_AGEING_TIME, _IFLA_BR_STP_STATE, _IFLA_BR_MULTICAST_SNOOPING = 4, 5, 23
_IFLA_VXLAN_ID, _IFLA_VXLAN_LOCAL, _IFLA_VXLAN_LEARNING, _IFLA_VXLAN_PORT = 1, 4, 7, 15
_IFLA_VXLAN_LINK, _IFLA_VXLAN_PROXY, _IFLA_VXLAN_L2MISS, _IFLA_VXLAN_L3MISS = 3, 11, 13, 14
_IFLA_MACVLAN_MODE = 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
# Leaves out the counters of each protocol, which nobody here reads; the link's own come in any case.
_RTEXT_FILTER_SKIP_STATS = 1 << 3

_INFO = struct.Struct("=BxHiII")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")


class LinkStatistics(NamedTuple):
    """Counters since the link was made, as the link itself sees them: packets and bytes."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int

    def seen_from_peer(self) -> LinkStatistics:
        """The same traffic as the other end of a veth pair counts it."""
        return LinkStatistics(
            self.tx_packets,
            self.rx_packets,
            self.tx_bytes,
            self.rx_bytes,
            self.tx_errors,
            self.rx_errors,
            self.tx_dropped,
            self.rx_dropped,
        )


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface as the kernel describes it."""

    index: int
    name: str
    flags: int
    mac: str
    mtu: int
    kind: str
    master: int
    peer: int
    peer_namespace: int | None
    group: int
    alias: str
    operational: int
    statistics: LinkStatistics | None

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


def parse_mac(text: str) -> bytes:
    """`02:42:ac:11:00:02` as six bytes. Raises ValueError."""
    if not _MAC.fullmatch(text):
        raise ValueError(f"invalid MAC address: {text!r}")
    return bytes.fromhex(text.replace(":", "").replace("-", ""))


def format_mac(data: bytes) -> str:
    return data.hex(":")


def check_name(name: str) -> str:
    """The name, if the kernel would take it. Raises ValueError."""
    if not 0 < len(name.encode()) < IFNAMSIZ or name in {".", ".."} or any(c in "/:\0" or c.isspace() for c in name):
        raise ValueError(f"invalid interface name: {name!r}")
    return name


def _which(link: int | str) -> tuple[int, bytes, str]:
    if isinstance(link, int):
        return link, b"", f"link {link}"
    return 0, string(_IFLA_IFNAME, check_name(link)), f"link {link}"


def _common(*, mac: str | None, mtu: int | None, master: int | None, group: int | None, alias: str | None) -> bytes:
    parts = b""
    if mac is not None:
        parts += attribute(_IFLA_ADDRESS, parse_mac(mac))
    if mtu is not None:
        parts += u32(_IFLA_MTU, mtu)
    if master is not None:
        parts += u32(_IFLA_MASTER, master)
    if group is not None:
        parts += u32(_IFLA_GROUP, group)
    if alias is not None:
        parts += attribute(_IFLA_IFALIAS, alias.encode())
    return parts


def _create(name: str, kind: str, data: bytes, attributes: bytes, *, up: bool) -> Message:
    info = string(_IFLA_INFO_KIND, kind) + (nested(_IFLA_INFO_DATA, data) if data else b"")
    flags = IFF_UP if up else 0
    body = _INFO.pack(0, 0, 0, flags, flags) + string(_IFLA_IFNAME, check_name(name)) + attributes
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body + nested(_IFLA_LINKINFO, info), f"link {name}")


def new_bridge(
    name: str, *, mac: str | None = None, mtu: int | None = None, alias: str | None = None, up: bool = True
) -> Message:
    """Make a bridge without spanning tree. Give it a MAC, or it takes the lowest of its ports and changes with them."""
    common = _common(mac=mac, mtu=mtu, master=None, group=None, alias=alias)
    return _create(name, "bridge", u32(_IFLA_BR_STP_STATE, 0), common, up=up)


class VethPeer(NamedTuple):
    """The other end of a veth pair: where it is made and as what."""

    name: str
    namespace: int | None = None  # descriptor of a network namespace; None is the same one
    mac: str | None = None
    up: bool = False


def new_veth(
    name: str,
    peer: VethPeer,
    *,
    mac: str | None = None,
    mtu: int | None = None,
    master: int | None = None,
    group: int | None = None,
    up: bool = True,
) -> Message:
    """Make a veth pair whose peer stands in its namespace from the first moment; `mtu` in bytes is both ends'."""
    flags = IFF_UP if peer.up else 0
    far = _INFO.pack(0, 0, 0, flags, flags) + string(_IFLA_IFNAME, check_name(peer.name))
    far += _common(mac=peer.mac, mtu=mtu, master=None, group=None, alias=None)
    if peer.namespace is not None:
        far += u32(_IFLA_NET_NS_FD, peer.namespace)
    near = _common(mac=mac, mtu=mtu, master=master, group=group, alias=None)
    return _create(name, "veth", nested(_VETH_INFO_PEER, far), near, up=up)


def new_vxlan(
    name: str,
    vni: int,
    *,
    port: int,
    local: bytes | None = None,
    underlay: int | None = None,
    learning: bool = False,
    proxy: bool = False,
    miss: bool = False,
    mac: str | None = None,
    mtu: int | None = None,
    master: int | None = None,
    up: bool = True,
) -> Message:
    """Make a VXLAN tunnel end; `local` is a packed IPv4 address, `underlay` a link's index.

    `proxy` answers ARP from the neighbour table; `miss` reports unknown neighbours and stations by netlink.
    """
    data = u32(_IFLA_VXLAN_ID, vni) + u16_be(_IFLA_VXLAN_PORT, port) + u8(_IFLA_VXLAN_LEARNING, learning)
    data += u8(_IFLA_VXLAN_PROXY, proxy) + u8(_IFLA_VXLAN_L2MISS, miss) + u8(_IFLA_VXLAN_L3MISS, miss)
    if local is not None:
        data += attribute(_IFLA_VXLAN_LOCAL, local)
    if underlay is not None:
        data += u32(_IFLA_VXLAN_LINK, underlay)
    return _create(name, "vxlan", data, _common(mac=mac, mtu=mtu, master=master, group=None, alias=None), up=up)


def new_macvlan(
    name: str,
    parent: int,
    *,
    mode: str = "bridge",
    namespace: int | None = None,
    mac: str | None = None,
    mtu: int | None = None,
    up: bool = False,
) -> Message:
    """Make a macvlan on the link with index `parent`, in the namespace of the descriptor. Raises ValueError."""
    if mode not in MACVLAN_MODES:
        raise ValueError(f"macvlan mode {mode!r} is none of {', '.join(MACVLAN_MODES)}")
    common = u32(_IFLA_LINK, parent) + _common(mac=mac, mtu=mtu, master=None, group=None, alias=None)
    if namespace is not None:
        common += u32(_IFLA_NET_NS_FD, namespace)
    return _create(name, "macvlan", u32(_IFLA_MACVLAN_MODE, MACVLAN_MODES[mode]), common, up=up)


def set_link(
    link: int | str,
    *,
    up: bool | None = None,
    mac: str | None = None,
    mtu: int | None = None,
    name: str | None = None,
    master: int | None = None,
    group: int | None = None,
    alias: str | None = None,
    namespace: int | None = None,
) -> Message:
    """Change what is given. `master=0` takes the link out of its bridge; `name` renames (needs an index as `link`)."""
    index, selector, about = _which(link)
    if name is not None:
        if selector:
            raise ValueError("a link is renamed by its index")
        selector = string(_IFLA_IFNAME, check_name(name))
    change = IFF_UP if up is not None else 0
    body = _INFO.pack(0, 0, index, IFF_UP if up else 0, change) + selector
    body += _common(mac=mac, mtu=mtu, master=master, group=group, alias=alias)
    if namespace is not None:
        body += u32(_IFLA_NET_NS_FD, namespace)
    return Message(RTM_NEWLINK, 0, body, about)


def set_bridge_port(link: int | str, *, isolated: bool | None = None, hairpin: bool | None = None) -> Message:
    """Options of a link as a port of its bridge. Isolated ports reach the bridge itself but not each other."""
    index, selector, about = _which(link)
    data = b""
    if isolated is not None:
        data += u8(_IFLA_BRPORT_ISOLATED, isolated)
    if hairpin is not None:
        data += u8(_IFLA_BRPORT_MODE, hairpin)
    info = string(_IFLA_INFO_SLAVE_KIND, "bridge") + nested(_IFLA_INFO_SLAVE_DATA, data)
    return Message(RTM_NEWLINK, 0, _INFO.pack(0, 0, index, 0, 0) + selector + nested(_IFLA_LINKINFO, info), about)


def delete_link(link: int | str) -> Message:
    index, selector, about = _which(link)
    return Message(RTM_DELLINK, 0, _INFO.pack(0, 0, index, 0, 0) + selector, about)


def delete_link_group(group: int) -> Message:
    """Remove all links of a group at once: the kernel waits once for its readers instead of once for each link."""
    return Message(RTM_DELLINK, 0, _INFO.pack(0, 0, 0, 0, 0) + u32(_IFLA_GROUP, group), f"link group {group}")


def get_link(link: int | str) -> Message:
    index, selector, about = _which(link)
    body = _INFO.pack(0, 0, index, 0, 0) + selector + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    return Message(RTM_GETLINK, 0, body, about)


def parse_link(reply: Reply) -> Link:
    """Raises DecodeError."""
    body = reply.body
    if reply.type != RTM_NEWLINK or len(body) < _INFO.size:
        raise DecodeError(f"message type {reply.type} of {len(body)} bytes is no link")
    _, _, index, flags, _ = _INFO.unpack_from(body)
    found = parse(body, _INFO.size)
    if _IFLA_IFNAME not in found:
        raise DecodeError(f"link {index} has no name")
    info = parse(found.get(_IFLA_LINKINFO, b""))
    stats = found.get(_IFLA_STATS64)
    netns = found.get(_IFLA_LINK_NETNSID)
    return Link(
        index=index,
        name=as_string(found[_IFLA_IFNAME]),
        flags=flags,
        mac=format_mac(found.get(_IFLA_ADDRESS, b"")),
        mtu=as_u32(found[_IFLA_MTU]) if _IFLA_MTU in found else 0,
        kind=as_string(info[_IFLA_INFO_KIND]) if _IFLA_INFO_KIND in info else "",
        master=as_u32(found[_IFLA_MASTER]) if _IFLA_MASTER in found else 0,
        peer=as_u32(found[_IFLA_LINK]) if _IFLA_LINK in found else 0,
        peer_namespace=as_i32(netns) if netns is not None else None,
        group=as_u32(found[_IFLA_GROUP]) if _IFLA_GROUP in found else 0,
        alias=as_string(found[_IFLA_IFALIAS]) if _IFLA_IFALIAS in found else "",
        operational=as_u8(found[_IFLA_OPERSTATE]) if _IFLA_OPERSTATE in found else 0,
        statistics=_parse_statistics(stats) if stats is not None else None,
    )


def _parse_statistics(data: bytes) -> LinkStatistics:
    # Newer kernels append counters; the first eight are what stands since 2.6.
    if len(data) < 64:
        raise DecodeError(f"link statistics of {len(data)} bytes")
    return LinkStatistics(*struct.unpack_from("=8Q", data))


def read_link(netlink: NetlinkSocket, link: int | str) -> Link:
    """Raises OSError (ENODEV) where there is none."""
    for reply in netlink.request(get_link(link)):
        return parse_link(reply)
    raise DecodeError(f"no answer about link {link}")


def read_links(netlink: NetlinkSocket, *, master: int | None = None, kind: str | None = None) -> list[Link]:
    """All links; with `master` only the ports of that bridge, with `kind` only those, both chosen by the kernel."""
    body = _INFO.pack(0, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    if master is not None:
        body += u32(_IFLA_MASTER, master)
    if kind is not None:
        body += nested(_IFLA_LINKINFO, string(_IFLA_INFO_KIND, kind))
    return [parse_link(reply) for reply in netlink.dump(Message(RTM_GETLINK, 0, body, "links"))]
