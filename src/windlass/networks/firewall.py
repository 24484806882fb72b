"""The packet filter's part: published ports, masquerade, isolation of bridges. nftables, tables of our own.

```
 table ip windlass (and ip6)
           remote ─▶ prerouting ┐                          into-wl0  established | from wl0 (icc) | dnat; else drop
                                ├▶ publish ─▶ dnat          ▲ vmap
    the host's own ─▶ output ───┘  two maps, O(1)  forward ─┤
                                                            ▼ vmap   out-of-wl0  internal networks: nothing outside
                                               postrouting ─┬ vmap ─▶ leaving-wl0   masquerade
                                                            └ vmap ─▶ entering-wl0  masquerade loopback and hairpin

 map published           { address . protocol . port : address . port }     -p 127.0.0.1:8080:80
 map published-anywhere  { protocol . port : address . port }               -p 8080:80

 chain        hook         priority       why there
 ingress      prerouting   raw (-300)     what comes from a bridge may neither reach nor claim a loopback address
 prerouting   prerouting   dstnat (-100)  translate before routing
 output       output       -100           the same for connections of the host itself, loopback included
 forward      forward      filter (0)     the usual place: a host's filter with a lower priority is asked first
 postrouting  postrouting  srcnat (100)   after routing
```

- A container is reached from elsewhere only through a translated connection (`ct status dnat`), never directly by its
  address, from outside as from another bridge: what is not published does not exist. A routed network is the exception:
  its containers are reached by their addresses, and their packets keep them within the range that it is a part of.
- Loopback works in the kernel: `route_localnet` on the bridge lets a translated 127.0.0.1 connection out, masquerade
  brings the answers back; `ingress` and the exclusion of loopback in `prerouting` keep remote packets out of it.
- A container may connect to its own or a neighbour's published port (hairpin): then the source is masqueraded, too.
  Without inter-container communication, neighbours reach each other not even so.
- A change is one transaction. At start the whole table is replaced from our state, in one transaction as well, so there
  is no moment without rules, and whatever somebody did to the table is repaired.

The semantics are those of dockerd's nftables backend; the language is nft(8)'s.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from windlass.kernel.nftables import Nftables
from windlass.networks.settings import IPAddress, Network

FAMILIES = {4: "ip", 6: "ip6"}
_LOOPBACK = {4: "127.0.0.0/8", 6: "::1"}
_ADDRESS = {4: "ipv4_addr", 6: "ipv6_addr"}
# Verdict maps by interface name, each with the chain of the same name that a bridge has.
_JUMPS = ("into", "out-of", "leaving", "entering")


@dataclass(frozen=True, kw_only=True)
class BridgeRules:
    """What the firewall knows of a bridge network: its name, subnets and switches.

    `routed`: ranges that the network is a part of; where there are any, everybody may connect to its containers.
    `services`: addresses that somebody else translates, and masquerades where that is needed.
    """

    name: str
    subnets: tuple[Network, ...]
    icc: bool = True
    masquerade: bool = True
    internal: bool = False
    routed: tuple[Network, ...] = ()
    services: tuple[Network, ...] = ()


class Translation(NamedTuple):
    """Connections to a host address (the unspecified one is any) and port go to a container's address and port."""

    protocol: str
    host_address: IPAddress
    host_port: int
    container_address: IPAddress
    container_port: int


def quote(interface: str) -> str:
    """An interface's name as nft(8) reads it: quoted, a star at the end not a wildcard. Raises ValueError."""
    if '"' in interface or "\\" in interface:
        raise ValueError(f"interface name {interface!r} cannot be written in a firewall rule")
    return '"' + interface.replace("*", "\\*") + '"'


def chain(prefix: str, bridge: str) -> str:
    """The name of a bridge's chain: other letters than nft(8) takes are written as their numbers."""
    escaped = "".join(
        c if c.isascii() and (c.isalnum() or c in ".-") else "__" if c == "_" else f"_{ord(c):x}_" for c in bridge
    )
    return f"{prefix}-{escaped}"


