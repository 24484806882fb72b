"""Follows services and their endpoints, and keeps the node's tables equal to them.

Service, EndpointSlice ─▶ keys that changed ─▶ their rules alone ─▶ one transaction, in a thread
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from windlass.kernel.nftables import Nftables
from windlass.kube.api.endpointslices import GROUP, PLURAL, Key, ServiceSlices
from windlass.kube.api.resource import Object
from windlass.kube.client import APIClient
from windlass.kube.proxy import rules
from windlass.kube.proxy.model import Endpoint, ports_of
from windlass.kube.proxy.rules import Rules
from windlass.kube.proxy.table import ProxyTable

log = logging.getLogger("windlass.kube.proxy")

_RETRY_SECONDS: Final = 2.0
DNS_PORT: Final = 53
# Changes that come together, as those of a rollout do, are one transaction.
_GATHER_SECONDS: Final = 0.01


def table_name(identity: str) -> str:
    """The name of a node's tables; `identity` tells nodes of one host apart."""
    return f"windlass-proxy-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


class ServiceProxy:
    """`start`, then `stop`: the rules stay, as pods do.

    Args:
        node: the node's name.
        cluster_cidr: the ranges of pods, separated by commas.
        table: what the tables are called.
        local: services of which this node is the only endpoint, by its own address and port.
    """

    def __init__(
        self,
        client: APIClient,
        node: str,
        cluster_cidr: str,
        table: str,
        local: Mapping[Key, Endpoint] | None = None,
    ) -> None:
        self._local = local or {}
        self._cache = client.cache
        self._node = node
        ranges = [each.strip() for each in cluster_cidr.split(",") if each.strip()]
        self._inside = {
            version: [each for each in ranges if ipaddress.ip_network(each).version == version] for version in (4, 6)
        }
        self._nftables = Nftables()
        self._tables = {version: ProxyTable(self._nftables, table, version) for version in (4, 6)}
        self._slices = ServiceSlices(self._touch)
        self._dirty: set[Key] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.synced = asyncio.Event()

    def start(self) -> None:
        """Follow the API from now on."""
        self._slices.fill(self._cache)
        for service in self._cache.list("", "services"):
            self._service_changed("ADDED", service)
        self._cache.subscribe(GROUP, PLURAL, self._slices.changed)
        self._cache.subscribe("", "services", self._service_changed)
        self._changed.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="service proxy")

    async def stop(self, *, keep: bool = True) -> None:
        """Follow the API no longer; `keep` the rules, or take them away."""
        if self._task is not None:
            self._cache.unsubscribe(GROUP, PLURAL, self._slices.changed)
            self._cache.unsubscribe("", "services", self._service_changed)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if not keep:
            for table in self._tables.values():
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(table.remove)
        self._nftables.close()

    def _service_changed(self, event: str, service: Object) -> None:
        del event
        self._touch((service["metadata"]["namespace"], service["metadata"]["name"]))

    def _touch(self, key: Key) -> None:
        self._dirty.add(key)
        self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._changed.clear()
            keys, self._dirty = self._dirty, set()
            try:
                begun = time.monotonic()
                await asyncio.to_thread(self._apply, self._rules_of(keys))
                log.debug("%d services in %.1f ms", len(keys), (time.monotonic() - begun) * 1000)
                self.synced.set()
            except OSError as error:
                log.error("services cannot be reached by their new endpoints: %s", error)
                self._dirty |= keys
                await asyncio.sleep(_RETRY_SECONDS)
                self._changed.set()

    def _rules_of(self, keys: Iterable[Key]) -> dict[int, dict[str, Rules | None]]:
        found: dict[int, dict[str, Rules | None]] = {4: {}, 6: {}}
        for key in keys:
            service = self._cache.get("", "services", *key)
            slices = self._slices.of(key)
            here = self._local.get(key)
            for version, changes in found.items():
                ports = [] if service is None else ports_of(service, slices, self._node, version)
                if here is not None and (":" in here.address) == (version == 6):
                    ports = [replace(port, internal=(here,)) for port in ports if port.port == DNS_PORT]
                parts = [rules.of_port(port, version, self._inside[version]) for port in ports]
                changes["/".join(key)] = rules.merged(parts) if parts else None
        return found

    def _apply(self, changes: dict[int, dict[str, Rules | None]]) -> None:
        for version, of_version in changes.items():
            self._tables[version].apply(of_version)
