"""The volumes of one engine: made, listed, used, filled, pruned and removed.

A volume has two kinds of users, both containers. Those that *refer* to it keep it from being removed; those that have
it *mounted* (while they run) keep its file system mounted, if its options ask for one:

    create ── refer(c) ── mount(c) ── unmount(c) ── release(c) ── remove
                          first: mount(2)   last: umount2(2)

Records are on disk, users are not: after a restart the engine, which knows its containers, tells them (`restore`), and
what is mounted for nobody is unmounted.

Everything that touches the disk runs in a thread; calls about the same volume wait for one another.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from windlass.errors import Conflict, NotFound, SystemFailure, WindlassError
from windlass.volumes import local, selection, trees
from windlass.volumes.copyup import Owner, copy_up
from windlass.volumes.names import ANONYMOUS_LABEL, check_name, make_up_name
from windlass.volumes.options import check_options, local_mount
from windlass.volumes.records import Record, Records, timestamp

Document = dict[str, Any]
Documents = list[Document]
Names = list[str]
_Result = TypeVar("_Result")
DRIVER: Final = "local"


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Puts `what` before the messages of the errors that come through; what the disk refuses is a `SystemFailure`."""
    try:
        yield
    except WindlassError as error:
        raise type(error)(f"{what}: {error}") from error
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        raise SystemFailure(f"{what}: {path}{local.reason(error)}") from error


