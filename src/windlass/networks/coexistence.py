"""Getting past a host's other filter: chains that drop every forwarded packet unless somebody speaks for it.

dockerd and ufw set the policy of iptables' FORWARD chain to DROP. A packet must pass every filter of a host, so an
"accept" of ours is not enough; like everybody else we put two rules for each of our bridges into that chain (into
DOCKER-USER, where dockerd leaves a place for others). Our own tables still decide what reaches a container.

```
 table ip filter, chain FORWARD { policy drop;
     iifname "wl0" counter accept comment "windlass"      ours, found again by the comment
     oifname "wl0" counter accept comment "windlass"
```

Seen and changed are chains that nftables can show: iptables-nft's. See iptables-nft(8).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from windlass.kernel.nftables import Nftables
from windlass.networks.firewall import FAMILIES, quote

_TABLE, _BASE, _GUESTS = "filter", "FORWARD", "DOCKER-USER"

log = logging.getLogger(__name__)


class _Rule(NamedTuple):
    chain: str
    handle: int
    interface: str


class Guest:
    """Our rules in chains that belong to others. Every method may raise OSError."""

    def __init__(self, nftables: Nftables, mark: str) -> None:
        """`mark` is the comment by which this daemon's rules are known."""
        self._nftables, self._mark = nftables, mark

    def settle(self, bridges: Iterable[str]) -> None:
        """Have rules for exactly these bridges, where a chain would drop their packets."""
        wanted = set(bridges)
        tables = set(self._nftables.tables())
        for family in FAMILIES.values():
            if (family, _TABLE) in tables:
                self._settle(family, wanted)

    def leave(self) -> None:
        """Take all our rules out again."""
        self.settle(())

    def _settle(self, family: str, wanted: set[str]) -> None:
        items = self._nftables.list_table(family, _TABLE)
        chains = {item["chain"]["name"]: item["chain"] for item in items if "chain" in item}
        rules = [rule for item in items if "rule" in item and (rule := self._ours(item["rule"]))]
        drops = chains.get(_BASE, {}).get("policy") == "drop"
        chain = _GUESTS if _GUESTS in chains else _BASE
        wanted = wanted if drops else set()
        lines = [
            f"delete rule {family} {_TABLE} {rule.chain} handle {rule.handle}"
            for rule in rules
            if rule.interface not in wanted or rule.chain != chain
        ]
        present = {rule.interface for rule in rules if rule.chain == chain}
        for bridge in sorted(wanted - present):
            for direction in ("iifname", "oifname"):
                own = f'{direction} {quote(bridge)} counter accept comment "{self._mark}"'
                lines.append(f"insert rule {family} {_TABLE} {chain} {own}")
        if lines:
            log.info("%s %s %s drops what is forwarded: making a way for our bridges", family, _TABLE, chain)
            self._nftables.run("".join(f"{line}\n" for line in lines), about=f"chain {chain} of table {family} filter")

    def _ours(self, rule: Mapping[str, Any]) -> _Rule | None:
        if rule.get("comment") != self._mark:
            return None
        matches = [each["match"] for each in rule["expr"] if "match" in each]
        return _Rule(str(rule["chain"]), int(rule["handle"]), str(matches[0]["right"]) if matches else "")
