"""The default network: what it is to look like, from the flags, from what was recorded, and from what the host has.

```
 subnet   --bip  >  --fixed-cidr  >  the device's address, if somebody else's  >  as recorded, if still free  >  a pool
```

Choosing a subnet and taking it (by giving it to a bridge, which makes a route) must not happen in two daemons at once:
a lock that exists once for each network namespace is held meanwhile (an abstract socket; see unix(7)).
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from windlass.errors import InvalidParameter, SystemFailure
from windlass.kernel.netlink import address, link
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.networks import resolvconf
from windlass.networks.drivers.bridge import BridgeConfig, reachable_networks
from windlass.networks.ipam import choose_subnet
from windlass.networks.record import IpamConfig, NetworkRecord, new_id, now
from windlass.networks.settings import (
    BRIDGE_POOLS,
    AddressPool,
    Names,
    Network,
    NetworkSettings,
    parse_address,
    parse_interface,
    parse_network,
)

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

DEFAULT_MTU = 1500
_LOCK = "\0windlass-address-pools"
_LOCK_SECONDS = 10.0

log = logging.getLogger(__name__)


@contextlib.contextmanager
def address_choice() -> Iterator[None]:
    """Be the only one on this host who chooses a subnet. Blocks; raises SystemFailure after ten seconds."""
    deadline = time.monotonic() + _LOCK_SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while True:
            try:
                lock.bind(_LOCK)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise SystemFailure("another daemon keeps choosing a subnet") from error
                time.sleep(0.01)
        yield


def unique_local_pool(seed: str) -> AddressPool:
    """A /48 of unique local addresses (RFC 4193) that follows from `seed`, cut into /64."""
    prefix = b"\xfd" + hashlib.sha256(seed.encode()).digest()[:5]
    return AddressPool(ipaddress.IPv6Network((prefix + bytes(10), 48)), 64)


def host_seed(exec_root: Path) -> str:
    """What tells this daemon from all others on all hosts, the same at every start."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = socket.gethostname()
    return f"{machine}:{exec_root}"


def taken_networks(netlink: NetlinkSocket, *, beside: int = 0) -> list[Network]:
    """What a new subnet must not overlap: routes and addresses of the host, and its name servers. Raises OSError."""
    taken = reachable_networks(netlink, beside=beside)
    try:
        text = Path(resolvconf.HOST_PATH).read_text(errors="replace")
        path = resolvconf.host_path(text)
        conf = resolvconf.parse(Path(path).read_text(errors="replace") if path != resolvconf.HOST_PATH else text)
    except OSError:
        return taken
    return taken + [ipaddress.ip_network(each) for each in conf.nameservers if not each.is_link_local]


def first_host(subnet: Network) -> Interface:
    """The address that a bridge takes in its subnet unless it is told another."""
    number = int(subnet.network_address) + 1
    if subnet.version == 4:
        return ipaddress.IPv4Interface((number, subnet.prefixlen))
    return ipaddress.IPv6Interface((number, subnet.prefixlen))


def _same_version(text: str, what: str, version: int) -> Interface:
    found = parse_interface(text, what)
    if found.version != version:
        raise InvalidParameter(f"invalid {what} {text!r}: not an IPv{version} address")
    if found.ip == found.network.network_address and found.network.prefixlen < found.max_prefixlen - 1:
        raise InvalidParameter(f"invalid {what} {text!r}: it is the address of the network itself")
    return found


class _Chooser:
    """Decides the bridge's address of one IP version."""

    def __init__(self, settings: NetworkSettings, name: str, netlink: NetlinkSocket, exec_root: Path) -> None:
        self._netlink, self._name = netlink, name
        self._owned = not settings.bridge
        self._device = next((each for each in link.read_links(netlink, kind="bridge") if each.name == name), None)
        self._found: list[Interface] = []
        self._busy = False
        if self._device is not None:
            found = address.read_addresses(netlink, index=self._device.index)
            self._found = [each.interface for each in found if not each.interface.ip.is_link_local]
            self._busy = bool(link.read_links(netlink, master=self._device.index))
        own = settings.default_address_pools
        self._pools = {
            4: [pool for pool in own if pool.base.version == 4] or list(BRIDGE_POOLS),
            6: [pool for pool in own if pool.base.version == 6] or [unique_local_pool(host_seed(exec_root))],
        }

    def choose(
        self, version: int, *, wanted: Interface | None, within: Network | None, recorded: Interface | None
    ) -> Interface:
        found = next((each for each in self._found if each.version == version), None)
        if wanted is None and within is not None and self._owned:
            wanted = found if found is not None and _contains(found.network, within) else first_host(within)
        if wanted is not None:
            if found is None or found == wanted or not (self._busy and self._owned):
                return wanted
            # Its containers would be cut off. They are gone at some later start.
            log.warning("%s keeps %s, and not %s, while containers use it", self._name, found, wanted)
            return found
        if found is not None:
            return found
        if not self._owned:
            raise SystemFailure(f"bridge {self._name} has no IPv{version} address")
        taken = taken_networks(self._netlink, beside=self._device.index if self._device else 0)
        if (
            recorded is not None
            and choose_subnet([*_exactly(recorded), *self._pools[version]], taken) == recorded.network
        ):
            return recorded
        return first_host(choose_subnet(self._pools[version], taken))


