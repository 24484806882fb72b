"""Addresses for the pods of each node: a part of the cluster's range, given once and kept.

    10.42.0.0/16  ─▶  n1 10.42.0.0/24   n2 10.42.1.0/24   …

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/ (--cluster-cidr,
--node-cidr-mask-size)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from windlass.kube.client import Client
from windlass.kube.controllers.events import WARNING, EventRecorder
from windlass.kube.controllers.runner import Controller, Key

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PREFIXES: Final = {4: 24, 6: 64}


class NodeIPAMController(Controller):
    """Gives nodes that have none their pod CIDRs. `networks`: at most one of each family."""

    name = "node-ipam-controller"
    workers = 1  # two at once would give away the same part

    def __init__(self, client: Client, networks: Sequence[Network]) -> None:
        super().__init__(client)
        self._networks = networks
        self._recorder = EventRecorder(self.client, "cidrAllocator")

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", "nodes")

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        node = self.cache.get("", "nodes", "", key[1])
        if node is None or (node.get("spec") or {}).get("podCIDR"):
            return None
        used = {
            cidr
            for each in self.cache.list("", "nodes")
            for cidr in (each.get("spec") or {}).get("podCIDRs") or [(each.get("spec") or {}).get("podCIDR", "")]
        }
        found = [self._free(network, used) for network in self._networks]
        if not all(found):
            message = f"Node {key[1]} status is now: CIDRNotAvailable"
            self._recorder.event(node, WARNING, "CIDRNotAvailable", message)
            return 10.0

        def assign(live: dict[str, object]) -> None:
            spec = live.setdefault("spec", {})
            assert isinstance(spec, dict)
            if not spec.get("podCIDR"):
                spec["podCIDR"], spec["podCIDRs"] = found[0], found

        await self.client.update("", "nodes", "", key[1], assign)
        return None

    @staticmethod
    def _free(network: Network, used: set[str]) -> str:
        """The first part of a range that no node has, "" if there is none."""
        prefix = max(_PREFIXES[network.version], network.prefixlen)
        taken = [ipaddress.ip_network(cidr) for cidr in used if cidr]
        for part in network.subnets(new_prefix=prefix):
            if not any(part.version == each.version and part.overlaps(each) for each in taken):
                return str(part)
        return ""
