"""`bridge`: a switch in the host's kernel; containers are plugged in with veth pairs, and the host is their router.

```
      container's namespace                      host
   ┌──────────────────────────┐
   │ eth0 172.17.0.2/22       │     veth1a2b3c4 ──┐
   │ default via 172.17.0.1   ├──── veth pair ────┤
   └──────────────────────────┘                   ├── wl0 172.17.0.1/22 ── routing, firewall ── eth0
   ┌──────────────────────────┐     veth9f8e7d6 ──┘
   │ eth0 172.17.0.3/22       ├──── veth pair
   └──────────────────────────┘
```

- The bridge has a MAC of its own: otherwise it would change with the lowest of its ports, and neighbours would lose it.
- A container's MAC follows from its address, so nobody's neighbour table goes stale when an address is leased again.
- Without inter-container communication the ports are isolated: they reach the bridge, but not each other.
- Our veth devices carry a link group (see settings), by which those of a daemon that died are found.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
import socket
import threading
import time
from dataclasses import dataclass, replace

from windlass.errors import InvalidParameter, SystemFailure
from windlass.kernel.netlink import address, link, route
from windlass.kernel.netlink.connection import Message, NetlinkSocket
from windlass.networks.drivers.driver import Plug, PlugRequest
from windlass.networks.firewall import BridgeRules
from windlass.networks.ipam import Leases, mac_for
from windlass.networks.sandbox import Sandbox, read_sysctl, write_sysctl
from windlass.networks.settings import Network

_NAME_TRIES = 4
_CARRIER_TRIES = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BridgeConfig:
    """What a bridge network is to be. `ipv4` and `ipv6` are the bridge's own addresses, the containers' gateways.

    - `within`, `within6`: parts of the subnets from which free addresses come.
    - `gateway`, `gateway6`: other routers than the bridge. `owned`: we made the device, and remove it.
    - `mtu` in bytes. `group`: the link group of our veth devices.
    """

    name: str
    network_name: str
    network_id: str
    ipv4: ipaddress.IPv4Interface
    ipv6: ipaddress.IPv6Interface | None = None
    within: Network | None = None
    within6: Network | None = None
    gateway: ipaddress.IPv4Address | None = None
    gateway6: ipaddress.IPv6Address | None = None
    reserved: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...] = ()
    mtu: int = 1500
    icc: bool = True
    masquerade: bool = True
    internal: bool = False
    routed: tuple[Network, ...] = ()
    services: tuple[Network, ...] = ()
    owned: bool = True
    group: int = 0


class BridgeNetwork:
    """A running bridge network. `is_new`: its device was not there before the start, so nothing can be plugged in."""

    kind = "bridge"

    def __init__(self, config: BridgeConfig, netlink: NetlinkSocket) -> None:
        """`netlink` stands in the host's namespace. Raises InvalidParameter where the addresses do not fit."""
        self.config = config
        self._netlink = netlink
        self._index = 0
        self.is_new = False
        self._lock = threading.Lock()
        label = {"name": config.network_name, "network_id": config.network_id}
        self._leases = Leases(config.ipv4.network, within=config.within, **label)
        self._leases6 = Leases(config.ipv6.network, within=config.within6, **label) if config.ipv6 else None
        taken = {config.ipv4.ip, config.ipv6.ip if config.ipv6 else None, config.gateway, config.gateway6}
        for each in sorted((taken | set(config.reserved)) - {None}, key=str):
            assert each is not None
            leases = self._leases if each.version == 4 else self._leases6
            if leases is None:
                raise InvalidParameter(f"no configured subnet contains IP address {each}")
            if each in leases.subnet:
                leases.reserve(each)

    # -- the device

    def start(self) -> None:
        """Make the bridge and give it its addresses, or find it; idempotent. Raises SystemFailure, OSError."""
        config = self.config
        try:
            found = link.read_link(self._netlink, config.name)
        except OSError as error:
            if error.errno != 19:  # ENODEV
                raise
            if not config.owned:
                raise SystemFailure(
                    f"bridge device with non default name {config.name} must be created manually"
                ) from None
            mac = bytes((0x02, 0x42, *secrets.token_bytes(4))).hex(":")
            self._netlink.request(link.new_bridge(config.name, mac=mac, mtu=config.mtu))
            self.is_new = True
            found = link.read_link(self._netlink, config.name)
        if found.kind != "bridge":
            raise SystemFailure(f"interface {config.name} exists and is not a bridge")
        self._index = found.index
        self._set_sysctls()
        self._set_addresses()
        if config.owned and (not found.up or found.mtu != config.mtu):
            self._netlink.request(link.set_link(found.index, up=True, mtu=config.mtu))

    def _set_sysctls(self) -> None:
        name = self.config.name
        # Lets translated loopback connections out to the containers; the firewall keeps everything else out of 127/8.
        write_sysctl(f"net/ipv4/conf/{name}/route_localnet", "1")
        with contextlib.suppress(FileNotFoundError):  # a host without IPv6
            write_sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
            if self.config.owned:
                write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0" if self.config.ipv6 else "1")

    def _set_addresses(self) -> None:
        wanted: list[address.Interface] = [self.config.ipv4, *([self.config.ipv6] if self.config.ipv6 else [])]
        found = [each.interface for each in address.read_addresses(self._netlink, index=self._index)]
        changes: list[Message] = [address.new_address(self._index, each) for each in wanted if each not in found]
        if self.config.owned:
            changes += [
                address.delete_address(self._index, each)
                for each in found
                if each not in wanted and not each.ip.is_link_local
            ]
        if changes:
            self._netlink.request(*changes)

    def stop(self) -> None:
        """Remove the bridge, if it is ours; what is gone is no error. Raises OSError."""
        if self.config.owned:
            error = self._netlink.attempt(link.delete_link(self.config.name))[0]
            if error is not None and error.errno != 19:
                raise error
        self._index = 0

    def rules(self) -> BridgeRules | None:
        config = self.config
        subnets: list[Network] = [config.ipv4.network, *([config.ipv6.network] if config.ipv6 else [])]
        return BridgeRules(
            name=config.name,
            subnets=tuple(subnets),
            icc=config.icc,
            masquerade=config.masquerade,
            internal=config.internal,
            routed=config.routed,
            services=config.services,
        )

    @property
    def capacity(self) -> int:
        """How many containers the network has addresses for."""
        return max(0, self._leases.within.num_addresses - 3)

    @property
    def index(self) -> int:
        """The bridge's link index; 0 before the start."""
        return self._index

    # -- containers

    def plug(self, sandbox: Sandbox, request: PlugRequest) -> Plug:
        """See Driver.plug."""
        plug = self._lease(request)
        try:
            plug = replace(plug, host_link=self._connect(plug, sandbox))
            try:
                if not self.config.icc:
                    self._netlink.request(link.set_bridge_port(plug.host_link, isolated=True))
                self._configure(plug, sandbox, default_route=request.default_route)
            except OSError:
                self._netlink.attempt(link.delete_link(plug.host_link))
                raise
        except OSError:
            self.release(plug)
            raise
        return plug

    def _lease(self, request: PlugRequest) -> Plug:
        config = self.config
        with self._lock:
            if request.ipv4 is not None:
                self._leases.reserve(request.ipv4)
            ip = request.ipv4 or self._leases.allocate()
            assert isinstance(ip, ipaddress.IPv4Address)
            ip6 = None
            if self._leases6 is not None:
                try:
                    if request.ipv6 is not None:
                        self._leases6.reserve(request.ipv6)
                    ip6 = request.ipv6 or self._leases6.allocate()
                except Exception:
                    self._leases.release(ip)
                    raise
        gateway6 = config.gateway6 or (config.ipv6.ip if config.ipv6 else None)
        return Plug(
            interface=request.interface,
            mac=request.mac or mac_for(ip),
            ipv4=ipaddress.IPv4Interface((ip, config.ipv4.network.prefixlen)),
            gateway=None if config.internal else config.gateway or config.ipv4.ip,
            ipv6=ipaddress.IPv6Interface((str(ip6), config.ipv6.network.prefixlen)) if ip6 and config.ipv6 else None,
            gateway6=None if config.internal or not ip6 else gateway6,
        )

    def _connect(self, plug: Plug, sandbox: Sandbox) -> str:
        """Make the veth pair; the name of its end here."""
        peer = link.VethPeer(plug.interface, sandbox.namespace, plug.mac)
        for attempt in range(_NAME_TRIES):
            name = f"veth{secrets.token_hex(4)[:7]}"
            pair = link.new_veth(name, peer, mtu=self.config.mtu, master=self._index, group=self.config.group)
            try:
                self._netlink.request(pair)
            except FileExistsError:
                if attempt + 1 == _NAME_TRIES:
                    raise
                continue
            return name
        raise AssertionError("unreachable")

    def _configure(self, plug: Plug, sandbox: Sandbox, *, default_route: bool) -> None:
        index = link.read_link(sandbox.netlink, plug.interface).index
        changes = [link.set_link(index, up=True)]
        for own, gateway in ((plug.ipv4, plug.gateway), (plug.ipv6, plug.gateway6)):
            if own is None:
                continue
            changes.append(address.new_address(index, own))
            if gateway is not None and default_route:
                everywhere = route.default_network(own.version)
                changes.append(route.new_route(everywhere, gateway=gateway, index=index))
        sandbox.netlink.request(*changes)
        self._wait_for_carrier(plug.host_link)

    def _wait_for_carrier(self, name: str) -> None:
        """The kernel works off a change of the carrier in the background, and until then drops what our end sends: the
        first answer to the container would be lost, and it would ask again only after a second."""
        for attempt in range(_CARRIER_TRIES):
            if link.read_link(self._netlink, name).operational == link.OPERATIONAL_UP:
                return
            time.sleep(min(0.0001 * 2**attempt, 0.01))
        log.warning("%s: no carrier on %s", self.config.name, name)

    @property
    def has_services(self) -> bool:
        """See Driver.has_services."""
        return bool(self.config.services)

    def reach_itself(self, plug: Plug) -> None:
        """See Driver.reach_itself.

        Where br_netfilter is about, connections of a container to its own published port are translated within the
        bridge, and go out by the port by which they came in; a bridge allows that only where it is told to.
        """
        try:
            wanted = read_sysctl("net/bridge/bridge-nf-call-iptables") == "1"
        except FileNotFoundError:
            return
        if wanted:
            self._netlink.request(link.set_bridge_port(plug.host_link, hairpin=True))

    def adopt(self, plug: Plug) -> None:
        """See Driver.adopt. A port that lost its bridge (somebody removed that) gets it back."""
        try:
            found = link.read_link(self._netlink, plug.host_link)
            if found.master != self._index:
                self._netlink.request(link.set_link(found.index, master=self._index, up=True))
        except OSError as error:
            log.warning("%s: a container's interface is lost: %s", self.config.name, error)
        with self._lock:
            if plug.ipv4 is not None:
                self._leases.reserve(plug.ipv4.ip)
            if plug.ipv6 is not None and self._leases6 is not None:
                self._leases6.reserve(plug.ipv6.ip)

    def release(self, plug: Plug) -> None:
        """See Driver.release."""
        with self._lock:
            if plug.ipv4 is not None:
                self._leases.release(plug.ipv4.ip)
            if plug.ipv6 is not None and self._leases6 is not None:
                self._leases6.release(plug.ipv6.ip)


def reachable_networks(netlink: NetlinkSocket, *, beside: int = 0) -> list[Network]:
    """Every subnet to which the host has a route or in which it has an address, but for those of the link `beside`.

    Raises OSError.
    """
    found: set[Network] = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for each in route.read_routes(netlink, family):
            if each.index != beside or not beside:
                found.add(each.destination)
    for known in address.read_addresses(netlink):
        if known.index != beside or not beside:
            found.add(known.interface.network)
    return sorted(found, key=lambda network: (network.version, int(network.network_address), network.prefixlen))
