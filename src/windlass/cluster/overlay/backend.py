"""What all ways between nodes have in common. Everything here waits for the kernel: call it in a thread.

`apply` is told of all peers each time and makes the kernel's tables so: what is missing is added, what is too much
goes, whoever put it there. So it does not matter what happened before, nor whether an earlier attempt failed half-way.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Collection, Iterable
from typing import Protocol

from windlass.cluster.overlay import HOST_GW, NONE, VXLAN
from windlass.cluster.overlay.peers import Peer
from windlass.kernel.netlink import route
from windlass.kernel.netlink.connection import Message, NetlinkSocket
from windlass.kernel.nftables import Nftables

log = logging.getLogger("windlass.cluster.overlay")

Network = ipaddress.IPv4Network


class Backend(Protocol):
    """A way between nodes."""

    overhead: int
    """Bytes of each packet that are not the container's."""

    def apply(self, own: Peer, peers: Collection[Peer]) -> None:
        """Reach these peers and no others; without any, nothing is left. Raises OSError."""


class Nothing:
    """Somebody else sees to it that nodes reach each other's containers."""

    overhead = 0

    def apply(self, own: Peer, peers: Collection[Peer]) -> None:
        """Nothing."""


def make(name: str, netlink: NetlinkSocket, nftables: Nftables, ranges: Iterable[Network]) -> Backend:
    """The backend of a name. `ranges` are the cluster's: routes into them are ours. Raises ValueError."""
    from windlass.cluster.overlay.host_gw import HostGateway
    from windlass.cluster.overlay.vxlan import VXLan

    if name == VXLAN:
        return VXLan(netlink, nftables, tuple(ranges))
    if name == HOST_GW:
        return HostGateway(netlink, tuple(ranges))
    if name == NONE:
        return Nothing()
    raise ValueError(f"there is no backend {name!r}")


def reconcile_routes(
    netlink: NetlinkSocket, index: int, ranges: Collection[Network], wanted: dict[Network, ipaddress.IPv4Address]
) -> None:
    """Make the routes of a link into the ranges the wanted ones, by network and gateway. Raises OSError."""
    changes: list[Message] = []
    known = {}
    for each in route.read_routes(netlink, socket.AF_INET, index=index, table=route.TABLE_MAIN):
        destination = each.destination
        if not isinstance(destination, Network) or not any(destination.subnet_of(whole) for whole in ranges):
            continue
        if each.gateway is None:
            continue
        if wanted.get(destination) != each.gateway:
            changes.append(route.delete_route(destination, gateway=each.gateway, index=index))
        else:
            known[destination] = each.gateway
    for network, gateway in wanted.items():
        if network not in known:
            changes.append(route.new_route(network, gateway=gateway, index=index, onlink=True, replace=True))
    if changes:
        netlink.request(*changes)
