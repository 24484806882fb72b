"""What a container has written: the list that `diff` shows, and the layer that `commit` makes of it.

An overlay keeps what was written in a directory of its own: new and changed files as they are, removed ones as
whiteouts (character device 0:0), replaced directories marked opaque (overlayfs.rst).
"""

from __future__ import annotations

import contextlib
import enum
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from windlass.errors import NotImplementedByEngine
from windlass.images.archive.pack import pack_overlay
from windlass.images.layering.driver import Driver
from windlass.kernel.mounts import Mount, detached

_OPAQUE: Final = "trusted.overlay.opaque"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Kind(enum.IntEnum):
    """Docker's numbers."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


class Change(NamedTuple):
    """One path that is different from the image."""

    path: str
    kind: Kind


def changes(driver: Driver, name: str) -> list[Change]:
    """What the root `name` has that its image has not, and the other way round, sorted by path. Blocking."""
    upper = _upper(driver, name)
    below = _view_below(driver, name)
    try:
        top = os.open(upper, _DIRECTORY)
        return sorted(_walk(top, below, ""))
    finally:
        if below >= 0:
            os.close(below)


def _upper(driver: Driver, name: str) -> Path:
    upper = driver.changes(name)
    if upper is None:
        raise NotImplementedByEngine(f"the {driver.name} driver does not keep apart what a container writes")
    return upper


def _view_below(driver: Driver, name: str) -> int:
    """A detached mount of what is below the writable directory; -1 where there is nothing."""
    mount = driver.mounts(name)[0]
    if not mount.lower:
        return -1
    if len(mount.lower) == 1:
        return os.open(mount.lower[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return detached(Mount("overlay", "overlay", ("ro",), mount.lower))


def _walk(top: int, below: int, prefix: str) -> Iterator[Change]:
    """Changes below the directory `top` (consumed); `below` is the same directory of the image, -1 if it has none."""
    try:
        opaque = _is_opaque(top)
        names = sorted(os.listdir(top))
        for name in names:
            path = f"{prefix}/{name}"
            status = os.stat(name, dir_fd=top, follow_symlinks=False)
            before = _stat(below, name)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                if before is not None:
                    yield Change(path, Kind.DELETED)
                continue
            is_directory = stat.S_ISDIR(status.st_mode)
            same_kind = before is not None and stat.S_IFMT(before.st_mode) == stat.S_IFMT(status.st_mode)
            yield Change(path, Kind.MODIFIED if before is not None else Kind.ADDED)
            if is_directory:
                inner = -1
                if same_kind:
                    inner = os.open(name, _DIRECTORY, dir_fd=below)
                try:
                    yield from _walk(os.open(name, _DIRECTORY, dir_fd=top), inner, path)
                finally:
                    if inner >= 0:
                        os.close(inner)
        if opaque and below >= 0:
            copy = os.open(".", _DIRECTORY, dir_fd=below)
            try:
                for name in sorted(set(os.listdir(copy)) - set(names)):
                    yield Change(f"{prefix}/{name}", Kind.DELETED)
            finally:
                os.close(copy)
    finally:
        os.close(top)


def _is_opaque(directory: int) -> bool:
    with contextlib.suppress(OSError):
        return os.getxattr(directory, _OPAQUE) == b"y"
    return False


def _stat(directory: int, name: str) -> os.stat_result | None:
    if directory < 0:
        return None
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def layer_of(driver: Driver, name: str) -> Iterator[bytes]:
    """What was written, as a layer archive. Blocking."""
    upper = os.open(_upper(driver, name), _DIRECTORY)
    try:
        yield from pack_overlay(upper)
    finally:
        os.close(upper)
