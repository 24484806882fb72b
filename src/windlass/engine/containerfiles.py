"""`docker cp` and `docker export`: a container's files, whether it runs or not.

    running    its own view, with all that is mounted in it
    stopped    its snapshot with its volumes and binds in place; nothing may start on it or remove it meanwhile
    export     the root file system alone, of either

Bytes are read and written by threads, one step at a time, so a slow client holds no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from windlass.engine.accounts import read_files
from windlass.engine.container import Container
from windlass.engine.core import Core, log
from windlass.engine.mountpoints import MountPoint
from windlass.engine.rootfs import Bind, RootView, clone_root, open_running, open_snapshot, open_stopped
from windlass.engine.users import resolve
from windlass.errors import Conflict, InvalidParameter, SystemFailure, WindlassError
from windlass.images.archive.copy import pack_path, stat_path, unpack_into
from windlass.images.archive.pack import pack_tree
from windlass.images.archive.streams import fed
from windlass.kernel.paths import open_in_root
from windlass.volumes import open_subpath

T = TypeVar("T")
Document = dict[str, Any]


class ContainerFiles:
    """Reads and writes files in containers."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def stat(self, container: Container, path: str, *, shown: str) -> Document:
        """What is at `path`. Raises `NotFound`, `Conflict`, `SystemFailure`."""
        async with self._view(container) as view:
            return await asyncio.to_thread(stat_path, view.root, path, container=shown)

    async def archive(self, container: Container, path: str, *, shown: str) -> tuple[Document, AsyncIterator[bytes]]:
        """What is at `path`, described and as an archive. Raises `NotFound`, `Conflict`, `SystemFailure`."""
        async with contextlib.AsyncExitStack() as stack:
            view = await stack.enter_async_context(self._view(container))
            status = await asyncio.to_thread(stat_path, view.root, path, container=shown)
            pieces = await asyncio.to_thread(pack_path, view.root, path, container=shown)
            self._core.container_event(container, "archive-path")
            return status, _stream(pieces, stack.pop_all().aclose)
        raise AssertionError("unreachable")

    async def extract(
        self,
        container: Container,
        path: str,
        body: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
        shown: str,
    ) -> None:
        """Unpack an archive into the directory at `path`. Raises `NotFound`, `InvalidParameter`, `SystemFailure`."""
        async with self._view(container) as view:
            await asyncio.to_thread(_check_writable, container, view, path)
            owner = await asyncio.to_thread(_owner, container, view) if copy_uid_gid else None

            def work(chunks: Iterator[bytes]) -> None:
                unpack_into(
                    view.root,
                    path,
                    chunks,
                    container=shown,
                    keep_kinds=no_overwrite_dir_non_dir,
                    owner=owner,
                )

            await fed(body, work)
        self._core.container_event(container, "extract-to-dir")

    async def export(self, container: Container, *, shown: str) -> AsyncIterator[bytes]:
        """The root file system as an archive. Raises `Conflict`, `SystemFailure`."""
        if container.state.dead:
            raise Conflict(f"You cannot export container {container.id} which is Dead")
        if container.state.removing:
            raise Conflict(f"You cannot export container {container.id} which is being removed")
        async with contextlib.AsyncExitStack() as stack:
            try:
                view = await stack.enter_async_context(self._root_alone(container))
                directory = await asyncio.to_thread(open_in_root, view.root, "/", os.O_RDONLY | os.O_DIRECTORY)
            except (WindlassError, OSError) as error:
                raise SystemFailure(f"Error exporting container {shown}: {error}") from error
            stack.callback(os.close, directory)
            self._core.container_event(container, "export")
            return _stream(pack_tree(directory), stack.pop_all().aclose)
        raise AssertionError("unreachable")

    # Views -----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _view(self, container: Container) -> AsyncIterator[RootView]:
        """The file system as the container sees it."""
        if pid := _pid(container):
            view = await asyncio.to_thread(open_running, pid)
            try:
                yield view
            finally:
                view.close()
            return
        async with contextlib.AsyncExitStack() as stack:
            # Two mounts of one overlay's upper directory must not be: no start meanwhile.
            await stack.enter_async_context(container.lock)
            if _pid(container):
                view = await asyncio.to_thread(open_running, _pid(container))
            else:
                view = await self._assemble(container, stack)
            stack.callback(view.close)
            yield view

    async def _assemble(self, container: Container, stack: contextlib.AsyncExitStack) -> RootView:
        if container.state.removing or container.state.dead:
            raise Conflict(f"container {container.id} is being removed")
        binds = []
        for point in container.mount_points.values():
            source = await self._source(container, point, stack)
            if source:
                binds.append(Bind(source, point.destination, point.rw))
        layers = self._core.images.rootfs_mounts(container.id)
        if not binds:
            return await asyncio.to_thread(open_snapshot, layers)
        place = self._core.store.directory(container.id) / "view"
        await asyncio.to_thread(_make_place, place)
        stack.callback(_remove_place, place)
        return await asyncio.to_thread(open_stopped, layers, binds, str(place))

    async def _source(self, container: Container, point: MountPoint, stack: contextlib.AsyncExitStack) -> str:
        """The host's path of what is mounted there; empty for what exists in running containers only."""
        if point.type == "bind":
            return point.source if await asyncio.to_thread(os.path.lexists, point.source) else ""
        if point.type != "volume":
            return ""
        volumes = self._core.volumes
        path = await volumes.mount(point.name, container.id)
        stack.push_async_callback(volumes.unmount, point.name, container.id)
        subpath = (point.spec.get("VolumeOptions") or {}).get("Subpath", "")
        if not subpath:
            return path
        found = await asyncio.to_thread(open_subpath, path, subpath)
        stack.callback(os.close, found)
        return f"/proc/{os.getpid()}/fd/{found}"

    @contextlib.asynccontextmanager
    async def _root_alone(self, container: Container) -> AsyncIterator[RootView]:
        """The root file system without what is mounted in it."""
        if pid := _pid(container):
            view = await asyncio.to_thread(clone_root, pid)
            try:
                yield view
            finally:
                view.close()
            return
        async with container.lock:
            if pid := _pid(container):
                view = await asyncio.to_thread(clone_root, pid)
            else:
                view = await asyncio.to_thread(open_snapshot, self._core.images.rootfs_mounts(container.id))
            try:
                yield view
            finally:
                view.close()


