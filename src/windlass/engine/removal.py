"""Removing containers.

    claim it ─▶ end it ─▶ mark the directory ─▶ snapshot ─▶ directory ─▶ forget ─▶ anonymous volumes ─▶ tell

From the mark on, a daemon that dies leaves a removal that the next one completes. A container whose snapshot cannot be
removed stays, as "dead", and can be removed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from windlass.engine.container import Container
from windlass.engine.core import Core, log
from windlass.engine.filters import Filters, prune_labels
from windlass.engine.lifecycle import Lifecycle
from windlass.engine.timestamps import parse_moment
from windlass.engine.usermounts import image_mount_id
from windlass.errors import Conflict, InvalidParameter, SystemFailure, WindlassError

Document = dict[str, Any]


class Removal:
    """Removes containers one by one, or all that do not run."""

    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core = core
        self._lifecycle = lifecycle
        self._pruning = False

    async def remove(self, container: Container, *, force: bool, volumes: bool, shown: str) -> None:
        """Remove a container at a client's wish; `shown` is how the client called it. Raises `Conflict`, …"""
        await self._core.tasks.finish(
            self._remove(container, force=force, volumes=volumes, shown=shown), f"remove {container.id[:12]}"
        )

    async def _remove(self, container: Container, *, force: bool, volumes: bool, shown: str) -> None:
        state = container.state
        if state.removing:
            raise Conflict(f"removal of container {shown} is already in progress")
        if state.running and not force:
            raise Conflict(
                f'cannot remove container "{shown}": '
                + (
                    "container is paused and must be unpaused first"
                    if state.paused
                    else f"container is {state.status}: stop the container before removing or force remove"
                )
            )
        state.removing = True
        try:
            await self._end(container, shown)
            await self._destroy(container, volumes=volumes)
        except BaseException:
            state.removing = False
            raise

    async def _end(self, container: Container, shown: str) -> None:
        if not container.state.running:
            return
        try:
            await self._lifecycle.kill(container)
        except Conflict:
            return  # it ended by itself
        except SystemFailure as error:
            raise SystemFailure(f'cannot remove container "{shown}": could not kill container: {error}') from error

    async def auto(self, container: Container) -> None:
        """Remove a container that has ended and was to disappear then; it is claimed already."""
        try:
            await self._destroy(container, volumes=True)
        except BaseException:
            container.state.removing = False
            raise

    async def _destroy(self, container: Container, *, volumes: bool) -> None:
        core, store = self._core, self._core.store
        async with container.lock:
            if store.get(container.id) is None:
                return
            store.begin_removal(container)
            try:
                await self.remove_snapshots(container)
            except WindlassError as error:
                container.state.dead = True
                container.state.error = str(error)
                store.undo_removal(container)
                core.save(container)
                container.waiters.removed(container.state.exit_code, str(error))
                raise
            await asyncio.to_thread(store.finish_removal, container)
            if container.hub is not None:
                await container.hub.close()
            store.discard(container)
        await self.release_volumes(container, remove=volumes)
        core.container_event(container, "destroy")
        container.waiters.removed(container.state.exit_code, "")

    async def remove_snapshots(self, container: Container) -> None:
        """Remove the root file system, and those of images that were mounted in it."""
        images = self._core.images
        await images.remove_rootfs(container.id)
        for snapshot in self.image_mounts(container):
            await images.remove_rootfs(snapshot)

    @staticmethod
    def image_mounts(container: Container) -> list[str]:
        """The snapshots of images that are mounted in a container."""
        points = container.mount_points.values()
        return [image_mount_id(container, point) for point in points if point.type == "image"]

    async def release_volumes(self, container: Container, *, remove: bool) -> None:
        """Let go of the volumes; with `remove`, those disappear that nobody named and no other container uses."""
        volumes = self._core.volumes
        for point in container.mount_points.values():
            if point.type != "volume":
                continue
            volumes.release(point.name, container.id)
            if not remove or not point.anonymous or volumes.users(point.name):
                continue
            try:
                await volumes.remove(point.name, force=True)
                self._core.events.publish("volume", "destroy", point.name, {"driver": point.driver})
            except WindlassError as error:
                log.warning("volume %s of container %s: %s", point.name, container.id, error)

    async def prune(self, filters: Filters) -> Document:
        """Remove all containers that do not run and pass the filters. Raises `InvalidParameter`, `Conflict`."""
        if self._pruning:
            raise Conflict("a prune operation is already running")
        until = prune_moment(filters, now=self._core.clock())
        self._pruning = True
        deleted: list[str] = []
        reclaimed = 0
        try:
            for container in self._core.store:
                if container.state.running or (until is not None and container.created > until):
                    continue
                if not prune_labels(filters, container.labels):
                    continue
                size = await self._size(container)
                try:
                    await self.remove(container, force=False, volumes=False, shown=container.id)
                except WindlassError as error:
                    log.warning("failed to prune container %s: %s", container.id, error)
                    continue
                reclaimed += size
                deleted.append(container.id)
        finally:
            self._pruning = False
        self._core.events.publish("container", "prune", "", {"reclaimed": str(reclaimed)})
        return {"ContainersDeleted": deleted or None, "SpaceReclaimed": reclaimed}

    async def _size(self, container: Container) -> int:
        try:
            written, _ = await self._core.images.rootfs_usage(container.id)
        except (WindlassError, OSError):
            return 0
        return int(written)


def prune_moment(filters: Mapping[str, Any], *, now: int) -> int | None:
    """The `until` filter of the prune endpoints. Raises `InvalidParameter`."""
    wanted = filters.get("until") or ()
    if len(wanted) > 1:
        raise InvalidParameter("more than one until filter specified")
    if not wanted:
        return None
    try:
        return parse_moment(wanted[0], now=now)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