def _empty(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        trees.clear(directory)
    finally:
        os.close(directory)


class Volumes:
    """Make one with `open`."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._volumes: dict[str, Record] = {}
        self._references: defaultdict[str, set[str]] = defaultdict(set)
        self._mounts: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @classmethod
    async def open(cls, root: Path, *, owner: tuple[int, int] = (0, 0)) -> Self:
        """The volumes below `root`, which is made if need be. `owner`: what containers' root is on this host.

        Raises `SystemFailure` if the directory cannot be used.
        """
        volumes = cls(Records(str(root), owner))
        with _about("opening the volumes"):
            await volumes._blocking(volumes._records.open)
            volumes._volumes = await volumes._blocking(volumes._records.load)
        return volumes

    async def close(self) -> None:
        """Let go of the directory. Mounts stay, for the containers that go on."""
        self._records.close()

    # --- asking

    def __contains__(self, name: str) -> bool:
        return name in self._volumes

    def inspect(self, name: str) -> Document:
        """A volume as the API shows it. Raises `NotFound`."""
        return self._document(self._get(name))

    def list(self, filters: selection.Filters | None = None) -> Documents:
        """The volumes that the filters mean (`dangling`, `driver`, `label`, `name`), by name.

        Raises `InvalidParameter`.
        """
        wanted = filters or {}
        return [
            self._document(record)
            for name, record in sorted(self._volumes.items())
            if selection.listed(record, wanted, in_use=bool(self.users(name)))
        ]

    def users(self, name: str) -> Names:
        """The containers that refer to a volume or have it mounted."""
        return sorted(self._references.get(name, set()) | self._mounts.get(name, {}).keys())

    def is_anonymous(self, name: str) -> bool:
        """Did nobody name it? Raises `NotFound`."""
        return self._get(name).anonymous

    async def usage(self) -> Documents:
        """All volumes with their `UsageData`: bytes, and the number of containers that refer to it. What is another
        file system's (`o=…`) is not counted as ours."""
        found = []
        for name, record in sorted(self._volumes.items()):
            size = -1 if local_mount(record.options or {}) else await self._size(name)
            data = {"Size": size, "RefCount": len(self._references.get(name, ()))}
            found.append({**self._document(record), "UsageData": data})
        return found

    # --- making and removing

    async def create(
        self,
        name: str = "",
        driver: str = "",
        driver_opts: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Document:
        """Make a volume; without a name, an anonymous one. One that is there already is returned as it is.

        Raises:
            InvalidParameter: name or options.
            NotFound: no such driver.
            Conflict: there is one of that name, of another driver.
            SystemFailure: the disk.
        """
        if not name:
            name, labels = make_up_name(), {**(labels or {}), ANONYMOUS_LABEL: ""}
        with _about(f"create {name}"):
            check_name(name)
            async with self._locked(name):
                if (found := self._volumes.get(name)) is not None:
                    if driver and driver != found.driver:
                        raise Conflict("conflict: volume name must be unique")
                    return self._document(found)
                if driver not in {"", DRIVER}:
                    raise NotFound(f'error looking up volume plugin {driver}: plugin "{driver}" not found')
                check_options(driver_opts or {})
                record = Record(
                    name=name,
                    labels=dict(labels) if labels is not None else None,
                    options=dict(driver_opts) if driver_opts is not None else None,
                    created=timestamp(time.time()),
                )
                await self._blocking(self._create, record)
        return self._document(record)

    def _create(self, record: Record) -> None:
        """Disk and memory in one step, which a caller that goes away does not part."""
        self._records.create(record)
        self._volumes[record.name] = record

    async def remove(self, name: str, force: bool = False) -> None:
        """Remove a volume and its data. With `force` a missing one is no error.

        Raises `NotFound`, `Conflict` while containers refer to it or something is mounted in it, `SystemFailure`.
        """
        async with self._locked(name):
            if name not in self._volumes and force:
                return
            self._get(name)
            with _about(f"remove {name}"):
                if users := self.users(name):
                    raise Conflict(f"volume is in use - [{', '.join(users)}]")
                await self._remove(name)

    async def _remove(self, name: str) -> None:
        directory = os.path.dirname(self._records.data(name))
        if local_mount(self._volumes[name].options or {}):
            await self._blocking(local.unmount, self._records.data(name))
        # Removal stops at a mount point, but half a volume would be gone by then: look first.
        if found := await self._blocking(local.mounts_below, directory):
            raise Conflict(f"volume is in use - mounted: {', '.join(found)}")
        await self._blocking(self._forget, name)

    def _forget(self, name: str) -> None:
        gone = self._records.detach(name)
        del self._volumes[name]
        self._references.pop(name, None)
        self._mounts.pop(name, None)
        self._records.discard(gone)

    async def prune(self, filters: selection.Filters | None = None) -> Document:
        """Remove the volumes that nobody uses: anonymous ones, with the filter `all` named ones too.

        Returns the API's answer. Raises `InvalidParameter`; what cannot be removed is left for the next time.
        """
        wanted = filters or {}
        names = [name for name, record in sorted(self._volumes.items()) if selection.pruned(record, wanted)]
        deleted: Names = []
        reclaimed = 0
        for name in names:
            async with self._locked(name):
                record = self._volumes.get(name)
                if record is None or self.users(name):
                    continue
                size = 0 if local_mount(record.options or {}) else await self._size(name)
                try:
                    await self._remove(name)
                except (WindlassError, OSError):
                    continue
                deleted.append(name)
                reclaimed += max(size, 0)
        return {"VolumesDeleted": deleted or None, "SpaceReclaimed": reclaimed}

    # --- using

    def refer(self, name: str, container_id: str) -> None:
        """The container keeps the volume from being removed. Raises `NotFound`."""
        self._get(name)
        self._references[name].add(container_id)

    def release(self, name: str, container_id: str) -> None:
        """It does no more. No error if it did not."""
        self._references.get(name, set()).discard(container_id)

    async def mount(self, name: str, container_id: str) -> str:
        """The path of the volume's data, mounted if its options ask for it; until as many `unmount`.

        Raises `NotFound`, `InvalidParameter` (an address that has no number), `SystemFailure` (the mount).
        """
        async with self._locked(name):
            record = self._get(name)
            path = self._records.data(name)
            what = local_mount(record.options or {})
            if what is not None and not self._mounts.get(name) and not await self._blocking(local.is_mounted, path):
                with _about(f"error while mounting volume '{path}'"):
                    await self._blocking(local.mount, what, path)
            mounts = self._mounts[name]
            mounts[container_id] = mounts.get(container_id, 0) + 1
            return path

    async def unmount(self, name: str, container_id: str) -> None:
        """Undo one `mount`. No error if there was none. Raises `SystemFailure`."""
        async with self._locked(name):
            mounts = self._mounts.get(name, {})
            if container_id not in mounts:
                return
            mounts[container_id] -= 1
            if not mounts[container_id]:
                del mounts[container_id]
            if not mounts and name in self._volumes and local_mount(self._volumes[name].options or {}):
                await self._blocking(local.unmount, self._records.data(name))

    async def populate(self, name: str, image_dir_fd: int, *, owner: Owner | None = None) -> bool:
        """Fill an empty volume from a directory of an image (`copyup.copy_up`). Was anything copied?

        If that fails nothing of it stays, and if the process is killed meanwhile the next call starts anew. The volume
        must be mounted by the caller. Raises `NotFound`, `SystemFailure`.
        """
        async with self._locked(name):
            self._get(name)
            with _about(f"failed to populate volume {name}"):
                return await self._blocking(self._populate, name, image_dir_fd, owner)

    def _populate(self, name: str, image_dir_fd: int, owner: Owner | None) -> bool:
        path = self._records.data(name)
        if self._records.is_populating(name):
            _empty(path)
        elif os.listdir(path):
            return False
        self._records.begin_populating(name)
        try:
            copied = copy_up(image_dir_fd, path, owner=owner)
        except BaseException:
            _empty(path)  # should this fail too, the mark stays, and the next call tries again
            self._records.end_populating(name)
            raise
        self._records.end_populating(name)
        return copied

    async def restore(
        self, references: Mapping[str, Iterable[str]], mounted: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        """After a restart: the containers that refer to each volume, and those, running, that have it mounted.

        A name of a volume that is not there any more is left out. File systems that nobody needs are unmounted.
        """
        for name, containers in references.items():
            if name in self._volumes:
                self._references[name].update(containers)
        for name, containers in (mounted or {}).items():
            if name in self._volumes:
                self._mounts[name].update(dict.fromkeys(containers, 1))
        for name, record in self._volumes.items():
            if local_mount(record.options or {}) and not self._mounts.get(name):
                await self._blocking(local.unmount, self._records.data(name))

    # --- within

    def _get(self, name: str) -> Record:
        try:
            return self._volumes[name]
        except KeyError:
            raise NotFound(f"get {name}: no such volume") from None

    def _document(self, record: Record) -> Document:
        return {
            "CreatedAt": record.created,
            "Driver": record.driver,
            "Labels": dict(record.labels) if record.labels is not None else None,
            "Mountpoint": self._records.data(record.name),
            "Name": record.name,
            "Options": dict(record.options) if record.options is not None else None,
            "Scope": "local",
        }

    async def _size(self, name: str) -> int:
        try:
            return await asyncio.to_thread(trees.disk_usage, self._records.data(name))
        except OSError:
            return -1

    @asynccontextmanager
    async def _locked(self, name: str) -> AsyncIterator[None]:
        """One call at a time for each name. A lock lives as long as somebody holds it or waits for it."""
        lock, users = self._locks.get(name) or (asyncio.Lock(), 0)
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(name)
            if users > 1:
                self._locks[name] = (lock, users - 1)

    async def _blocking(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """In a thread, to its end even if the caller is cancelled: a lock must not be let go of half-done work."""
        task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise
