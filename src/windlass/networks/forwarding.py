"""Turning the host into a router, and keeping it from routing for others because of us.

Containers reach the world only if the host forwards packets. Where that is off, we switch it on, as dockerd does;
dockerd then drops everything forwarded that is not its own, and so breaks whoever else wants to forward. We remember
the interfaces that the host had at that moment, and the firewall drops what would be forwarded between those: for them
the host is as little of a router as before, and what others set up later works.

```
 <exec root>/forwarding.json   {"guarded": ["eth0", "wlan0"]}     written before the switch is thrown; gone after a
                                                                 reboot, as is the switch
```
"""

from __future__ import annotations

import json
from pathlib import Path

from windlass.kernel.netlink import link
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.networks.sandbox import read_sysctl, write_sysctl

_V4 = ("net/ipv4/ip_forward",)
_V6 = ("net/ipv6/conf/default/forwarding", "net/ipv6/conf/all/forwarding")


def _is_off(names: tuple[str, ...]) -> bool:
    try:
        return any(read_sysctl(name) == "0" for name in names)
    except FileNotFoundError:  # no IPv6 on this host
        return False


def enable(netlink: NetlinkSocket, record: Path, *, ipv6: bool, no_drop: bool, own: frozenset[str]) -> tuple[str, ...]:
    """Switch forwarding on where it is off; the interfaces between which the firewall must drop.

    `own` are our bridges' names; `no_drop` guards nothing. Raises OSError.
    """
    wanted = _V4 + (_V6 if ipv6 else ())
    if _is_off(wanted):
        guarded = () if no_drop else _host_interfaces(netlink, own)
        temporary = record.with_name(f".{record.name}.tmp")
        temporary.write_text(json.dumps({"guarded": guarded}))
        temporary.replace(record)
        for name in wanted:
            write_sysctl(name, "1")
        return guarded
    if no_drop:
        return ()
    try:
        return tuple(str(name) for name in json.loads(record.read_text())["guarded"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ()  # somebody else switched it on, and knows why


def _host_interfaces(netlink: NetlinkSocket, own: frozenset[str]) -> tuple[str, ...]:
    """The interfaces by which the host is connected: not loopback, no port of a bridge, not our bridges."""
    return tuple(
        each.name
        for each in link.read_links(netlink)
        if not each.flags & link.IFF_LOOPBACK and not each.master and each.name not in own
    )
