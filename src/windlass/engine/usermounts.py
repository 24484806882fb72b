"""A container's mounts made ready for a start: volumes mounted, sources made, shared memory, and given back after.

    /etc/resolv.conf hostname hosts   from the run's directory, unless a mount point is there
    /dev/shm                          the host's or another container's, or a tmpfs of ours that can be shared
    mount points                      binds; volumes by their path; subpaths of them by descriptor
    --tmpfs, type=tmpfs               options only
    type=image                        the image's root, mounted read-only in the run's directory

A subpath of a volume may be exchanged for a link at any time by whoever writes to the volume. So it is resolved once,
and the runtime gets the name of the descriptor, held until the next start or the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from typing import Any, Final, NamedTuple

from windlass.engine import joins, modes
from windlass.engine.container import Container
from windlass.engine.core import Core, log
from windlass.engine.mountpoints import DEFAULT_PROPAGATION, MountPoint, holds_or_is_in, tmpfs_options
from windlass.engine.sharedmemory import mount_shared_memory
from windlass.engine.spec.mounts import UserMount
from windlass.errors import InvalidParameter, SystemFailure, WindlassError
from windlass.kernel import mounts
from windlass.kernel.mounts import Mount
from windlass.volumes import open_subpath

_NAME_FILES: Final = (
    ("/etc/resolv.conf", "resolv.conf"),
    ("/etc/hostname", "hostname"),
    ("/etc/hosts", "hosts"),
)
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - a place in containers


class Prepared(NamedTuple):
    """The mounts of a run."""

    mounts: list[UserMount]


class UserMounts:
    """Prepares and releases mounts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._held: dict[str, list[int]] = {}
        self._mounted: dict[str, list[str]] = {}

    async def prepare(self, container: Container, name_files: str) -> Prepared:
        """The mounts besides the defaults; `name_files` is the directory with hostname, hosts and resolv.conf.

        Raises `WindlassError`.
        """
        host_config = container.host_config
        writable = not host_config["ReadonlyRootfs"]
        result = [
            UserMount(
                destination=destination,
                source=f"{name_files}/{name}",
                writable=writable,
                propagation=DEFAULT_PROPAGATION,
            )
            for destination, name in _NAME_FILES
            if destination not in container.mount_points
        ]
        tmpfs = dict(host_config.get("Tmpfs") or {})
        for point in container.mount_points.values():
            if point.destination not in tmpfs:
                result.append(await self._point(container, point))
        for destination, options in tmpfs.items():
            result.append(UserMount(destination=destination, tmpfs_options=tuple(options.split(","))))
        if shared := await self._shared_memory(container, tmpfs):
            result.append(shared)
        return Prepared(result)

    async def _point(self, container: Container, point: MountPoint) -> UserMount:
        if point.type == "tmpfs":
            return UserMount(destination=point.destination, tmpfs_options=tuple(tmpfs_options(point.spec)))
        options: dict[str, Any] = point.spec.get("BindOptions") or {}
        return UserMount(
            destination=point.destination,
            source=await self._source(container, point),
            writable=point.rw,
            propagation=self._propagation(point),
            non_recursive=bool(options.get("NonRecursive")),
            readonly_non_recursive=bool(options.get("ReadOnlyNonRecursive")),
            readonly_force_recursive=bool(options.get("ReadOnlyForceRecursive")),
        )

    async def _source(self, container: Container, point: MountPoint) -> str:
        match point.type:
            case "volume":
                return await self._volume(container, point)
            case "image":
                return await self._image(container, point)
            case _:
                if point.create_source and _is_missing(point.source):
                    await asyncio.to_thread(_make_source, point.source)
                return point.source

    async def _volume(self, container: Container, point: MountPoint) -> str:
        core = self._core
        path = await core.volumes.mount(point.name, container.id)
        self._mounted.setdefault(container.id, []).append(point.name)
        core.events.publish(
            "volume",
            "mount",
            point.name,
            {
                "driver": point.driver,
                "container": container.id,
                "destination": point.destination,
                "read/write": "true" if point.rw else "false",
                "propagation": point.propagation,
            },
        )
        return self._below(container, path, (point.spec.get("VolumeOptions") or {}).get("Subpath", ""))

    def _below(self, container: Container, directory: str, subpath: str) -> str:
        """A name of `directory/subpath` that stays right whatever is exchanged there."""
        if not subpath:
            return directory
        found = open_subpath(directory, subpath)
        self._held.setdefault(container.id, []).append(found)
        return f"/proc/{os.getpid()}/fd/{found}"

    async def _image(self, container: Container, point: MountPoint) -> str:
        layers = self._core.images.rootfs_mounts(image_mount_id(container, point))
        target = f"{self._core.run_directory(container)}/image-{len(self._held.setdefault(container.id, []))}"
        await asyncio.to_thread(_mount_image, layers, target)
        self._held[container.id].append(os.open(target, os.O_PATH | os.O_CLOEXEC))
        return self._below(container, target, (point.spec.get("ImageOptions") or {}).get("Subpath", ""))

    def _propagation(self, point: MountPoint) -> str:
        """Check that what is to be shared is shared on the host. Raises `SystemFailure`."""
        wanted = point.propagation
        if point.type == "bind" and wanted.removeprefix("r") in {"shared", "slave"}:
            tags = _propagation_tags(point.source)
            shared = any(tag.startswith("shared:") for tag in tags)
            slave = any(tag.startswith("master:") for tag in tags)
            if "shared" in wanted and not shared:
                raise SystemFailure(
                    f"path {point.source} is mounted on {_mount_of(point.source)} but it is not a shared mount"
                )
            if "slave" in wanted and not (shared or slave):
                if holds_or_is_in(point.source, str(self._core.settings.data_root)):
                    return DEFAULT_PROPAGATION  # it was not the user's wish
                raise SystemFailure(
                    f"path {point.source} is mounted on {_mount_of(point.source)} but it is not a shared or slave mount"
                )
        return wanted

    # Shared memory ----------------------------------------------------------------------------------------------

    async def _shared_memory(self, container: Container, tmpfs: dict[str, str]) -> UserMount | None:
        """The shared memory where it is not the runtime's own tmpfs."""
        container.shm_path = ""
        mode = container.host_config["IpcMode"]
        if SHARED_MEMORY in container.mount_points or SHARED_MEMORY in tmpfs:
            return None
        sandbox = self._core.sandboxes.find(container.sandbox)
        if sandbox is not None and modes.shared_container(mode) == sandbox.id:
            container.shm_path = sandbox.shared_memory
            return UserMount(destination=SHARED_MEMORY, source=container.shm_path, propagation=DEFAULT_PROPAGATION)
        donor = joins.donor_of_shared_memory(self._core.store, container)
        if donor is not None:
            if not donor.shm_path:
                raise InvalidParameter(
                    f"failed to join IPC namespace: container {donor.id}: non-shareable IPC "
                    "(hint: use IpcMode:shareable for the donor container)"
                )
            container.shm_path = donor.shm_path
        elif mode == "host":
            if _is_missing(SHARED_MEMORY):
                raise SystemFailure(f"{SHARED_MEMORY} is not mounted, but must be for --ipc=host")
            container.shm_path = SHARED_MEMORY
        elif mode == "shareable":
            container.shm_path = shared_memory_path(self._core, container)
            await asyncio.to_thread(mount_shared_memory, container.shm_path, container.host_config["ShmSize"])
        else:
            return None
        return UserMount(destination=SHARED_MEMORY, source=container.shm_path, propagation=DEFAULT_PROPAGATION)

    # Afterwards -------------------------------------------------------------------------------------------------

    def adopt(self, container: Container) -> None:
        """Know what a run has mounted that another daemon prepared (and told the volumes by `Volumes.restore`)."""
        self._mounted[container.id] = [
            point.name for point in container.mount_points.values() if point.type == "volume"
        ]
        match container.host_config["IpcMode"]:
            case "shareable":
                container.shm_path = shared_memory_path(self._core, container)
            case "host":
                container.shm_path = SHARED_MEMORY

    async def release(self, container: Container) -> None:
        """Give back what a run of the container had mounted. Never raises: what fails is logged."""
        core = self._core
        for descriptor in self._held.pop(container.id, ()):
            os.close(descriptor)
        for name in self._mounted.pop(container.id, ()):
            try:
                await core.volumes.unmount(name, container.id)
            except WindlassError as error:
                log.warning("cannot unmount volume %s of container %s: %s", name, container.id, error)
                continue
            core.events.publish("volume", "unmount", name, {"driver": "local", "container": container.id})
        needs_unmount = container.host_config["IpcMode"] == "shareable" or any(
            point.type == "image" for point in container.mount_points.values()
        )
        container.shm_path = ""
        if needs_unmount:
            await asyncio.to_thread(unmount_below, core.run_directory(container))


