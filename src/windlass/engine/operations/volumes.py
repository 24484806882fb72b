"""Operations of the tag Volume."""

from __future__ import annotations

from typing import Any

from windlass.engine.filters import Filters
from windlass.engine.operations.parts import Parts

Document = dict[str, Any]


class VolumeOperations:
    """A part of `Engine`."""

    parts: Parts

    async def volume_list(self, *, filters: Filters) -> Document:
        """VolumeList."""
        return {"Volumes": self.parts.core.volumes.list(filters), "Warnings": None}

    async def volume_create(self, *, body: Document) -> Document:
        """VolumeCreate."""
        volumes = self.parts.core.volumes
        name = body.get("Name") or ""
        new = name not in volumes
        made = await volumes.create(name, body.get("Driver") or "", body.get("DriverOpts"), body.get("Labels"))
        if new:
            self._volume_event("create", made["Name"])
        return made

    async def volume_inspect(self, name: str) -> Document:
        """VolumeInspect."""
        return self.parts.core.volumes.inspect(name)

    async def volume_delete(self, name: str, *, force: bool) -> None:
        """VolumeDelete."""
        volumes = self.parts.core.volumes
        there = name in volumes
        await volumes.remove(name, force)
        if there:
            self._volume_event("destroy", name)

    async def volume_prune(self, *, filters: Filters) -> Document:
        """VolumePrune."""
        core = self.parts.core
        answer = await core.volumes.prune(filters)
        for name in answer["VolumesDeleted"] or ():
            self._volume_event("destroy", name)
        core.events.publish("volume", "prune", "", {"reclaimed": str(answer["SpaceReclaimed"])})
        return answer

    def _volume_event(self, action: str, name: str) -> None:
        self.parts.core.events.publish("volume", action, name, {"driver": "local"})