def _pid(container: Container) -> int:
    """Its init process, 0 if there is none."""
    return container.state.pid if container.state.running and not container.state.restarting else 0


def _make_place(place: Path) -> None:
    place.mkdir(mode=0o700, exist_ok=True)


def _remove_place(place: Path) -> None:
    try:
        place.rmdir()
    except OSError as error:
        log.debug("cannot remove %s: %s", place, error)


def _check_writable(container: Container, view: RootView, path: str) -> None:
    """Refuse what is mounted read-only. Raises `InvalidParameter`; a missing path is found out later."""
    try:
        found = open_in_root(view.root, path, os.O_PATH)
    except OSError:
        return
    try:
        real = view.path_of(found)
        read_only = bool(os.fstatvfs(found).f_flag & os.ST_RDONLY)
    finally:
        os.close(found)
    places = [place for place in container.mount_points if real == place or real.startswith(place.rstrip("/") + "/")]
    if places:
        if not container.mount_points[max(places, key=len)].rw:
            raise InvalidParameter("mounted volume is marked read-only")
    elif container.host_config["ReadonlyRootfs"]:
        raise InvalidParameter("container rootfs is marked read-only")
    if read_only:
        raise InvalidParameter(f"{real} is mounted read-only")


def _owner(container: Container, view: RootView) -> tuple[int, int]:
    """Whom files copied for the container's user belong to."""
    account = resolve(container.config["User"], (), read_files(view.root))
    return account.uid, account.gid


async def _stream(pieces: Iterator[bytes], close: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
    """Pieces that a thread makes, one after the other; `close` is called when they are over or nobody wants them."""
    try:
        while data := await _to_the_end(lambda: next(pieces, b"")):
            yield data
    finally:
        if (end := getattr(pieces, "close", None)) is not None:
            await _to_the_end(end)
        await close()


async def _to_the_end(step: Callable[[], T]) -> T:
    """Run a step in a thread; a cancellation waits for it, so that nobody closes what it uses."""
    task = asyncio.ensure_future(asyncio.to_thread(step))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