def shared_memory_path(core: Core, container: Container) -> str:
    """Where the shared memory of a container with `--ipc shareable` is."""
    return f"{core.run_directory(container)}/shm"


def image_mount_id(container: Container, point: MountPoint) -> str:
    """The snapshot's name of an image that is mounted in a container: one for each place."""
    return hashlib.sha256(f"{container.id} {point.destination}".encode()).hexdigest()


def _is_missing(path: str) -> bool:
    return not os.path.lexists(path)


def _make_source(path: str) -> None:
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except OSError as error:
        raise SystemFailure(
            f"error while creating mount source path '{path}': mkdir {path}: {(error.strerror or '').lower()}"
        ) from error


def _mount_image(layers: list[Mount], target: str) -> None:
    try:
        os.makedirs(target, mode=0o700, exist_ok=True)
        mounts.mount_all([layer._replace(options=(*layer.options, "ro")) for layer in layers], target)
    except OSError as error:
        raise SystemFailure(f"mounting an image: {error}") from error


def unmount_below(directory: str) -> None:
    """Unmount what a run had mounted in its directory. Blocking."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and (entry.name == "shm" or entry.name.startswith("image-")):
                mounts.unmount_all(entry.path)
                with contextlib.suppress(OSError):
                    os.rmdir(entry.path)


def _mount_at(path: str) -> mounts.MountPoint | None:
    real = os.path.realpath(path)
    best: mounts.MountPoint | None = None
    for mount in mounts.mountinfo():
        below = mount.target == "/" or real == mount.target or real.startswith(mount.target + "/")
        if below and (best is None or len(mount.target) >= len(best.target)):
            best = mount
    return best


def _mount_of(path: str) -> str:
    found = _mount_at(path)
    return found.target if found else "/"


def _propagation_tags(path: str) -> tuple[str, ...]:
    found = _mount_at(path)
    return found.optional if found else ()
