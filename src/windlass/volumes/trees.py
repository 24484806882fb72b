"""Directory trees of volumes: their size, and taking them away. By descriptor, across no mount point and no link.

A volume may be a bind mount of a directory of the host, and what is in it belongs to whoever writes there. So every
step down is an `openat2` that refuses symbolic links and mount points: nothing outside the volume is ever counted or
removed, whatever is exchanged meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from windlass.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_ONE_STEP = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


def _step(directory: int, name: str) -> int:
    return openat2(directory, name, _DIRECTORY, resolve=_ONE_STEP)


def _entries(directory: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        try:
            yield name, os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue


def disk_usage(path: str) -> int:
    """The bytes of the files below `path`, each inode once; mounts below it are not counted. Raises `OSError`."""
    seen: set[tuple[int, int]] = set()
    total = 0
    # Descriptors of one path at a time: a stack of directories still to be listed, by their path from the top.
    top = os.open(path, _DIRECTORY | os.O_CLOEXEC)
    try:
        pending = ["."]
        while pending:
            relative = pending.pop()
            try:
                directory = _step(top, relative)
            except OSError:  # gone, exchanged, or a mount point
                continue
            try:
                for name, info in _entries(directory):
                    if stat.S_ISDIR(info.st_mode):
                        pending.append(f"{relative}/{name}")
                    elif (info.st_dev, info.st_ino) not in seen:
                        if info.st_nlink > 1:
                            seen.add((info.st_dev, info.st_ino))
                        total += info.st_size
            finally:
                os.close(directory)
    finally:
        os.close(top)
    return total


def clear(directory: int) -> None:
    """Remove all that is in a directory, however deep. Raises `OSError`: EXDEV at a mount point, ESTALE if a directory
    is moved meanwhile (what is removed by then is gone).

    One descriptor at a time: the way up is `..`, if that is still the directory from which the way led down.
    """
    trail: list[tuple[str, tuple[int, int]]] = []
    top = _identity(directory)
    current = os.open(".", _DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        while True:
            below = _remove_files(current)
            if below is not None:
                current = _exchange(current, _step(current, below))
                trail.append((below, _identity(current)))
                continue
            if not trail:
                return
            name, _ = trail.pop()
            current = _exchange(current, os.open("..", _DIRECTORY | os.O_CLOEXEC, dir_fd=current))
            if _identity(current) != (trail[-1][1] if trail else top):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
            os.rmdir(name, dir_fd=current)
    finally:
        os.close(current)


def _identity(directory: int) -> tuple[int, int]:
    info = os.fstat(directory)
    return info.st_dev, info.st_ino


def _exchange(old: int, new: int) -> int:
    os.close(old)
    return new


def _remove_files(directory: int) -> str | None:
    """Remove what is not a directory; the name of a directory that is left, None if none is."""
    left = None
    for name, info in _entries(directory):
        if stat.S_ISDIR(info.st_mode):
            left = name
        else:
            os.unlink(name, dir_fd=directory)
    return left


def remove(parent: int, name: str) -> None:
    """Remove the directory `name` with all that is in it. No error if it is gone. Raises `OSError` as `clear`."""
    try:
        directory = _step(parent, name)
    except FileNotFoundError:
        return
    try:
        clear(directory)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=parent)
