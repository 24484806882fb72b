"""Changing containers that exist: limits and restart policy (`docker update`), and the name (`docker rename`)."""

from __future__ import annotations

import asyncio
from typing import Any

from windlass.engine.container import Container
from windlass.engine.core import Core
from windlass.engine.devices import block_device_numbers
from windlass.engine.limits import check_resources, merge_update
from windlass.engine.shapes import decode_update
from windlass.engine.spec import linux_resources
from windlass.engine.validate import check_restart_policy
from windlass.errors import Conflict, InvalidParameter, SystemFailure, WindlassError

Document = dict[str, Any]


class Updating:
    """Changes containers."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def update(self, container: Container, body: Document) -> Document:
        """`POST /containers/{id}/update`, all or nothing. Raises `InvalidParameter`, `Conflict`, `SystemFailure`."""
        update = decode_update(body)
        if update["PidsLimit"] is not None and update["PidsLimit"] <= 0:
            update["PidsLimit"] = 0
        warnings = check_resources(update, self._core.host, update=True)
        check_restart_policy(update["RestartPolicy"])
        await self._core.tasks.finish(self._update(container, update), f"update {container.id[:12]}")
        return {"Warnings": warnings or None}

    async def _update(self, container: Container, update: Document) -> None:
        about = f"Cannot update container {container.id}"
        async with container.lock:
            state = container.state
            if state.removing or state.dead:
                raise Conflict(f'{about}: container is marked for removal and cannot be "update"')
            before = container.host_config
            try:
                container.host_config = merge_update(before, update)
                self._core.store.save(container)
                if state.running and not state.restarting:
                    await self._apply(container, update)
            except BaseException as error:
                container.host_config = before
                self._core.save(container)
                if isinstance(error, WindlassError):
                    raise type(error)(f"{about}: {error}") from None
                if isinstance(error, OSError):
                    raise SystemFailure(f"{about}: {error}") from error
                raise
        self._core.container_event(container, "update")

    async def _apply(self, container: Container, update: Document) -> None:
        numbers = block_device_numbers(update)
        resources = linux_resources(update, numbers.__getitem__, update=True)
        if resources:
            await asyncio.to_thread(self._core.open_cgroup(container).apply, resources)

    async def rename(self, container: Container, name: str) -> None:
        """`POST /containers/{id}/rename`. Raises `InvalidParameter`, `Conflict`, `SystemFailure`."""
        name = name.strip()
        if not name.removeprefix("/"):
            raise InvalidParameter("Neither old nor new names may be empty")
        await self._core.tasks.finish(self._rename(container, name), f"rename {container.id[:12]}")

    async def _rename(self, container: Container, name: str) -> None:
        names = self._core.store.names
        async with container.lock:
            before = container.name
            if name.removeprefix("/") == before:
                raise InvalidParameter("Renaming a container with the same name as its current name")
            try:
                container.name = names.reserve(name, container.id)
            except WindlassError as error:
                raise type(error)(f"Error when allocating new name: {error}") from None
            try:
                self._core.store.save(container)
            except WindlassError:
                names.release(container.name, container.id)
                container.name = before
                raise
            names.release(before, container.id)
            await self._core.networks.rename(container.id, container.name)
        self._core.container_event(container, "rename", oldName=f"/{before}")
