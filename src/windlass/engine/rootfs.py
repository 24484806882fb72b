"""A container's file system as seen from outside of it: a descriptor of its root, however it is mounted now.

    running   /proc/<pid>/root of its init: its own mount namespace, volumes and all
    stopped   its snapshot, mounted detached: no directory of the host shows it, closing the descriptor ends it
    stopped, with its volumes   a mount namespace made for this, held by a descriptor, in which they are put in place

All paths below are resolved by the kernel inside that root (`windlass.kernel.paths`). The namespace is made by a thread
that does nothing else and ends: it enters no container's namespace, and nothing is imported or executed in it.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Self, TypeVar

from windlass.errors import Conflict, SystemFailure
from windlass.kernel import mounts, paths
from windlass.kernel.mount_options import MOUNT_ATTR_RDONLY
from windlass.kernel.mounts import Mount
from windlass.kernel.namespaces import CLONE_NEWNS, setns, unshare
from windlass.kernel.process import is_process

T = TypeVar("T")

_CLONE_FS: Final = 0x200
_MS_PRIVATE: Final = 1 << 18


class Bind(NamedTuple):
    """Something of the host that is to be seen at a place in the container."""

    source: str
    destination: str
    writable: bool = True


class RootView:
    """A descriptor of a container's root directory, and whatever has to stay open for it."""

    def __init__(self, root: int, *held: int) -> None:
        self.root = root
        self._held = held

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def path_of(self, descriptor: int) -> str:
        """Where in the view a file is that was opened in it; only to be shown or compared, it may have moved."""
        base = os.readlink(f"/proc/self/fd/{self.root}").rstrip("/")
        return os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(base) or "/"

    def close(self) -> None:
        """Give up the view; what was mounted for it goes."""
        for descriptor in (self.root, *self._held):
            if descriptor >= 0:
                os.close(descriptor)
        self.root, self._held = -1, ()


def in_own_thread(function: Callable[[], T]) -> T:
    """Run `function` in a thread of its own, whose namespaces it may change. Blocking."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="mount namespace", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def open_running(pid: int, start_time: int | None = None) -> RootView:
    """The root of a process that runs in the container. Raises `Conflict` if it has ended. Blocking."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        raise Conflict("the container is not running") from None
    try:
        if start_time is not None and not is_process(pid, start_time):
            raise Conflict("the container is not running")
        try:
            root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            raise Conflict("the container is not running") from None
        # If the process lives now, it lived when its file was opened: the number was not somebody else's.
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if poll.poll(0):
            os.close(root)
            raise Conflict("the container is not running")
        return RootView(root)
    finally:
        os.close(process)


def open_snapshot(layers: Sequence[Mount]) -> RootView:
    """The root of a container that does not run, without its volumes. Raises `SystemFailure`. Blocking."""
    if len(layers) != 1:
        return open_stopped(layers, (), "/")
    try:
        return RootView(mounts.detached(layers[0]))
    except OSError as error:
        raise SystemFailure(f"cannot mount the container's file system: {error}") from error


def open_stopped(layers: Sequence[Mount], binds: Sequence[Bind], place: str) -> RootView:
    """The root of a container that does not run, with its volumes in place. Raises `SystemFailure`. Blocking.

    `place` is a directory of the host on which it is mounted inside a namespace that nobody else sees.
    """
    try:
        return in_own_thread(lambda: _assemble(layers, binds, place))
    except OSError as error:
        raise SystemFailure(f"cannot mount the container's file system: {error}") from error


def _assemble(layers: Sequence[Mount], binds: Sequence[Bind], place: str) -> RootView:
    with contextlib.ExitStack() as stack:

        def closing(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        # While we are in the host's namespace, to which descriptors that a source names belong.
        sources = [closing(mounts.open_tree_clone(bind.source, recursive=True)) for bind in binds]
        for source in sources:
            mounts.set_attributes(source, propagation=_MS_PRIVATE, recursive=True)
        unshare(CLONE_NEWNS)
        host = closing(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        mounts.set_attributes(host, propagation=_MS_PRIVATE, recursive=True)
        mounts.mount_all(layers, place)
        root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, root)
        for bind, source in sorted(zip(binds, sources, strict=True), key=lambda pair: pair[0].destination.count("/")):
            if not bind.writable:
                mounts.set_attributes(source, set_=MOUNT_ATTR_RDONLY, recursive=True)
            is_directory = os.path.isdir(f"/proc/self/fd/{source}")
            make = paths.mkdir_all_in_root if is_directory else paths.create_file_in_root
            target = closing(make(root, bind.destination))
            mounts.move_mount(source, target, about=bind.destination)
        namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        return RootView(os.dup(root), namespace)


def clone_root(pid: int) -> RootView:
    """The root file system of a running container alone, without what is mounted in it. Blocking.

    Raises `Conflict`, `SystemFailure`.
    """
    running = open_running(pid)
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        running.close()
        raise Conflict("the container is not running") from None

    def clone() -> int:
        # setns(2) refuses a mount namespace to a thread that shares its working directory with others.
        unshare(_CLONE_FS)
        setns(namespace, CLONE_NEWNS)
        return mounts.open_tree_clone("", directory=running.root)

    try:
        return RootView(in_own_thread(clone))
    except OSError as error:
        raise SystemFailure(f"cannot open the container's file system: {error}") from error
    finally:
        os.close(namespace)
        running.close()
