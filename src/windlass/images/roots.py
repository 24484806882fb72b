"""Root file systems of containers: an image's layers, the mount points that every container needs, and what is written.

A runtime makes what is missing to mount on (/proc, /dev/pts, /etc/hosts, …). Made in a container's own writable layer,
those would be its changes, in `diff` and in every `commit`. So they are made once for each image, in a layer of their
own between the image and its containers, by the kernel's rules inside the image's tree: no link leads out of it.

    layers of the image ◀─ <topmost>-init ◀─ container          nothing ◀─ empty-init ◀─ container without an image
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from typing import Final

from windlass.images import trees
from windlass.images.snapshots import Change, Driver
from windlass.kernel.mounts import Mount, detached
from windlass.kernel.paths import create_file_in_root, mkdir_all_in_root, open_parent_in_root, stat_in_root

_DIRECTORIES: Final = ("/dev/pts", "/dev/shm", "/proc", "/sys")  # noqa: S108 - inside the image
_FILES: Final = ("/.dockerenv", "/dev/console", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
_EXECUTABLE: Final = frozenset({"/.dockerenv"})
_LINKS: Final = {"/etc/mtab": "/proc/mounts"}
_SUFFIX: Final = "-init"


class Roots:
    """Prepares the roots of containers over a storage driver. Methods block and may be called from any thread."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._lock = threading.Lock()

    def create(self, name: str, layer: str | None, options: Mapping[str, str]) -> None:
        """The writable root `name` on a layer (None: on nothing).

        Raises NotFound for an unknown layer, Conflict for a name that is taken, InvalidParameter for the options.
        """
        self._driver.check_options(options)
        init = init_layer(layer)
        if self._driver.stat(init) is None:
            with self._lock:
                if self._driver.stat(init) is None:
                    self._make_init(init, layer)
        self._driver.prepare(name, init)

    def _make_init(self, init: str, layer: str | None) -> None:
        temporary = f".init-{secrets.token_hex(8)}"
        self._driver.prepare(temporary, layer)
        try:
            with opened_root(self._driver.mounts(temporary)) as root:
                make_mount_points(root)
            self._driver.commit(init, temporary)
        except BaseException:
            self._driver.remove(temporary)
            raise

    def remove(self, name: str) -> None:
        """Throw a root away; nothing there is no error."""
        self._driver.remove(name)

    def names(self) -> list[str]:
        """All roots of containers."""
        return [info.name for info in self._driver.walk() if not info.is_layer and not info.name.startswith(".")]

    def image_layer(self, name: str) -> str | None:
        """The topmost layer of the image that a root stands on."""
        init = self._driver.stat(name)
        layer = self._driver.stat(init.parent) if init is not None and init.parent is not None else None
        return layer.parent if layer is not None else None

    def changes(self, name: str) -> list[Change]:
        """What a container has changed."""
        return self._driver.changes(name)

    def written(self, name: str) -> int:
        """Bytes that a container has written."""
        return self._driver.usage(name).bytes


def init_layer(layer: str | None) -> str:
    """The name of the layer with the mount points for containers on `layer`."""
    return f"{layer or 'empty'}{_SUFFIX}"


def is_init_layer(name: str) -> bool:
    """Whether a layer is one of mount points."""
    return name.endswith(_SUFFIX)


@contextlib.contextmanager
def opened_root(mounts: list[Mount]) -> Iterator[int]:
    """A descriptor of the root of mounts, which nobody else sees."""
    mount = mounts[0]
    if mount.type == "bind":
        fd = os.open(mount.source, trees.DIRECTORY)
    else:
        fd = detached(mount)
    try:
        yield fd
    finally:
        os.close(fd)


def make_mount_points(root: int) -> None:
    """Make what is missing in a tree of an image, as dockerd's init layer has it.

    Where the image has something else in the way (a file where a directory is to be, links in a circle), it stays: the
    container's start will say so.
    """
    for path in _DIRECTORIES:
        with contextlib.suppress(OSError):
            os.close(mkdir_all_in_root(root, path))
    for path in _FILES:
        with contextlib.suppress(OSError):
            os.close(create_file_in_root(root, path, 0o755 if path in _EXECUTABLE else 0o644))
    for path, target in _LINKS.items():
        with contextlib.suppress(OSError):
            _make_link(root, path, target)


def _make_link(root: int, path: str, target: str) -> None:
    try:
        stat_in_root(root, path, follow=False)
    except FileNotFoundError:
        directory, name = open_parent_in_root(root, path)
        try:
            os.symlink(target, name, dir_fd=directory)
        finally:
            os.close(directory)