def _contains(network: Network, part: Network) -> bool:
    return network.version == part.version and part.subnet_of(network)  # type: ignore[arg-type]


def _exactly(wanted: Interface) -> Sequence[AddressPool]:
    return [AddressPool(wanted.network, wanted.network.prefixlen)]


def _recorded(record: NetworkRecord | None, version: int) -> Interface | None:
    for config in record.ipam if record is not None else ():
        if config.subnet.version == version and config.gateway is not None:
            return ipaddress.ip_interface(f"{config.gateway}/{config.subnet.prefixlen}")
    return None


def plan(
    settings: NetworkSettings, names: Names, exec_root: Path, record: NetworkRecord | None, netlink: NetlinkSocket
) -> tuple[NetworkRecord, BridgeConfig]:
    """What the default network is to be; `record` is what it was. To be called, and carried out, in `address_choice`.

    Raises InvalidParameter (flags), SystemFailure (no subnet is free), OSError.
    """
    name = settings.bridge or names.bridge
    chooser = _Chooser(settings, name, netlink, exec_root)
    within = parse_network(settings.fixed_cidr, "fixed-cidr") if settings.fixed_cidr else None
    bip = _same_version(settings.bip, "bip", 4) if settings.bip else None
    own = chooser.choose(4, wanted=bip, within=within, recorded=_recorded(record, 4))
    assert isinstance(own, ipaddress.IPv4Interface)
    own6 = within6 = None
    if settings.enable_ipv6:
        within6 = parse_network(settings.fixed_cidr_v6, "fixed-cidr-v6") if settings.fixed_cidr_v6 else None
        bip6 = _same_version(settings.bip6, "bip6", 6) if settings.bip6 else None
        chosen = chooser.choose(6, wanted=bip6, within=within6, recorded=_recorded(record, 6))
        assert isinstance(chosen, ipaddress.IPv6Interface)
        own6 = chosen
    gateway = parse_address(settings.default_gateway, "default-gateway") if settings.default_gateway else None
    gateway6 = parse_address(settings.default_gateway_v6, "default-gateway-v6") if settings.default_gateway_v6 else None
    for each, inside in ((gateway, own), (gateway6, own6)):
        if each is not None and (inside is None or each not in inside.network):
            raise InvalidParameter(f"default gateway {each} is not in the default bridge's subnet")
    mtu = settings.mtu or DEFAULT_MTU
    network = _record(settings, name, mtu, own, own6, within, within6, record)
    config = BridgeConfig(
        name=name,
        network_name="bridge",
        network_id=network.id,
        ipv4=own,
        ipv6=own6,
        within=within,
        within6=within6,
        gateway=gateway if isinstance(gateway, ipaddress.IPv4Address) else None,
        gateway6=gateway6 if isinstance(gateway6, ipaddress.IPv6Address) else None,
        mtu=mtu,
        icc=settings.icc,
        masquerade=settings.ip_masq,
        owned=not settings.bridge,
        group=names.group,
    )
    return network, config


def _record(
    settings: NetworkSettings,
    name: str,
    mtu: int,
    own: Interface,
    own6: Interface | None,
    within: Network | None,
    within6: Network | None,
    before: NetworkRecord | None,
) -> NetworkRecord:
    prefix = "com.docker.network.bridge"
    ipam = [IpamConfig(subnet=own.network, ip_range=within, gateway=own.ip)]
    if own6 is not None:
        ipam.append(IpamConfig(subnet=own6.network, ip_range=within6, gateway=own6.ip))
    return NetworkRecord(
        id=before.id if before is not None else new_id(),
        name="bridge",
        driver="bridge",
        created=before.created if before is not None else now(),
        ipam=tuple(ipam),
        enable_ipv6=own6 is not None,
        options={
            f"{prefix}.default_bridge": "true",
            f"{prefix}.enable_icc": str(settings.icc).lower(),
            f"{prefix}.enable_ip_masquerade": str(settings.ip_masq).lower(),
            f"{prefix}.host_binding_ipv4": settings.ip,
            f"{prefix}.name": name,
            "com.docker.network.driver.mtu": str(mtu),
        },
    )
