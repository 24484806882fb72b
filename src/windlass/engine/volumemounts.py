"""A new container's mount points: volumes made or found, others' taken over, and empty volumes filled from the image.

Later ones replace earlier ones at the same place: other containers' (`--volumes-from`), then `-v`, then `--mount`,
then, where nothing else is, the places that the image declares.
"""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace

from windlass.engine.container import Container
from windlass.engine.core import Core
from windlass.engine.mountpoints import (
    MountPoint,
    beside_engine,
    clean,
    parse_bind,
    parse_mount,
    parse_volumes_from,
    writable,
)
from windlass.engine.rootfs import RootView, open_snapshot
from windlass.engine.usermounts import image_mount_id
from windlass.errors import InvalidParameter, NotFound, SystemFailure
from windlass.kernel.paths import open_in_root


class VolumeMounts:
    """Registers mount points."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def register(self, container: Container, *, default_read_only_non_recursive: bool) -> None:
        """Fill in `container.mount_points`. Raises `InvalidParameter`, `NotFound`, `SystemFailure`."""
        host_config = container.host_config
        self._from_others(container)
        taken = set(host_config.get("Tmpfs") or ())
        for text in host_config["Binds"] or ():
            point = parse_bind(text, volume_driver=host_config["VolumeDriver"])
            await self._add(container, point, taken, plain=default_read_only_non_recursive)
        for spec in host_config.get("Mounts") or ():
            await self._add(container, parse_mount(dict(spec)), taken, plain=default_read_only_non_recursive)
        declared = [clean(path) for path in container.config["Volumes"] or ()]
        for path in declared:
            if path not in container.mount_points and path not in taken:
                point = parse_mount({"Type": "volume", "Target": path})
                driver = host_config["VolumeDriver"]
                made = await self._volume(container, replace(point, driver=driver))
                container.mount_points[path] = replace(made, mode="")
        if any(point.copy_data for point in container.mount_points.values()):
            await self._fill(container, frozenset(declared))

    def _from_others(self, container: Container) -> None:
        for text in container.host_config["VolumesFrom"] or ():
            reference, mode = parse_volumes_from(text)
            try:
                donor = self._core.store.find(reference)
            except NotFound as error:
                raise InvalidParameter(str(error)) from None
            for point in donor.mount_points.values():
                if point.type == "volume":
                    self._core.volumes.refer(point.name, container.id)
                container.mount_points[point.destination] = replace(
                    point, rw=point.rw and writable(mode), copy_data=False
                )

    async def _add(self, container: Container, point: MountPoint, taken: set[str], *, plain: bool) -> None:
        if point.destination in taken:
            raise InvalidParameter(f"Duplicate mount point: {point.destination}")
        taken.add(point.destination)
        point = beside_engine(point, str(self._core.settings.data_root))
        match point.type:
            case "volume":
                point = await self._volume(container, point)
            case "image":
                image = self._core.images.resolve(point.source)
                await self._core.images.create_rootfs(image_mount_id(container, point), image.id, storage_opt={})
                point = replace(point, name=point.source, spec={**point.spec, "Source": image.id})
            case "bind" if plain and not point.rw:
                # What read-only meant to clients before API 1.44.
                options = {**(point.spec.get("BindOptions") or {}), "ReadOnlyNonRecursive": True}
                point = replace(point, spec={**point.spec, "BindOptions": options})
        container.mount_points[point.destination] = point

    async def _volume(self, container: Container, point: MountPoint) -> MountPoint:
        """The mount point of a volume that is there now, made if need be."""
        volumes, anonymous = self._core.volumes, not point.name
        options = point.spec.get("VolumeOptions") or {}
        known = point.name in volumes
        volume = await volumes.create(
            point.name,
            point.driver,
            (options.get("DriverConfig") or {}).get("Options"),
            options.get("Labels"),
        )
        volumes.refer(volume["Name"], container.id)
        made = point.with_volume(volume, anonymous=anonymous)
        # Known from here on, so that a creation that fails lets go of it.
        container.mount_points[point.destination] = made
        if not known:
            self._core.events.publish("volume", "create", made.name, {"driver": made.driver})
        return made

    # Filling volumes -------------------------------------------------------------------------------------------

    async def _fill(self, container: Container, declared: frozenset[str]) -> None:
        layers = self._core.images.rootfs_mounts(container.id)
        points = [point for point in container.mount_points.values() if point.copy_data]
        with await asyncio.to_thread(open_snapshot, layers) as view:
            for point in points:
                await self._fill_one(container, view, point, declared)

    async def _fill_one(
        self, container: Container, view: RootView, point: MountPoint, declared: frozenset[str]
    ) -> None:
        """Copy what the image has at a volume's place into the volume, if that is empty."""
        try:
            source = open_in_root(view.root, point.destination, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if not stat.S_ISDIR(os.fstat(source).st_mode):
                if point.destination in declared and point.anonymous:
                    raise SystemFailure(f"cannot mount volume over existing file, file exists {point.destination}")
                return
            await self._core.volumes.mount(point.name, container.id)
            try:
                await self._core.volumes.populate(point.name, source)
            finally:
                await self._core.volumes.unmount(point.name, container.id)
        finally:
            os.close(source)
