"""The link by which a node reaches the others: the one that has its address."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass

from windlass.kernel.netlink import address, link
from windlass.kernel.netlink.connection import NetlinkSocket


@dataclass(frozen=True, slots=True)
class Underlay:
    """Attributes:

    network: the link's, in which other nodes are reached directly.
    mtu: bytes of its packets.
    """

    index: int
    address: ipaddress.IPv4Address
    network: ipaddress.IPv4Network
    mtu: int


def find(netlink: NetlinkSocket, own: ipaddress.IPv4Address) -> Underlay:
    """Raises OSError: no link has the address."""
    for each in address.read_addresses(netlink, family=socket.AF_INET):
        interface = each.interface
        if isinstance(interface, ipaddress.IPv4Interface) and interface.ip == own:
            return Underlay(each.index, own, interface.network, link.read_link(netlink, each.index).mtu)
    raise OSError(errno.EADDRNOTAVAIL, "no interface has the node's address", str(own))
