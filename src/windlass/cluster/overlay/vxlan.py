"""VXLAN: packets for another node's containers travel in UDP packets to that node.

    container 10.42.0.7 ─▶ bridge ─▶ route 10.42.1.0/24 via 10.42.1.0 dev windlass.1
                                       neighbour 10.42.1.0 is 0a:58:0a:2a:01:00          the MAC follows from the part
                                       station   0a:58:0a:2a:01:00 is behind 192.0.2.2   the other node's address
                                     ─▶ UDP to 192.0.2.2:8472, VNI 1

What a host sends from another address than its tunnel's (to a service, for one, whose address became a container's on
the way) takes the tunnel's address, or the answer would come back by another way than the question.

One link, nothing is learned or asked for: every entry follows from the list of peers. The link is there as long as
there are peers, and is made anew where what it was made for (its alias says so) has changed.

Source: RFC 7348; https://docs.kernel.org/networking/vxlan.html
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Collection

from windlass.cluster.overlay import underlay
from windlass.cluster.overlay.backend import Network, log, reconcile_routes
from windlass.cluster.overlay.peers import Peer
from windlass.cluster.overlay.underlay import Underlay
from windlass.kernel.netlink import address, link, neighbour
from windlass.kernel.netlink.connection import Message, NetlinkSocket
from windlass.kernel.nftables import Nftables

VNI, PORT = 1, 8472
LINK = f"windlass.{VNI}"
TABLE = "windlass-overlay"


# Added first, because what is not there cannot be deleted.
_WITHOUT = f"add table ip {TABLE}\ndelete table ip {TABLE}\n"


class VXLan:
    """See `Backend`."""

    overhead = 50  # outer Ethernet's is not counted in an MTU: IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14

    def __init__(self, netlink: NetlinkSocket, nftables: Nftables, ranges: tuple[Network, ...]) -> None:
        self._netlink = netlink
        self._nftables = nftables
        self._ranges = ranges

    def apply(self, own: Peer, peers: Collection[Peer]) -> None:
        """See `Backend.apply`."""
        if not peers:
            self._remove()
            return
        index = self._ensure_link(own, underlay.find(self._netlink, own.address))
        self._reconcile_stations(index, peers)
        self._reconcile_neighbours(index, peers)
        reconcile_routes(self._netlink, index, self._ranges, {each.network: each.tunnel_address for each in peers})
        self._masquerade()

    def _remove(self) -> None:
        try:
            found = link.read_link(self._netlink, LINK)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return
        self._nftables.run(_WITHOUT, about=f"table {TABLE}")
        self._netlink.request(link.delete_link(found.index))

    def _masquerade(self) -> None:
        ranges = ", ".join(str(each) for each in self._ranges)
        script = f"""\
{_WITHOUT}table ip {TABLE} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname "{LINK}" ip saddr != {{ {ranges} }} masquerade
    }}
}}
"""
        self._nftables.run(script, about=f"table {TABLE}")

    def _ensure_link(self, own: Peer, below: Underlay) -> int:
        mtu = below.mtu - self.overhead
        alias = f"vni {VNI} port {PORT} local {own.address} link {below.index} mac {own.tunnel_mac}"
        try:
            found = link.read_link(self._netlink, LINK)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
        else:
            if found.alias == alias and found.kind == "vxlan":
                if not found.up or found.mtu != mtu:
                    self._netlink.request(link.set_link(found.index, up=True, mtu=mtu))
                self._ensure_address(found.index, own)
                return found.index
            self._netlink.request(link.delete_link(found.index))
        new = link.new_vxlan(
            LINK,
            VNI,
            port=PORT,
            local=own.address.packed,
            underlay=below.index,
            mac=own.tunnel_mac,
            mtu=mtu,
        )
        # The kernel takes no alias with a new link.
        self._netlink.request(new, link.set_link(LINK, alias=alias))
        log.info("%s goes over the link of %s, packets of %d bytes", LINK, own.address, mtu)
        index = link.read_link(self._netlink, LINK).index
        self._ensure_address(index, own)
        return index

    def _ensure_address(self, index: int, own: Peer) -> None:
        """The node's own packets to other nodes' containers come from here."""
        wanted = ipaddress.IPv4Interface((own.tunnel_address, 32))
        found = [each.interface for each in address.read_addresses(self._netlink, index=index, family=socket.AF_INET)]
        changes = [address.delete_address(index, each) for each in found if each != wanted]
        if wanted not in found:
            changes.append(address.new_address(index, wanted))
        if changes:
            self._netlink.request(*changes)

    def _reconcile_stations(self, index: int, peers: Collection[Peer]) -> None:
        wanted = {(each.tunnel_mac, each.address) for each in peers}
        changes: list[Message] = []
        known = set()
        for found in neighbour.read_stations(self._netlink, index):
            if found.address is None:
                continue
            if (found.mac, found.address) in wanted:
                known.add((found.mac, found.address))
            else:
                changes.append(neighbour.delete_station(index, found.mac, found.address))
        changes += [neighbour.new_station(index, mac, remote) for mac, remote in wanted if (mac, remote) not in known]
        if changes:
            self._netlink.request(*changes)

    def _reconcile_neighbours(self, index: int, peers: Collection[Peer]) -> None:
        wanted = {each.tunnel_address: each.tunnel_mac for each in peers}
        changes: list[Message] = []
        known = set()
        for found in neighbour.read_neighbours(self._netlink, socket.AF_INET, index=index):
            if found.address is None or not found.state & neighbour.NUD_PERMANENT:
                continue
            ip = ipaddress.IPv4Address(found.address)
            if wanted.get(ip) == found.mac:
                known.add(ip)
            elif ip not in wanted:
                changes.append(neighbour.delete_neighbour(index, ip))
        changes += [neighbour.new_neighbour(index, ip, mac) for ip, mac in wanted.items() if ip not in known]
        if changes:
            self._netlink.request(*changes)