def _structure(version: int, table: str, guarded: Iterable[str]) -> str:
    """Everything but bridges and published ports."""
    family, address, loopback = FAMILIES[version], _ADDRESS[version], _LOOPBACK[version]
    elements = ", ".join(quote(each) for each in guarded)
    # IPv6 has no route_localnet: a translated ::1 connection would go nowhere, so it is left to the daemon's relay.
    own = "" if version == 4 else f"{family} daddr != {loopback} "
    jumps = "".join(f"    map {name} {{ type ifname : verdict; }}\n" for name in _JUMPS)
    return f"""\
table {family} {table} {{
    map published {{ type {address} . inet_proto . inet_service : {address} . inet_service; }}
    map published-anywhere {{ type inet_proto . inet_service : {address} . inet_service; }}
{jumps}    set bridges {{ type ifname; }}
    set guarded {{ type ifname; {f"elements = {{ {elements} }};" if elements else ""} }}
    chain publish {{
        dnat {family} to {family} daddr . meta l4proto . th dport map @published
        dnat {family} to meta l4proto . th dport map @published-anywhere
    }}
    chain ingress {{
        type filter hook prerouting priority raw; policy accept;
        iifname @bridges {family} daddr {loopback} drop
        iifname @bridges {family} saddr {loopback} drop
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        {family} daddr != {loopback} fib daddr type local jump publish
    }}
    chain output {{
        type nat hook output priority -100; policy accept;
        {own}fib daddr type local jump publish
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        oifname vmap @into
        iifname vmap @out-of
        iifname @guarded oifname @guarded drop
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        iifname vmap @leaving
        oifname vmap @entering
    }}
}}
"""


def _bridge(version: int, table: str, bridge: BridgeRules) -> str:
    """The chains of one bridge and the verdicts that lead into them."""
    family, name = FAMILIES[version], quote(bridge.name)
    neighbours = f"iifname {name} {'accept' if bridge.icc else 'drop'}"
    subnets = [each for each in bridge.subnets if each.version == version]
    theirs = ", ".join(str(each) for each in bridge.services if each.version == version)
    others = f" ct original {family} daddr != {{ {theirs} }}" if theirs else ""
    rules = {
        "into": ["ct state established,related accept", neighbours],
        "out-of": [f"oifname != {name} drop"] if bridge.internal else [],
        "leaving": [],
        # Where br_netfilter shows bridged packets to these chains, they have no incoming interface here: go by source.
        "entering": [f"{family} saddr {subnet} ct status dnat{others} masquerade" for subnet in subnets],
    }
    if not bridge.internal:
        rules["into"].append("ct status dnat accept")
        if bridge.masquerade:
            near = ", ".join(str(each) for each in bridge.routed if each.version == version)
            far = f" {family} daddr != {{ {near} }}" if near else ""
            rules["leaving"] += [f"oifname != {name} {family} saddr {subnet}{far} masquerade" for subnet in subnets]
    rules["into"].append("accept" if bridge.routed and not bridge.internal else "drop")
    if version == 4:
        rules["entering"].append(f"ip saddr {_LOOPBACK[4]} masquerade")
    lines = [f"add element {family} {table} bridges {{ {name} }}"]
    for jump in _JUMPS:
        own = chain(jump, bridge.name)
        lines.append(f"add chain {family} {table} {own}")
        lines += [f"add rule {family} {table} {own} {rule}" for rule in rules[jump]]
        lines.append(f"add element {family} {table} {jump} {{ {name} : jump {own} }}")
    return "".join(f"{line}\n" for line in lines)


def _without_bridge(version: int, table: str, bridge: str) -> str:
    """Undo `_bridge`."""
    family, name = FAMILIES[version], quote(bridge)
    lines = [f"delete element {family} {table} bridges {{ {name} }}"]
    for jump in _JUMPS:
        own = chain(jump, bridge)
        lines.append(f"delete element {family} {table} {jump} {{ {name} : jump {own} }}")
        lines += [f"flush chain {family} {table} {own}", f"delete chain {family} {table} {own}"]
    return "".join(f"{line}\n" for line in lines)


def _translations(verb: str, version: int, table: str, translations: Iterable[Translation]) -> Iterator[str]:
    """`verb` is add or delete."""
    for each in translations:
        if each.host_address.version != version:
            continue
        key, name = f"{each.protocol} . {each.host_port}", "published-anywhere"
        if not each.host_address.is_unspecified:
            key, name = f"{each.host_address} . {key}", "published"
        target = f"{each.container_address} . {each.container_port}"
        yield f"{verb} element {FAMILIES[version]} {table} {name} {{ {key} : {target} }}\n"


