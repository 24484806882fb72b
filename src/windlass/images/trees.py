"""Directory trees by descriptor: removing and measuring, safe where a hostile tree changes under our hands.

Nothing here follows a symbolic link or crosses into another file system. Depth is bounded by memory, not by the
interpreter's stack or by the file table: a container may nest directories as deep as it likes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST_PATH: Final = 2048
"""Components of the longest path (PATH_MAX 4096)."""
_DEEPEST_HELD: Final = 64
"""Directories held open at once while going down; deeper ones are moved up first."""


class Usage(NamedTuple):
    """What a tree takes: `bytes` of its files' contents as `du --apparent-size` counts, each hard link once."""

    bytes: int
    inodes: int


def remove(name: str | bytes, *, dir_fd: int | None = None) -> None:
    """Remove a file or a whole tree; nothing there is no error. Mounts in it are an error (EBUSY)."""
    try:
        os.unlink(name, dir_fd=dir_fd)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass  # Linux says EISDIR; POSIX, and some FUSE file systems, say EPERM
    try:
        fd = os.open(name, DIRECTORY, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(name, dir_fd=dir_fd)
        return
    try:
        _empty(fd, 0)
    finally:
        os.close(fd)
    _remove_directory(name, dir_fd)


def remove_contents(fd: int) -> None:
    """Remove everything in the directory with the descriptor `fd`."""
    _empty(fd, 0)


def _remove_directory(name: str | bytes, dir_fd: int | None) -> None:
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        # Immutable and append-only attributes are not ours to set; a full directory means somebody adds to it.
        raise OSError(error.errno, os.strerror(error.errno or 0), os.fsdecode(name)) from None


def _empty(fd: int, depth: int) -> None:
    """Remove what is in a directory; trees deeper than descriptors allow are flattened as they are met."""
    with os.scandir(fd) as entries:
        listed = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if not is_directory:
            try:
                os.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                pass
            continue
        try:
            below = os.open(name, DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            continue
        try:
            if depth < _DEEPEST_HELD:
                _empty(below, depth + 1)
            else:
                _flatten(below)
        finally:
            os.close(below)
        _remove_directory(name, fd)


def _flatten(fd: int) -> None:
    """Empty a directory however deep it is: directories two levels down move up until there are none."""
    count = 0
    while True:
        with os.scandir(fd) as entries:
            listed = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        if not listed:
            return
        for name, is_directory in listed:
            if not is_directory:
                os.unlink(name, dir_fd=fd)
                continue
            below = os.open(name, DIRECTORY, dir_fd=fd)
            try:
                with os.scandir(below) as entries:
                    inner = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
                for inner_name, inner_is_directory in inner:
                    if inner_is_directory:
                        count += 1
                        os.rename(inner_name, b".windlass-removing-%d" % count, src_dir_fd=below, dst_dir_fd=fd)
                    else:
                        os.unlink(inner_name, dir_fd=below)
            finally:
                os.close(below)
            _remove_directory(name, fd)


class Found(NamedTuple):
    """Something in a tree: its path below the root, the descriptor of its directory (good until the next step), its
    name there, and its status."""

    path: bytes
    parent: int
    name: bytes
    status: os.stat_result


def walk(fd: int) -> Iterator[Found]:
    """Everything below a directory, parents before children, names in byte order, no link followed.

    Raises `OSError` (ELOOP) where directories are nested deeper than any path could be.
    """
    held: list[tuple[int, bytes, Iterator[bytes]]] = []
    try:
        held.append(_listing(os.dup(fd), b""))
        while held:
            here, prefix, names = held[-1]
            name = next(names, None)
            if name is None:
                os.close(held.pop()[0])
                continue
            try:
                status = os.stat(name, dir_fd=here, follow_symlinks=False)
            except FileNotFoundError:
                continue
            path = prefix + name
            yield Found(path, here, name, status)
            if stat.S_ISDIR(status.st_mode):
                if len(held) >= _DEEPEST_PATH:
                    raise OSError(errno.ELOOP, "directories nested too deeply", os.fsdecode(path[:200]))
                try:
                    held.append(_listing(os.open(name, DIRECTORY, dir_fd=here), path + b"/"))
                except OSError as error:
                    if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                        raise  # else it has changed while we looked
    finally:
        for here, _, _ in held:
            os.close(here)


def _listing(fd: int, prefix: bytes) -> tuple[int, bytes, Iterator[bytes]]:
    try:
        # A directory's descriptor has one reading position: a copy that somebody read before would continue there.
        os.lseek(fd, 0, os.SEEK_SET)
        return fd, prefix, iter(sorted(map(os.fsencode, os.listdir(fd))))
    except BaseException:
        os.close(fd)
        raise


def usage(fd: int) -> Usage:
    """Measure the tree below a directory."""
    total, inodes = 0, 0
    linked: set[tuple[int, int]] = set()
    for _, _, _, status in walk(fd):
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            key = (status.st_dev, status.st_ino)
            if key in linked:
                continue
            linked.add(key)
        inodes += 1
        if stat.S_ISREG(status.st_mode):
            total += status.st_size
    return Usage(total, inodes)
