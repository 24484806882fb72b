"""The overlay of a node: follows Nodes, and makes the kernel's tables what their addresses and parts say.

    Node  ─▶ status.addresses InternalIP, spec.podCIDR ─▶ Peer ─▶ backend.apply, in a thread, once for many changes

Source: https://kubernetes.io/docs/concepts/cluster-administration/networking/
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from typing import Final

from windlass.cluster.overlay import NONE, backend, peers, underlay
from windlass.cluster.overlay.peers import Peer
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.kernel.nftables import Nftables
from windlass.kube.agent.configuration import ClusterConfiguration
from windlass.kube.api.resource import Object
from windlass.kube.client import APIClient

log = logging.getLogger("windlass.kube.node")

_RETRY_SECONDS = 5.0
_RESYNC_SECONDS: Final = 300.0
DEFAULT_MTU: Final = 1500


class NodeOverlay:
    """`start`, then `stop`; the ways stay, as pods do."""

    def __init__(self, client: APIClient, name: str, address: str, configuration: ClusterConfiguration) -> None:
        self._cache = client.cache
        self._name = name
        self._address = address
        networks = [ipaddress.ip_network(each.strip()) for each in configuration.cluster_cidr.split(",")]
        ranges = [each for each in networks if isinstance(each, ipaddress.IPv4Network)]
        self._is_needed = configuration.backend != NONE
        self._netlink = NetlinkSocket()
        self._nftables = Nftables()
        self._backend = backend.make(configuration.backend, self._netlink, self._nftables, ranges)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def mtu(self) -> int:
        """What fits into a pod's packets."""
        try:
            below = underlay.find(self._netlink, ipaddress.IPv4Address(self._address)).mtu
        except (OSError, ValueError):
            below = DEFAULT_MTU
        return below - self._backend.overhead

    def start(self) -> None:
        """Follow nodes from now on."""
        if not self._is_needed:
            return
        self._cache.subscribe("", "nodes", self._node_changed)
        self._changed.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="overlay")

    async def stop(self) -> None:
        """Follow nodes no longer."""
        if self._task is not None:
            self._cache.unsubscribe("", "nodes", self._node_changed)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._netlink.close()
        self._nftables.close()

    def _node_changed(self, event: str, node: Object) -> None:
        del event, node
        self._changed.set()

    async def _run(self) -> None:
        applied: tuple[Peer, frozenset[Peer]] | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RESYNC_SECONDS):
                    await self._changed.wait()
            if not self._changed.is_set():
                applied = None  # somebody else may have changed the kernel's tables
            self._changed.clear()
            found = self._peers()
            if found is None or found == applied:
                continue
            try:
                await asyncio.to_thread(self._backend.apply, *found)
            except Exception as error:
                applied = None
                log.error("the ways to other nodes cannot be made: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                self._changed.set()
            else:
                applied = found

    def _peers(self) -> tuple[Peer, frozenset[Peer]] | None:
        """This node and the others; None as long as this one has no part of the range."""
        own, others = None, set()
        for node in self._cache.list("", "nodes"):
            peer = _peer(node)
            if peer is None:
                continue
            if peer.name == self._name:
                own = peer
            else:
                others.add(peer)
        return (own, frozenset(others)) if own is not None else None


def _peer(node: Object) -> Peer | None:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    parts = [*(spec.get("podCIDRs") or ()), spec.get("podCIDR") or ""]
    part = next((each for each in parts if each and ":" not in each), "")
    addresses = [each["address"] for each in status.get("addresses") or () if each.get("type") == "InternalIP"]
    address = next((each for each in addresses if ":" not in each), "")
    return peers.parse(node["metadata"]["name"], address, part)
