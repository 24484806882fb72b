"""The content of a container's /etc/hosts. Pure functions.

```
 127.0.0.1       localhost
 ::1             localhost ip6-localhost ip6-loopback       these six stand in every container's file
 ...
 203.0.113.9     db                                          --add-host db:203.0.113.9
 172.17.0.2      3e0f9a7b1c2d                                its own addresses and names, one line each
```
See hosts(5).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from windlass.errors import InvalidParameter

HOST_GATEWAY = "host-gateway"

_LOCAL = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


class Entry(NamedTuple):
    """One line: an address and its names."""

    address: str
    names: str


def parse_extra_host(text: str, host_gateway: Sequence[str] = ()) -> list[Entry]:
    """`name:address` of `--add-host`; `host-gateway` as address is those by which containers reach the host.

    Raises InvalidParameter with dockerd's words.
    """
    name, colon, address = text.partition(":")
    if not colon or not name:
        raise InvalidParameter(f'bad format for add-host: "{text}"')
    if any(c.isspace() or c == "\0" or c == "#" for c in name):
        raise InvalidParameter(f'bad format for add-host: "{text}"')
    if address == HOST_GATEWAY:
        if not host_gateway:
            raise InvalidParameter(
                "unable to derive the IP value for host-gateway: no default bridge, and no host-gateway-ip is set"
            )
        return [Entry(each, name) for each in host_gateway]
    plain = address.removeprefix("[").removesuffix("]") if address.startswith("[") else address
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
    return [Entry(plain, name)]


def own_names(hostname: str, domainname: str = "") -> str:
    """How a container calls itself: `host.domain host` or `host`; a dotted host name gets its first label as well."""
    full = f"{hostname}.{domainname}" if domainname else hostname
    first = full.partition(".")[0]
    return full if first == full else f"{full} {first}"


def render(own: Iterable[Entry] = (), extra: Iterable[Entry] = ()) -> str:
    """The file's text: what is local, what was asked for, and last the container's own addresses."""
    entries = [*_LOCAL, *extra, *own]
    return "".join(f"{address}\t{names}\n" for address, names in entries)
