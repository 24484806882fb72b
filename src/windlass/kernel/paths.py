"""Paths inside a root, resolved by the kernel (openat2(2)), never by string.

A root is an open directory. A hostile tree may hold links that point anywhere and may change while we look at it; with
RESOLVE_IN_ROOT the kernel itself keeps every step below the root, as if after chroot(2), and magic links are refused.
Everything that is made is made relative to a descriptor that was opened this way.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Final

from windlass.kernel import syscalls
from windlass.kernel.syscalls import syscall

RESOLVE_NO_XDEV: Final = 1
RESOLVE_NO_MAGICLINKS: Final = 2
RESOLVE_NO_SYMLINKS: Final = 4
RESOLVE_BENEATH: Final = 8
RESOLVE_IN_ROOT: Final = 16

_RETRIES = 128
_MOST_LINKS = 40


def openat2(directory: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), always close-on-exec. Raises OSError naming `path`.

    The kernel says EAGAIN where a rename raced with a step to `..`; that is tried again a bounded number of times.
    """
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(_RETRIES):
        try:
            return syscall(syscalls.OPENAT2, directory, os.fsencode(path), how, len(how), name="open", path=path)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EINTR} or attempt == _RETRIES - 1:
                raise
    raise AssertionError("unreachable")


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as a process would that has `root` as its root directory; links are followed inside it."""
    return openat2(root, path or ".", flags, mode=mode, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` below `root` without following any link; `..` that leaves it and absolute paths are errors."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    return openat2(root, path or ".", flags, mode=mode, resolve=resolve)


def mkdir_all_in_root(root: int, path: str, mode: int = 0o755, *, owner: tuple[int, int] | None = None) -> int:
    """Make a directory and its missing parents inside the root; returns an O_PATH descriptor of it.

    A step that exists is followed by the kernel's rules, links included; what is missing is made beneath the directory
    that was reached, so nothing outside the root can be created. A dangling link is a missing directory: what it points
    to, inside the root, is made. Raises NotADirectoryError where a step is something else.
    """
    return _mkdir_all(root, path, mode, owner, _MOST_LINKS)


def _mkdir_all(root: int, path: str, mode: int, owner: tuple[int, int] | None, links: int) -> int:
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    if links == 0:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    steps = [step for step in path.split("/") if step not in {"", "."}]
    reached = ""
    for index, step in enumerate(steps):
        parent = open_in_root(root, reached or "/", os.O_PATH | os.O_DIRECTORY)
        try:
            if step == "..":
                continue
            try:
                os.mkdir(step, mode, dir_fd=parent)
            except FileExistsError:
                target = _dangling(parent, step)
                if target is not None:
                    start = target if target.startswith("/") else f"{reached}/{target}"
                    return _mkdir_all(root, "/".join([start, *steps[index + 1 :]]), mode, owner, links - 1)
            else:
                if owner:
                    os.chown(step, *owner, dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)
            reached = f"{reached}/{step}"
    return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)


def _dangling(directory: int, name: str) -> str | None:
    """Where a link points whose target is missing; None for anything else."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def create_file_in_root(root: int, path: str, mode: int = 0o644, *, owner: tuple[int, int] | None = None) -> int:
    """Make an empty file (and missing parents) where nothing is; returns an O_PATH descriptor of what stands there.

    What exists is left as it is, whatever it is, and opened after following links inside the root.
    """
    try:
        return open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        pass
    parent, name = split(path)
    directory = mkdir_all_in_root(root, parent, owner=owner) if parent else os.dup(root)
    try:
        try:
            made = os.open(
                name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory
            )
        except FileExistsError:
            target = os.readlink(name, dir_fd=directory)
            return create_file_in_root(
                root, target if target.startswith("/") else f"{parent}/{target}", mode, owner=owner
            )
        try:
            if owner:
                os.fchown(made, *owner)
        finally:
            os.close(made)
        return open_beneath(directory, name, os.O_PATH)
    finally:
        os.close(directory)


def split(path: str) -> tuple[str, str]:
    """The path of the directory, and the last step; slashes at the end do not count."""
    parent, _, name = path.rstrip("/").rpartition("/")
    return parent, name


def open_parent_in_root(root: int, path: str) -> tuple[int, str]:
    """A descriptor of the directory that holds `path`'s last step (links before it followed inside the root), and the
    step's name, itself not followed. For `/` the name is `.`. Raises OSError."""
    parent, name = split(path)
    if name in {"", ".", ".."}:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY), "."
    return open_in_root(root, parent, os.O_PATH | os.O_DIRECTORY), name


def stat_in_root(root: int, path: str, *, follow: bool = True) -> os.stat_result:
    """stat(2) or lstat(2) of a path inside the root."""
    if follow:
        found = open_in_root(root, path, os.O_PATH)
        try:
            return os.fstat(found)
        finally:
            os.close(found)
    directory, name = open_parent_in_root(root, path)
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    finally:
        os.close(directory)


def readlink_in_root(root: int, path: str) -> str:
    """The text of a symbolic link inside the root."""
    directory, name = open_parent_in_root(root, path)
    try:
        return os.readlink(name, dir_fd=directory)
    finally:
        os.close(directory)


def read_file_in_root(root: int, path: str, *, limit: int = 1 << 20) -> bytes:
    """The content of a regular file inside the root, at most `limit` bytes: a device or a pipe would block or run on.

    Raises OSError; EINVAL where it is not a regular file, EFBIG where it is larger.
    """
    descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        data = b""
        while chunk := file.read(limit + 1 - len(data)):
            data += chunk
            if len(data) > limit:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return data