def render(
    version: int,
    table: str,
    bridges: Iterable[BridgeRules],
    translations: Iterable[Translation],
    guarded: Iterable[str],
) -> str:
    """The script that replaces the whole table of one IP version, whatever stands in its place."""
    family = FAMILIES[version]
    # Adding before deleting makes the deletion valid where there was no table.
    return "".join(
        (
            f"add table {family} {table}\ndelete table {family} {table}\n",
            _structure(version, table, guarded),
            *(_bridge(version, table, bridge) for bridge in bridges),
            *_translations("add", version, table, translations),
        )
    )


class Firewall:
    """The tables of one daemon, kept equal to its state. Safe for several threads. Every method may raise OSError."""

    def __init__(self, nftables: Nftables, table: str, *, ipv4: bool = True, ipv6: bool = True) -> None:
        """`ipv4`, `ipv6`: whether that table is programmed at all (`--iptables`, `--ip6tables`)."""
        self._nftables = nftables
        self._versions = [version for version, wanted in ((4, ipv4), (6, ipv6)) if wanted]
        self._table = table
        self._lock = threading.Lock()
        self._bridges: dict[str, BridgeRules] = {}
        self._translations: dict[tuple[str, IPAddress, int], Translation] = {}
        self._guarded: tuple[str, ...] = ()

    def replace(
        self, bridges: Iterable[BridgeRules], translations: Iterable[Translation], guarded: Iterable[str] = ()
    ) -> None:
        """Make the tables anew from this state; `guarded` are interfaces between which nothing is forwarded."""
        with self._lock:
            self._bridges = {each.name: each for each in bridges}
            self._translations = {each[:3]: each for each in translations}
            self._guarded = tuple(sorted(guarded))
            self._replace()

    def add_bridge(self, bridge: BridgeRules) -> None:
        with self._lock:
            script = "".join(_bridge(version, self._table, bridge) for version in self._versions)
            self._change(script, {**self._bridges, bridge.name: bridge}, self._translations, f"bridge {bridge.name}")

    def remove_bridge(self, name: str) -> None:
        with self._lock:
            left = {key: bridge for key, bridge in self._bridges.items() if key != name}
            script = "".join(_without_bridge(version, self._table, name) for version in self._versions)
            self._change(script, left, self._translations, f"bridge {name}")

    def publish(self, translations: Iterable[Translation]) -> None:
        with self._lock:
            new = list(translations)
            after = self._translations | {each[:3]: each for each in new}
            self._change(self._each("add", new), self._bridges, after, "published ports")

    def withdraw(self, translations: Iterable[Translation]) -> None:
        """Undo `publish`; what is not published is passed over."""
        with self._lock:
            old = [each for each in translations if self._translations.get(each[:3]) == each]
            gone = {each[:3] for each in old}
            left = {key: each for key, each in self._translations.items() if key not in gone}
            self._change(self._each("delete", old), self._bridges, left, "published ports")

    def remove(self) -> None:
        """Take our tables away."""
        with self._lock:
            self._bridges, self._translations = {}, {}
            script = "".join(
                f"add table {family} {self._table}\ndelete table {family} {self._table}\n"
                for family in (FAMILIES[version] for version in self._versions)
            )
            if script:
                self._nftables.run(script, about=f"table {self._table}")

    def _each(self, verb: str, translations: list[Translation]) -> str:
        return "".join(
            line for version in self._versions for line in _translations(verb, version, self._table, translations)
        )

    def _change(
        self,
        script: str,
        bridges: Mapping[str, BridgeRules],
        translations: Mapping[tuple[str, IPAddress, int], Translation],
        about: str,
    ) -> None:
        before = self._bridges, self._translations
        self._bridges, self._translations = dict(bridges), dict(translations)
        if not script:
            return
        try:
            try:
                self._nftables.run(script, about=f"{about} in table {self._table}")
            except (FileNotFoundError, FileExistsError):
                # Somebody flushed or changed our table: make it anew, with this change in it.
                self._replace()
        except OSError:
            self._bridges, self._translations = before
            raise

    def _replace(self) -> None:
        script = "".join(
            render(version, self._table, self._bridges.values(), self._translations.values(), self._guarded)
            for version in self._versions
        )
        if script:
            self._nftables.run(script, about=f"table {self._table}")
