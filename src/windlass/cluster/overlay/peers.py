"""The nodes as an overlay knows them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

Network = ipaddress.IPv4Network


@dataclass(frozen=True, slots=True)
class Peer:
    """A node: its own address, and the part of the range that its containers have."""

    name: str
    address: ipaddress.IPv4Address
    network: Network

    @property
    def tunnel_address(self) -> ipaddress.IPv4Address:
        """The node's address inside the overlay: the network's own, which no container has."""
        return self.network.network_address

    @property
    def tunnel_mac(self) -> str:
        """Where the node's tunnel ends, which follows from its part: nobody has to ask or to tell."""
        return bytes((0x0A, 0x58, *self.tunnel_address.packed)).hex(":")


def parse(name: str, address: str, network: str) -> Peer | None:
    """A peer, None where it is not complete yet or has no IPv4."""
    try:
        return Peer(name, ipaddress.IPv4Address(address), ipaddress.IPv4Network(network))
    except ValueError:
        return None
