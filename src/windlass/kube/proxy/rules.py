"""A service's port as nftables' rules.

```
 table ip windlass-proxy-…
   map services   { address . protocol . port : goto svc-… | goto ext-… | drop }
   map node-ports { protocol . port : goto ext-… | drop }
   set empty      { address . protocol . port }          services without endpoints: refused
   set hairpin    { address . address }                  an endpoint that reaches itself by its service

 svc-…   dnat to numgen random mod 2 map { 0 : 10.42.0.5 . 80, 1 : 10.42.1.7 . 80 }
 svc-…   (session affinity)  ip saddr @aff-… goto end-…   for each endpoint; else one by chance
 end-…   update @aff-… { ip saddr }; dnat to 10.42.0.5:80
 ext-…   who may come, who is masqueraded, then as above
```

The semantics are those of kube-proxy's nftables mode; the language is nft(8)'s.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-nftables
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from windlass.kube.proxy.model import Endpoint, ServicePort

FAMILIES: Final = {4: "ip", 6: "ip6"}
_ADDRESS: Final = {4: "ipv4_addr", 6: "ipv6_addr"}
MARK: Final = "0x4000"
_REST: Final = "0xffffbfff"


@dataclass
class Rules:
    """What stands in a table for some ports.

    Attributes:
        elements: (map or set, key) to the value, "" in sets.
        chains: rules by chain.
        sets: definitions of sets of their own.
    """

    elements: dict[tuple[str, str], str] = field(default_factory=dict)
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)

    def update(self, other: Rules) -> None:
        """Add others. Where both want one key, the first has it; chains of one name are the same chain."""
        for key, value in other.elements.items():
            self.elements.setdefault(key, value)
        self.chains.update(other.chains)
        self.sets.update(other.sets)


def structure(version: int, table: str) -> str:
    """The table without any service; whatever had its name is gone."""
    family, address = FAMILIES[version], _ADDRESS[version]
    key = f"{family} daddr . meta l4proto . th dport"
    unreachable = "icmp" if version == 4 else "icmpv6"
    return f"""\
