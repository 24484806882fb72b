"""Operations of the tag Network."""

from __future__ import annotations

from typing import Any

from windlass.engine.filters import Filters
from windlass.engine.operations.parts import Parts
from windlass.engine.removal import prune_moment
from windlass.errors import NotFound

Document = dict[str, Any]


class NetworkOperations:
    """A part of `Engine`."""

    parts: Parts

    async def network_list(self, *, filters: Filters) -> list[Document]:
        """NetworkList."""
        return self.parts.core.networks.list(filters)

    async def network_inspect(self, id: str, *, verbose: bool, scope: str) -> Document:
        """NetworkInspect. All networks are local, and `verbose` is about those that are not."""
        if scope not in {"", "local"}:
            raise NotFound(f"network {id} not found")
        return self.parts.core.networks.inspect(id)

    async def network_create(self, *, body: Document) -> Document:
        """NetworkCreate."""
        record = await self.parts.core.networks.create(body)
        self._network_event("create", record.id, record.name, record.driver)
        return {"Id": record.id, "Warning": ""}

    async def network_delete(self, id: str) -> None:
        """NetworkDelete."""
        record = await self.parts.core.networks.remove(id)
        self._network_event("destroy", record.id, record.name, record.driver)

    async def network_connect(self, id: str, *, body: Document) -> None:
        """NetworkConnect."""
        container = self.parts.core.store.find(str(body.get("Container") or ""))
        await self.parts.connections.connect(container, id, body.get("EndpointConfig"))

    async def network_disconnect(self, id: str, *, body: Document) -> None:
        """NetworkDisconnect."""
        container = self.parts.core.store.find(str(body.get("Container") or ""))
        await self.parts.connections.disconnect(container, id, force=bool(body.get("Force")))

    async def network_prune(self, *, filters: Filters) -> Document:
        """NetworkPrune. Predefined networks stay."""
        core = self.parts.core
        known = {network["Name"]: network for network in core.networks.list()}
        until = prune_moment(filters, now=core.clock())
        labels = {name: values for name, values in filters.items() if name != "until"}
        deleted = await core.networks.prune(labels, until_ns=until)
        for name in deleted:
            self._network_event("destroy", known[name]["Id"], name, known[name]["Driver"])
        core.events.publish("network", "prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": deleted or None}

    def _network_event(self, action: str, network_id: str, name: str, driver: str) -> None:
        self.parts.core.events.publish("network", action, network_id, {"name": name, "type": driver})
