"""Operations of the tag System."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from windlass.engine import df
from windlass.engine.filters import Filters
from windlass.engine.operations.parts import Parts

Document = dict[str, Any]


class SystemOperations:
    """A part of `Engine`."""

    parts: Parts

    async def system_info(self) -> Document:
        """SystemInfo."""
        return await self.parts.information.info()

    async def system_version(self) -> Document:
        """SystemVersion."""
        return self.parts.information.version()

    async def system_auth(self, *, auth: Any) -> Document:
        """SystemAuth: whether a registry takes these credentials."""
        return await self.parts.images.transfers.login(auth)

    async def system_data_usage(self, *, types: Sequence[str]) -> Document:
        """SystemDataUsage."""
        return await df.usage(self.parts.core, self.parts.listing, self.parts.images, types)

    async def system_events(self, *, since: int | None, until: int | None, filters: Filters) -> AsyncIterator[Document]:
        """SystemEvents."""
        return self.parts.core.events.stream(since=since, until=until, filters=filters)
