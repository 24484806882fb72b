"""What the daemon's flags and daemon.json say about networks, checked once.

The names are dockerd's (`--bip`, `--default-address-pool`, `--icc`, ...). Two daemons on one host must not meet, so
what has a name on the host (the default bridge, the nftables tables, the group of our veth devices) is derived from
the exec root:

```
 exec root         bridge        nftables table      veth group
 /run/windlass     wl0           windlass            from the same hash
 any other         wl<8 hex>     windlass-<8 hex>    8 hex = sha256(exec root)
```
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from windlass.errors import InvalidParameter
from windlass.kernel.netlink.link import check_name

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_EXEC_ROOT = Path("/run/windlass")


class AddressPool(NamedTuple):
    """Addresses to cut networks from: each gets one subnet of `base` with the prefix length `size`."""

    base: Network
    size: int


def _pool(base: str, size: int) -> AddressPool:
    return AddressPool(ipaddress.ip_network(base), size)


# A Linux bridge takes 1,023 ports, so the default bridge gets a /22 and no more; a network that somebody creates gets
# a /24. There are thousands of both, so that nobody meets "no free pool" after thirty networks, and none is so large
# that it swallows a company's routes.
BRIDGE_POOLS = (_pool("172.17.0.0/16", 22), _pool("172.18.0.0/15", 22), _pool("10.192.0.0/10", 22))
DEFAULT_POOLS = (
    _pool("172.20.0.0/14", 24),
    _pool("172.24.0.0/13", 24),
    _pool("10.128.0.0/10", 24),
    _pool("192.168.0.0/16", 24),
)
# A unique local prefix for networks with IPv6 that name no subnet; see RFC 4193.
DEFAULT_POOLS_V6 = (_pool("fd57:11d1:a550::/48", 64),)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Flags of the daemon. Texts are checked by `Networks.open`, which raises InvalidParameter.

    - `bridge`: a bridge that somebody else made and owns (`--bridge`); "none" is no default network at all.
    - `bridge_name`: the name of our own default bridge, derived from the exec root unless given.
    - `bip`, `bip6`: its address with prefix length; `fixed_cidr`, `fixed_cidr_v6`: whence containers' addresses come.
    - `mtu` in bytes; 0 takes the default of 1500.
    - `icc`: containers on the default bridge reach each other. `ip_masq`: their packets leave with the host's address.
    - `iptables`, `ip6tables`: program the firewall (with nftables; the names are the ones people know).
    - `ip_forward`: turn the host into a router where it is none; `ip_forward_no_drop`: and let it route for everybody.
    - `ip`: the host address of published ports that name none.
    - `userland_proxy`: serve published ports on IPv6 loopback, and on IPv6 for networks without it, from the daemon.
    - `warm_sandboxes`: how many network sandboxes may wait prepared; 0 prepares none.
    """

    bridge: str = ""
    bridge_name: str = ""
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    default_address_pools: tuple[AddressPool, ...] = ()
    mtu: int = 0
    icc: bool = True
    ip_masq: bool = True
    iptables: bool = True
    ip6tables: bool = True
    ip_forward: bool = True
    ip_forward_no_drop: bool = False
    enable_ipv6: bool = False
    ip: str = "0.0.0.0"
    host_gateway_ips: tuple[str, ...] = ()
    userland_proxy: bool = True
    warm_sandboxes: int = 16


class Names(NamedTuple):
    """What a daemon's things are called on the host."""

    bridge: str
    table: str
    group: int
    dead_group: int


def names_for(exec_root: Path, settings: NetworkSettings) -> Names:
    """Names derived from the exec root, the same at every start. Raises InvalidParameter."""
    digest = hashlib.sha256(str(exec_root).encode()).hexdigest()
    default = exec_root == DEFAULT_EXEC_ROOT
    bridge = settings.bridge_name or ("wl0" if default else f"wl{digest[:8]}")
    try:
        check_name(bridge)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
    # Link groups are numbers that anybody may use; ours are large, so that hand-made small ones are never met.
    group = (int(digest[:8], 16) | 0x40000000) & 0x7FFFFFFE
    return Names(bridge, "windlass" if default else f"windlass-{digest[:8]}", group, group | 1)


def parse_address_pools(items: Iterable[AddressPool | Mapping[str, Any] | str]) -> tuple[AddressPool, ...]:
    """`base=10.10.0.0/16,size=24` or `{"base": "10.10.0.0/16", "size": 24}`. Raises InvalidParameter."""
    return tuple(item if isinstance(item, AddressPool) else _parse_pool(item) for item in items)


def _parse_pool(item: Mapping[str, Any] | str) -> AddressPool:
    fields: dict[str, str] = {}
    if isinstance(item, str):
        for part in item.split(","):
            key, equals, value = part.partition("=")
            key = key.strip().lower()
            if not equals or key not in {"base", "size"} or key in fields:
                raise InvalidParameter(f"invalid address pool {item!r}: expected base=<network>,size=<prefix length>")
            fields[key] = value.strip()
    else:
        if set(item) - {"base", "size", "Base", "Size"}:
            raise InvalidParameter(f"invalid address pool: {dict(item)!r}")
        fields = {key.lower(): str(value) for key, value in item.items()}
    try:
        base = ipaddress.ip_network(fields.get("base", ""))
    except ValueError as error:
        raise InvalidParameter(f"invalid base pool {fields.get('base', '')!r}: {error}") from None
    size = fields.get("size", "")
    if not (size.isascii() and size.isdigit()) or not base.prefixlen <= int(size) <= base.max_prefixlen - 1:
        raise InvalidParameter(f"invalid pools: size {size!r} does not fit base {base}")
    return AddressPool(base, int(size))


def parse_network(text: str, what: str) -> Network:
    """A subnet such as `10.10.0.0/16`. Raises InvalidParameter naming `what`."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid {what} {text!r}: {error}") from None


def parse_interface(text: str, what: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """An address with its prefix length such as `10.10.0.1/16`. Raises InvalidParameter naming `what`."""
    try:
        if "/" not in text:
            raise ValueError("the prefix length is missing")
        return ipaddress.ip_interface(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid {what} {text!r}: {error}") from None


def parse_address(text: str, what: str) -> IPAddress:
    """An address such as `10.10.0.1`. Raises InvalidParameter naming `what`."""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid {what} {text!r}: {error}") from None
