"""Operations of the tag Network."""

from __future__ import annotations

from typing import Any

from windlass.engine.filters import Filters
from windlass.engine.operations.parts import Parts
from windlass.errors import NotImplementedByEngine

Document = dict[str, Any]


class NetworkOperations:
    """A part of `Engine`."""

    parts: Parts

    async def network_list(self, *, filters: Filters) -> list[Document]:
        """NetworkList."""
        return self.parts.core.networks.list(filters)

    async def network_inspect(self, id: str, *, verbose: bool, scope: str) -> Document:
        """NetworkInspect. All networks are local, and `verbose` is about those that are not."""
        return self.parts.core.networks.inspect(id)

    async def network_create(self, *, body: Document) -> Document:
        """NetworkCreate."""
        raise NotImplementedByEngine("user-defined networks are not supported yet")

    async def network_delete(self, id: str) -> None:
        """NetworkDelete."""
        record = await self.parts.core.networks.remove(id)
        self.parts.core.events.publish("network", "destroy", record.id, {"name": record.name, "type": record.driver})

    async def network_connect(self, id: str, *, body: Document) -> None:
        """NetworkConnect."""
        self._find_both(id, body)
        raise NotImplementedByEngine("connecting a container to further networks is not supported yet")

    async def network_disconnect(self, id: str, *, body: Document) -> None:
        """NetworkDisconnect."""
        self._find_both(id, body)
        raise NotImplementedByEngine("disconnecting a container from a network is not supported yet")

    def _find_both(self, network: str, body: Document) -> None:
        self.parts.core.networks.find(network)
        self.parts.core.store.find(str(body.get("Container") or ""))

    async def network_prune(self, *, filters: Filters) -> Document:
        """NetworkPrune. Predefined networks stay."""
        self.parts.core.networks.list({name: values for name, values in filters.items() if name == "label"})
        self.parts.core.events.publish("network", "prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": None}