add table {family} {table}
delete table {family} {table}
table {family} {table} {{
    map services {{ type {address} . inet_proto . inet_service : verdict; }}
    map node-ports {{ type inet_proto . inet_service : verdict; }}
    set empty {{ type {address} . inet_proto . inet_service; }}
    set empty-node-ports {{ type inet_proto . inet_service; }}
    set hairpin {{ type {address} . {address}; }}
    chain translate {{
        {key} vmap @services
        fib daddr type local meta l4proto . th dport vmap @node-ports
    }}
    chain refuse {{
        {key} @empty reject with {unreachable} type port-unreachable
        fib daddr type local meta l4proto . th dport @empty-node-ports reject with {unreachable} type port-unreachable
    }}
    chain prerouting {{ type nat hook prerouting priority -105; policy accept; jump translate; }}
    chain output {{ type nat hook output priority -105; policy accept; jump translate; }}
    chain refuse-input {{ type filter hook input priority -10; policy accept; ct state new jump refuse; }}
    chain refuse-forward {{ type filter hook forward priority -10; policy accept; ct state new jump refuse; }}
    chain refuse-output {{ type filter hook output priority -10; policy accept; ct state new jump refuse; }}
    chain postrouting {{
        type nat hook postrouting priority 95; policy accept;
        meta mark & {MARK} == {MARK} meta mark set meta mark & {_REST} masquerade
        {family} saddr . {family} daddr @hairpin ct status dnat masquerade
    }}
}}
"""


def of_port(port: ServicePort, version: int, inside: Sequence[str]) -> Rules:
    """The rules of one port. `inside` are the ranges of pods: who is not of them is masqueraded."""
    found = Rules()
    number = hashlib.sha256(f"{port.name}/{port.protocol}/{port.port}".encode()).hexdigest()[:12]
    _internal(found, port, version, number, inside)
    if port.external_ips or port.node_port:
        _external(found, port, version, number, inside)
    for each in {*port.internal, *port.external}:
        found.elements["hairpin", f"{each.address} . {each.address}"] = ""
    return found


def _internal(found: Rules, port: ServicePort, version: int, number: str, inside: Sequence[str]) -> None:
    verdict = _verdict(port.internal, port.drops_internal, f"svc-{number}")
    for address in port.cluster_ips:
        key = f"{address} . {port.protocol} . {port.port}"
        if verdict:
            found.elements["services", key] = verdict
        else:
            found.elements["empty", key] = ""
    if port.internal:
        family = FAMILIES[version]
        ranges = ", ".join(inside)
        guard = f"{family} saddr != {{ {ranges} }} " if ranges else ""
        mark = [f"{guard}meta mark set meta mark | {MARK}"] if ranges else []
        rules = _spread(found, port, version, f"{number}", port.internal)
        found.chains[f"svc-{number}"] = (*mark, *rules)


def _external(found: Rules, port: ServicePort, version: int, number: str, inside: Sequence[str]) -> None:
    verdict = _verdict(port.external or port.everywhere, False, f"ext-{number}")
    for address in port.external_ips:
        key = f"{address} . {port.protocol} . {port.port}"
        if not verdict:
            found.elements["empty", key] = ""
        elif port.source_ranges and address in port.balancer_ips:
            found.elements["services", key] = f"goto lb-{number}"
        else:
            found.elements["services", key] = verdict
    if port.node_port:
        key = f"{port.protocol} . {port.node_port}"
        if verdict:
            found.elements["node-ports", key] = verdict
        else:
            found.elements["empty-node-ports", key] = ""
    if not verdict:
        return
    family = FAMILIES[version]
    if port.source_ranges:
        ranges = ", ".join(port.source_ranges)
        found.chains[f"lb-{number}"] = (f"{family} saddr != {{ {ranges} }} drop", f"goto ext-{number}")
    if not port.keeps_source:
        rules = _spread(found, port, version, f"{number}", port.external)
        found.chains[f"ext-{number}"] = (f"meta mark set meta mark | {MARK}", *rules)
        return
    # From the node itself and its pods, all endpoints; from elsewhere only those that are here, as who they are.
    own = [f"{family} saddr {{ {', '.join(inside)} }} goto all-{number}"] if inside else []
    here = _spread(found, port, version, f"x{number}", port.external) or ("drop",)
    found.chains[f"ext-{number}"] = (*own, f"fib saddr type local goto nod-{number}", *here)
    found.chains[f"all-{number}"] = _spread(found, port, version, f"{number}", port.everywhere)
    found.chains[f"nod-{number}"] = (f"meta mark set meta mark | {MARK}", f"goto all-{number}")


def _verdict(endpoints: Sequence[Endpoint], drops: bool, chain: str) -> str:
    if endpoints:
        return f"goto {chain}"
    return "drop" if drops else ""


def _spread(
    found: Rules, port: ServicePort, version: int, number: str, endpoints: Sequence[Endpoint]
) -> tuple[str, ...]:
    """The rules that choose one of the endpoints."""
    if not endpoints:
        return ()
    family = FAMILIES[version]
    if not port.affinity:
        targets = ", ".join(f"{place} : {each.address} . {each.port}" for place, each in enumerate(endpoints))
        choice = f"numgen random mod {len(endpoints)} map {{ {targets} }}"
        return (f"meta l4proto {port.protocol} dnat {family} addr . port to {choice}",)
    known, choices = [], []
    for place, each in enumerate(endpoints):
        own = hashlib.sha256(f"{number}/{each.address}/{each.port}".encode()).hexdigest()[:12]
        remembered, chain = f"aff-{number}-{own}", f"end-{number}-{own}"
        kind = _ADDRESS[version]
        found.sets[remembered] = f"type {kind}; flags dynamic,timeout; timeout {port.affinity}s; size 65535;"
        target = f"{each.address}:{each.port}" if version == 4 else f"[{each.address}]:{each.port}"
        found.chains[chain] = (
            f"update @{remembered} {{ {family} saddr }}",
            f"meta l4proto {port.protocol} dnat {family} to {target}",
        )
        known.append(f"{family} saddr @{remembered} goto {chain}")
        choices.append(f"{place} : goto {chain}")
    return (*known, f"numgen random mod {len(endpoints)} vmap {{ {', '.join(choices)} }}")


def merged(parts: Iterable[Rules]) -> Rules:
    """Several together."""
    found = Rules()
    for part in parts:
        found.update(part)
    return found


def difference(family: str, table: str, before: Rules, after: Rules) -> str:
    """The script that turns one state of a table into another, in an order in which nothing refers to what is not."""
    lines: list[str] = []
    at = f"{family} {table}"
    lines += [f"add set {at} {name} {{ {text} }}" for name, text in after.sets.items() if name not in before.sets]
    lines += [f"add chain {at} {name}" for name in after.chains if name not in before.chains]
    removed = [key for key, value in before.elements.items() if after.elements.get(key) != value]
    added = [key for key, value in after.elements.items() if before.elements.get(key) != value]
    lines += _elements("delete", at, before, removed)
    changed = [name for name, rules in after.chains.items() if before.chains.get(name) != rules]
    gone = [name for name in before.chains if name not in after.chains]
    lines += [f"flush chain {at} {name}" for name in (*changed, *gone) if name in before.chains]
    lines += [f"add rule {at} {name} {rule}" for name in changed for rule in after.chains[name]]
    lines += _elements("add", at, after, added)
    lines += [f"delete chain {at} {name}" for name in gone]
    lines += [f"delete set {at} {name}" for name in before.sets if name not in after.sets]
    return "".join(f"{line}\n" for line in lines)


def _elements(verb: str, at: str, rules: Rules, keys: Iterable[tuple[str, str]]) -> list[str]:
    of_map: dict[str, list[str]] = {}
    for name, key in keys:
        value = rules.elements[name, key]
        of_map.setdefault(name, []).append(f"{key} : {value}" if value else key)
    return [f"{verb} element {at} {name} {{ {', '.join(items)} }}" for name, items in of_map.items()]
