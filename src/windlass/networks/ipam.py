"""Addresses: which subnet a network gets, and which address a container gets in it.

Subnets are cut from pools, first fit, skipping whatever the host can already reach (its routes, addresses and name
servers) and our other networks. Within a subnet an address is the lowest free one, as dockerd hands them out:

```
 172.17.0.0/22        .0 network   .1 gateway   .2 .3 .4 ...                       .255 broadcast (of the subnet)
 fixed-cidr           └──────────── only inside this part, if given ────────────┘
```

Leases are not written down here: each container's record has its address, and a daemon that starts leases it again
(`Leases.reserve`). One truth, one place.
"""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Iterable, Sequence

from windlass.errors import Conflict, Forbidden, InvalidParameter, SystemFailure
from windlass.networks.settings import AddressPool, IPAddress, Network

# Shorter prefixes are ways of writing "everywhere" (0.0.0.0/1 of a VPN), not somebody's network.
_SHORTEST_ROUTE = 5


def choose_subnet(pools: Sequence[AddressPool], taken: Iterable[Network]) -> Network:
    """The first subnet of the pools that overlaps nothing in `taken`.

    Raises SystemFailure with dockerd's words and what stands in the way.
    """
    by_version: dict[int, list[Network]] = {4: [], 6: []}
    for network in taken:
        if network.prefixlen >= _SHORTEST_ROUTE:
            by_version[network.version].append(network)
    for pool in pools:
        found = _first_free(pool, by_version[pool.base.version])
        if found is not None:
            return found
    blocking = sorted({str(other) for pool in pools for other in by_version[pool.base.version] if _meets(pool, other)})
    reason = f" (in the way: {', '.join(blocking[:8])}{', ...' if len(blocking) > 8 else ''})" if blocking else ""
    raise SystemFailure(f"all predefined address pools have been fully subnetted{reason}")


def _meets(pool: AddressPool, other: Network) -> bool:
    return pool.base.version == other.version and pool.base.overlaps(other)


def _first_free(pool: AddressPool, taken: Sequence[Network]) -> Network | None:
    """Walk the pool's subnets from the start, jumping behind each network that is in the way."""
    step = 1 << (pool.base.max_prefixlen - pool.size)
    position, end = int(pool.base.network_address), int(pool.base.broadcast_address)
    intervals = sorted((int(other.network_address), int(other.broadcast_address)) for other in taken)
    for first, last in intervals:
        if last < position:
            continue
        if first >= position + step:
            break  # sorted: nothing further begins inside this subnet
        position += ((last - position) // step + 1) * step
    if position + step - 1 > end:
        return None
    if pool.base.version == 4:
        return ipaddress.IPv4Network((position, pool.size))
    return ipaddress.IPv6Network((position, pool.size))


class Leases:
    """The addresses of one subnet. Not safe for threads: its owner holds a lock."""

    def __init__(self, subnet: Network, *, within: Network | None = None, name: str = "", network_id: str = "") -> None:
        """`within` narrows where free addresses are taken from; fixed ones may lie anywhere in the subnet.

        Raises InvalidParameter where it does not lie in the subnet.
        """
        if within is not None and (within.version != subnet.version or not within.subnet_of(subnet)):  # type: ignore[arg-type]
            raise InvalidParameter(f"invalid subnet {within}: not within {subnet}")
        self.subnet = subnet
        self.within = within or subnet
        self._label = f"{name} ({network_id})" if name else str(subnet)
        self._used: set[int] = set()
        self._freed: list[int] = []
        first, last = int(self.within.network_address), int(self.within.broadcast_address)
        # Both ends of the subnet are spoken for (of an IPv6 subnet only the first: the routers' anycast address).
        if subnet.prefixlen < subnet.max_prefixlen - 1:
            first = max(first, int(subnet.network_address) + 1)
            if subnet.version == 4:
                last = min(last, int(subnet.broadcast_address) - 1)
        self._next, self._last = first, last

    def _address(self, number: int) -> IPAddress:
        return ipaddress.IPv4Address(number) if self.subnet.version == 4 else ipaddress.IPv6Address(number)

    def __contains__(self, address: IPAddress) -> bool:
        return int(address) in self._used

    def __len__(self) -> int:
        return len(self._used)

    def allocate(self) -> IPAddress:
        """The lowest free address. Raises SystemFailure with dockerd's words where none is left."""
        while self._freed:
            number = heapq.heappop(self._freed)
            if number not in self._used:
                self._used.add(number)
                return self._address(number)
        while self._next <= self._last:
            number = self._next
            self._next += 1
            if number not in self._used:
                self._used.add(number)
                return self._address(number)
        raise SystemFailure(
            f"no available IPv{self.subnet.version} addresses on this network's address pools: {self._label}"
        )

    def reserve(self, address: IPAddress) -> None:
        """Lease this very address. Raises InvalidParameter (not in the subnet) and Forbidden (in use)."""
        if address.version != self.subnet.version or address not in self.subnet:
            raise InvalidParameter(f"no configured subnet contains IP address {address}")
        if int(address) in self._used:
            raise Forbidden("Address already in use")
        self._used.add(int(address))

    def release(self, address: IPAddress) -> None:
        """Give an address back; one that was never leased is refused, because then two owners would share it."""
        number = int(address)
        if number not in self._used:
            raise Conflict(f"{address} is not leased")
        self._used.discard(number)
        if int(self.within.network_address) <= number <= int(self.within.broadcast_address) and number < self._next:
            heapq.heappush(self._freed, number)


def mac_for(address: ipaddress.IPv4Address) -> str:
    """The MAC for an address: always the same one, so that no neighbour's table goes stale when it is leased again."""
    return bytes((0x02, 0x42, *address.packed)).hex(":")
