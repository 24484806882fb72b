"""Routes by way of the other nodes: nothing is wrapped, but all nodes have to be in one network."""

from __future__ import annotations

from collections.abc import Collection

from windlass.cluster.overlay import underlay
from windlass.cluster.overlay.backend import Network, log, reconcile_routes
from windlass.cluster.overlay.peers import Peer
from windlass.kernel.netlink.connection import NetlinkSocket


class HostGateway:
    """See `Backend`."""

    overhead = 0

    def __init__(self, netlink: NetlinkSocket, ranges: tuple[Network, ...]) -> None:
        self._netlink = netlink
        self._ranges = ranges
        self._strange: set[str] = set()

    def apply(self, own: Peer, peers: Collection[Peer]) -> None:
        """See `Backend.apply`. Peers in other networks are left out, and named in the log."""
        try:
            below = underlay.find(self._netlink, own.address)
        except OSError:
            if peers:
                raise
            return  # a machine that is alone needs no network
        near = [each for each in peers if each.address in below.network]
        for each in peers:
            if each not in near and each.name not in self._strange:
                self._strange.add(each.name)
                log.warning("%s (%s) is not in %s: no route to its containers", each.name, each.address, below.network)
        reconcile_routes(self._netlink, below.index, self._ranges, {each.network: each.address for each in near})
