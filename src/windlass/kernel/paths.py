"""Paths inside a root that may be hostile: resolved by the kernel, kept as descriptors.

A container's tree may hold any symbolic link, and another process may exchange directories while we look. So nothing
here joins strings: `openat2(2)` resolves a path with the root as `/` (RESOLVE_IN_ROOT), magic links of procfs never
count, and what was found is used by descriptor. Where something has to be made, `_walk` goes one component at a time,
each opened without following links below the directory held open, so that no exchange leads out of the root:

    root ──openat2(a, O_PATH|O_NOFOLLOW)──▶ a ──▶ b ── link to /x/y: start again at root with x, y ──▶ …
    missing: mkdirat below the directory reached; a link that points nowhere is followed to where it would point

All functions raise `OSError` with the path as it is inside the root.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Final

from windlass.kernel.syscalls import OPENAT2, attempt, call, text

# openat2(2), "resolve".
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

O_PATH: Final = os.O_PATH
_MOST_LINKS: Final = 40
"""As the kernel: more links than this in one path are a loop (path_resolution(7))."""
_MOST_RETRIES: Final = 1000
_PASSING: Final = frozenset({-errno.EAGAIN, -errno.EINTR})
"""A rename or mount somewhere while `..` was being resolved, a signal: to be tried again."""
_HOW: Final = struct.Struct("=QQQ")
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY


def openat2(directory: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), close-on-exec. EAGAIN (a rename somewhere at the wrong moment) is tried again."""
    how = _HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    encoded = text(path)
    for retry in range(_MOST_RETRIES):
        try:
            return call("openat2", OPENAT2, directory, encoded, how, len(how), about=path)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EINTR} or retry == _MOST_RETRIES - 1:
                raise
    raise AssertionError("unreachable")


