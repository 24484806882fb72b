"""The containers that exist: in memory by ID and name, on disk one directory each.

    containers/<id>/container.json       written to a temporary name and renamed: whole or as it was
    containers/<id>.removing/            a removal has begun; start-up completes it

A write is visible to the next daemon at once (it is in the kernel's cache), and on the disk itself, for the sake of a
power cut, within about a second: the sync is shared by all writes of that time and delays nobody.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from windlass.engine.container import Container
from windlass.engine.names import NameRegistry
from windlass.errors import InvalidParameter, NotFound, SystemFailure

RECORD: Final = "container.json"
REMOVING: Final = ".removing"
SYNC_DELAY: Final = 0.5  # seconds


class ContainerStore:
    """All containers. `root` is the directory of their directories."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = NameRegistry()
        self._containers: dict[str, Container] = {}
        self._ids: list[str] = []  # sorted, for prefixes
        self._unsynced: set[str] = set()
        self._syncer: asyncio.Task[None] | None = None

    # In memory ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._containers.values()))

    def __len__(self) -> int:
        return len(self._containers)

    def get(self, container_id: str) -> Container | None:
        """The container with exactly this ID."""
        return self._containers.get(container_id)

    def add(self, container: Container) -> None:
        """Make a container known; its name is reserved already."""
        self._containers[container.id] = container
        bisect.insort(self._ids, container.id)

    def discard(self, container: Container) -> None:
        """Forget a container and free its name."""
        if self._containers.pop(container.id, None) is not None:
            del self._ids[bisect.bisect_left(self._ids, container.id)]
        self.names.release(container.name, container.id)

    def find(self, reference: str) -> Container:
        """The container that a full ID, a name or a unique beginning of an ID names.

        Raises `NotFound`, or `InvalidParameter` when several begin so.
        """
        if not reference:
            raise InvalidParameter('invalid name or ID supplied: ""')
        found = self._containers.get(reference)
        if found is None and (owner := self.names.owner(reference)):
            # A name is reserved before its container exists.
            found = self._containers.get(owner)
        if found is None:
            place = bisect.bisect_left(self._ids, reference)
            matching = [other for other in self._ids[place : place + 2] if other.startswith(reference)]
            if len(matching) > 1:
                raise InvalidParameter(f"multiple IDs found with provided prefix: {reference}")
            found = self._containers.get(matching[0]) if matching else None
        if found is None:
            raise NotFound(f"No such container: {reference}")
        return found

    # On disk -------------------------------------------------------------------------------------------------------

    def directory(self, container_id: str) -> Path:
        """Where a container's record and log are."""
        return self.root / container_id

    def create_directory(self, container: Container) -> None:
        """Make a new container's directory. Raises `SystemFailure`."""
        try:
            os.mkdir(f"{self.root}/{container.id}", 0o710)
        except OSError as error:
            raise SystemFailure(str(error)) from error

    def save(self, container: Container) -> None:
        """Write a container's record. Raises `SystemFailure`; the old record is there then."""
        directory = f"{self.root}/{container.id}"
        data = orjson.dumps(container.to_record())
        temporary = f"{directory}/.{RECORD}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(28, "No space left on device", temporary)
            finally:
                os.close(descriptor)
            os.rename(temporary, f"{directory}/{RECORD}")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise SystemFailure(str(error)) from error
        self._unsynced.add(container.id)
        if self._syncer is None:
            self._syncer = asyncio.create_task(self._sync_soon(), name="sync container records")

    async def _sync_soon(self) -> None:
        while self._unsynced:
            await asyncio.sleep(SYNC_DELAY)
            pending, self._unsynced = self._unsynced, set()
            living = [container_id for container_id in pending if container_id in self._containers]
            if living:
                await asyncio.to_thread(self._sync, living)
        self._syncer = None

    def _sync(self, containers: list[str]) -> None:
        for container_id in containers:
            for path in (f"{self.root}/{container_id}/{RECORD}", f"{self.root}/{container_id}"):
                with contextlib.suppress(OSError):
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)

    async def close(self) -> None:
        """Bring to the disk what is not there yet."""
        if self._syncer is not None:
            self._syncer.cancel()
            await asyncio.gather(self._syncer, return_exceptions=True)
            self._syncer = None
        await asyncio.to_thread(self._sync, list(self._unsynced))

    def begin_removal(self, container: Container) -> Path:
        """Mark a container's directory as being removed; from here on start-up completes the removal."""
        doomed = self.root / (container.id + REMOVING)
        try:
            os.rename(self.root / container.id, doomed)
        except FileNotFoundError:
            doomed.mkdir(exist_ok=True)
        except OSError as error:
            raise SystemFailure(str(error)) from error
        return doomed

    def undo_removal(self, container: Container) -> None:
        """Take the mark back: the removal failed and can be asked for again."""
        with contextlib.suppress(OSError):
            os.rename(self.root / (container.id + REMOVING), self.root / container.id)

    def finish_removal(self, container: Container) -> None:
        """Delete the directory. Blocking."""
        shutil.rmtree(self.root / (container.id + REMOVING), ignore_errors=True)
