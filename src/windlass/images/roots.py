"""Root file systems of containers: an image's layers, the mount points that every container needs, and what is written.

A runtime makes what is missing to mount on (/proc, /dev/pts, /etc/hosts, …). Made in a container's own writable layer,
those would be its changes, in `diff` and in every `commit`. So they are made once for each image, in a layer of their
own between the image and its containers, by the kernel's rules inside the image's tree: no link leads out of it.

    <root>/<hex of the chain ID, or "empty">/fs
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from windlass.images import trees
from windlass.images.layering.driver import Driver
from windlass.images.layering.overlay import OverlayDriver
from windlass.kernel.mounts import Mount, detached
from windlass.kernel.paths import create_file_in_root, mkdir_all_in_root, open_parent_in_root, stat_in_root
from windlass.oci.digest import Digest

_DIRECTORIES: Final = ("/dev/pts", "/dev/shm", "/proc", "/sys")  # noqa: S108 - inside the image
_FILES: Final = ("/.dockerenv", "/dev/console", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
_EXECUTABLE: Final = frozenset({"/.dockerenv"})
_LINKS: Final = {"/etc/mtab": "/proc/mounts"}


class Roots:
    """Prepares roots over a storage driver."""

    def __init__(self, driver: Driver, root: Path) -> None:
        self._driver = driver
        self._root = root
        self._warm: set[str] = set()

    def open(self) -> None:
        """Forget what a crash left half-made."""
        self._root.mkdir(exist_ok=True, mode=0o700)
        for entry in self._root.iterdir():
            if entry.name.startswith("."):
                trees.remove(str(entry))
            else:
                self._warm.add(entry.name)

    @staticmethod
    def _key(chain: Sequence[Digest]) -> str:
        return chain[-1].partition(":")[2] if chain else "empty"

    def is_warm(self, chain: Sequence[Digest]) -> bool:
        """Whether the mount points of these layers exist."""
        return self._key(chain) in self._warm or not isinstance(self._driver, OverlayDriver)

    def warm(self, chain: Sequence[Digest]) -> None:
        """Make the mount points of these layers."""
        key = self._key(chain)
        place = self._root / f".{key}.{os.urandom(4).hex()}"
        (place / "fs").mkdir(parents=True)
        (place / "work").mkdir()
        try:
            assert isinstance(self._driver, OverlayDriver)
            lower = tuple(str(self._driver.layer_path(chain_id)) for chain_id in reversed(chain))
            if lower:
                status = os.stat(lower[0])
                os.chown(place / "fs", status.st_uid, status.st_gid)
                os.chmod(place / "fs", status.st_mode & 0o7777)
                options = (f"upperdir={place / 'fs'}", f"workdir={place / 'work'}")
                tree = detached(Mount("overlay", "overlay", options, lower))
            else:
                tree = os.open(place / "fs", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                make_mount_points(tree)
            finally:
                os.close(tree)
            trees.remove(str(place / "work"))
            with contextlib.suppress(FileExistsError, OSError):
                place.rename(self._root / key)
            self._warm.add(key)
        finally:
            trees.remove(str(place))

    def prepare(self, name: str, chain: Sequence[Digest]) -> None:
        """The writable root `name`. Its mount points must be warm."""
        base = self._root / self._key(chain) / "fs" if isinstance(self._driver, OverlayDriver) else None
        self._driver.prepare(name, chain, base)
        if base is None:
            for mount in self._driver.mounts(name):
                tree = os.open(mount.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    make_mount_points(tree)
                finally:
                    os.close(tree)

    def forget(self, chain_id: Digest) -> None:
        """The layer is being removed, and its mount points with it."""
        key = chain_id.partition(":")[2]
        self._warm.discard(key)
        trees.remove(str(self._root / key))

    def usage(self, name: str, size_of_chain: Callable[[Sequence[Digest]], int]) -> tuple[int, int]:
        """(bytes written, bytes of the whole)."""
        place = self._driver.changes(name)
        written = 0
        if place is not None:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    written = trees.usage(descriptor).bytes
                finally:
                    os.close(descriptor)
        return written, written + size_of_chain(self._driver.chain_of(name))


def make_mount_points(root: int) -> None:
    """Make what is missing in a tree of an image, as dockerd's init layer has it."""
    for path in _DIRECTORIES:
        with contextlib.suppress(NotADirectoryError):
            os.close(mkdir_all_in_root(root, path))
    for path in _FILES:
        with contextlib.suppress(NotADirectoryError):
            os.close(create_file_in_root(root, path, 0o755 if path in _EXECUTABLE else 0o644))
    for path, target in _LINKS.items():
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            try:
                stat_in_root(root, path, follow=False)
            except FileNotFoundError:
                directory, name = open_parent_in_root(root, path)
                try:
                    os.symlink(target, name, dir_fd=directory)
                finally:
                    os.close(directory)