def try_open_in_root(root: int, path: str, flags: int) -> int:
    """As `open_in_root`, but -1 if there is nothing at the path (ENOENT, ENOTDIR): without the price of an exception,
    for paths that are often missing."""
    how = _HOW.pack(flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    encoded = text(path.lstrip("/") or ".")
    for _ in range(_MOST_RETRIES):
        fd = attempt(OPENAT2, root, encoded, how, len(how))
        if fd not in _PASSING:
            break
    if fd < 0 and fd not in {-errno.ENOENT, -errno.ENOTDIR}:
        raise OSError(-fd, f"openat2: {os.strerror(-fd)}", path)
    return max(fd, -1)


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` with the directory `root` as `/`: links, also absolute ones, and `..` stay inside.

    Args:
        root: descriptor of the directory.
        path: absolute or relative; both begin at the root.
        flags: as for open(2); O_CLOEXEC is added. With O_CREAT, `mode`.

    Raises:
        OSError: as open(2); ELOOP also for a magic link of procfs.
    """
    relative = path.lstrip("/") or "."
    return openat2(root, relative, flags, mode=mode, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path below `directory`, without a symbolic link or a way up in it (for trees of our own, and procfs)."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    return openat2(directory, path.lstrip("/") or ".", flags, mode=mode, resolve=resolve)


def stat_in_root(root: int, path: str, *, follow: bool = True) -> os.stat_result:
    """stat(2), or lstat(2), of a path inside a root."""
    fd = open_in_root(root, path, O_PATH if follow else O_PATH | os.O_NOFOLLOW)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def readlink_in_root(root: int, path: str) -> str:
    """The target of the symbolic link at `path` (the directories before it are resolved inside the root)."""
    fd = open_in_root(root, path, O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)


def read_file_in_root(root: int, path: str, *, limit: int) -> bytes:
    """A regular file's contents. EISDIR or EINVAL if it is anything else, EFBIG if it has more than `limit` bytes."""
    fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
            raise OSError(code, "not a regular file", path)
        chunks, size = [], 0
        while chunk := os.read(fd, min(limit + 1, 1 << 20)):
            size += len(chunk)
            if size > limit:
                raise OSError(errno.EFBIG, f"more than {limit} bytes", path)
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def mkdir_all_in_root(root: int, path: str, mode: int = 0o755) -> int:
    """Make the directory `path` and those above it where they are missing; returns an O_PATH descriptor of it.

    ENOTDIR if something else is there.
    """
    fd = try_open_in_root(root, path, _DIRECTORY)
    if fd >= 0:
        return fd
    # Mostly, only the last one is missing.
    directory, _, name = path.rstrip("/").rpartition("/")
    if name not in {"", ".", ".."} and (parent := try_open_in_root(root, directory, _DIRECTORY)) >= 0:
        try:
            if attempt_mkdir(parent, name, mode):
                return openat2(parent, name, _DIRECTORY | os.O_NOFOLLOW, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        finally:
            os.close(parent)
    fd, missing = _walk(root, path)
    return _make_directories(fd, missing, mode, path)


def attempt_mkdir(directory: int, name: str, mode: int) -> bool:
    """mkdirat(2); False if something is there."""
    try:
        os.mkdir(name, mode, dir_fd=directory)
    except FileExistsError:
        return False
    return True


def create_file_in_root(root: int, path: str, mode: int = 0o644) -> int:
    """An O_PATH descriptor of what is at `path`; an empty file, with the directories above it, if nothing is.

    The descriptor may be of any kind of thing that was there already, but never of a symbolic link.
    """
    fd = try_open_in_root(root, path, O_PATH)
    if fd >= 0:
        return fd
    fd, missing = _walk(root, path)
    if not missing:
        return fd
    parent = _make_directories(fd, missing[:-1], 0o755, path)
    try:
        return _create_file(parent, missing[-1], mode, path)
    finally:
        os.close(parent)


def open_parent_in_root(root: int, path: str, mode: int = 0o755) -> tuple[int, str]:
    """The directory that holds (or would hold) `path`, made where missing, and the last component, not looked at.

    For making device nodes and symbolic links. EINVAL if the last component is `.`, `..` or nothing.
    """
    directory, _, name = path.rstrip("/").rpartition("/")
    if name in {"", ".", ".."}:
        raise OSError(errno.EINVAL, "the path has no last component", path)
    return mkdir_all_in_root(root, directory, mode), name


def reopen(fd: int, flags: int) -> int:
    """Open anew, with other flags, what an O_PATH descriptor stands for. Needs the host's procfs at /proc."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def _walk(root: int, path: str) -> tuple[int, list[str]]:
    """Go as far as directories exist: the deepest one (O_PATH), and the components after it, free of `.`, `..` and
    links. Without missing components, the descriptor is of the last one, whatever it is."""
    held = [os.dup(root)]
    left = _components(path)
    links = 0
    try:
        while left:
            name = left.pop()
            if name == "..":
                if len(held) > 1:
                    os.close(held.pop())
                continue
            try:
                fd = openat2(held[-1], name, O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
            except FileNotFoundError:
                missing = _lexical([name, *reversed(left)], path)
                return held.pop(), missing
            kind = os.fstat(fd).st_mode
            if stat.S_ISLNK(kind):
                links += 1
                target = _read_link(fd, links, path)
                if target.startswith("/"):
                    while len(held) > 1:
                        os.close(held.pop())
                left.extend(_components(target))
                continue
            held.append(fd)
            if left and not stat.S_ISDIR(kind):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return held.pop(), []
    finally:
        for fd in held:
            os.close(fd)


def _components(path: str) -> list[str]:
    """The components, last first."""
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]


def _lexical(names: list[str], path: str) -> list[str]:
    """Resolve `..` among components of which none exists; one that leads above them is refused, as by mkdir -p."""
    result: list[str] = []
    for name in names:
        if name != "..":
            result.append(name)
        elif not result:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        else:
            result.pop()
    return result


def _read_link(fd: int, links: int, path: str) -> str:
    try:
        target = os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return target


def _make_directories(fd: int, names: list[str], mode: int, path: str) -> int:
    """Make directories below `fd`, which is consumed, one inside the other. What another process put there in the
    meantime serves if it is a directory, not if it is a link."""
    for name in names:
        try:
            try:
                os.mkdir(name, mode, dir_fd=fd)
            except FileExistsError:
                pass
            below = openat2(fd, name, _DIRECTORY | os.O_NOFOLLOW, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), path) from None
        finally:
            os.close(fd)
        fd = below
    return _as_directory(fd, path)


def _as_directory(fd: int, path: str) -> int:
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return fd


def _create_file(parent: int, name: str, mode: int, path: str) -> int:
    try:
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            os.close(openat2(parent, name, flags, mode=mode, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS))
        except FileExistsError:
            pass
        return openat2(parent, name, O_PATH, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from None
