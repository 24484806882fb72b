"""What is different between two trees: the list of `docker diff`, and the layer of `commit`.

One rule for all drivers, dockerd's own (its "naive" comparison): a file is modified when its type, mode, owner, device
number, link target, capability, size or time differ; a directory, when its mode or owner or anything in it does. An
overlay is faster, because what was written stands apart, but must not give another answer: there, only what the upper
directory has is looked at, and a name that stands there unchanged (copied up, and nothing more) is no change.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

from windlass.images import trees
from windlass.images.archive.pack import Packer
from windlass.images.archive.unpack import WHITEOUT
from windlass.images.snapshots.driver import Change, ChangeKind
from windlass.kernel.paths import open_beneath

_OPAQUE: Final = ("trusted.overlay.opaque", "user.fuseoverlayfs.opaque")
_CAPABILITY: Final = "security.capability"
_DEEPEST: Final = 2048
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""A container that runs may remove, while we look, what has changed."""


def of_trees(new: int, old: int) -> list[Change]:
    """Compare the trees below two directories."""
    return _with_parents(_walk(new, old, overlay=False))


def of_overlay(upper: int, lower: int) -> list[Change]:
    """What an overlay's upper directory changes on the tree `lower`."""
    return _with_parents(_walk(upper, lower, overlay=True))


def pack_changes(tree: int, changes: list[Change]) -> Iterator[bytes]:
    """The layer of some changes, with the files of the tree that has them."""
    packer = Packer(sparse=True)
    for path, kind in changes:
        if kind is ChangeKind.DELETED:
            yield from packer.whiteout(path)
            continue
        above, _, name = path.rpartition(b"/")
        try:
            parent = open_beneath(tree, os.fsdecode(above), os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in _GONE:
                continue
            raise
        try:
            if (status := _stat(parent, name)) is not None:
                yield from packer.thing(parent, name, path, status)
        finally:
            os.close(parent)
    yield from packer.end()


def size_of_changes(tree: int, changes: list[Change]) -> trees.Usage:
    """What the changed files of a tree take."""
    total = count = 0
    for path, kind in changes:
        if kind is ChangeKind.DELETED:
            continue
        try:
            fd = open_beneath(tree, os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in _GONE:
                continue
            raise
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        count += 1
        total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return trees.Usage(total, count)


def _with_parents(found: Iterator[Change]) -> list[Change]:
    changes = dict(found)
    for path in list(changes):
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            if path in changes:
                break
            changes[path] = ChangeKind.MODIFIED
    return [Change(path, kind) for path, kind in sorted(changes.items())]


class _Pair:
    """A directory of the new tree beside that of the old one (-1: there is none), and what is still to be compared."""

    def __init__(self, new: int, old: int, prefix: bytes, *, overlay: bool) -> None:
        self.new = new
        self.old = old
        self.prefix = prefix
        # Below an opaque directory nothing is merged any more: what is there is all there is.
        self.overlay = overlay and old >= 0 and not _is_opaque(new)
        names = _names(new)
        if not self.overlay and old >= 0:
            names |= _names(old)
        self.left = sorted(names, reverse=True)

    def close(self) -> None:
        os.close(self.new)
        if self.old >= 0:
            os.close(self.old)


def _walk(new: int, old: int, *, overlay: bool) -> Iterator[Change]:
    held = [_Pair(os.dup(new), os.dup(old) if old >= 0 else -1, b"", overlay=overlay)]
    try:
        while held:
            pair = held[-1]
            if not pair.left:
                held.pop().close()
                continue
            name = pair.left.pop()
            path = pair.prefix + name
            after, before = _stat(pair.new, name, whiteouts=overlay), _stat(pair.old, name)
            if after is None and before is None:
                continue
            if after is None:
                yield Change(path, ChangeKind.DELETED)
                continue
            if before is None:
                yield Change(path, ChangeKind.ADDED)
            elif _differs(pair, name, after, before):
                yield Change(path, ChangeKind.MODIFIED)
            if stat.S_ISDIR(after.st_mode):
                if len(held) > _DEEPEST:
                    raise OSError(errno.ELOOP, "directories nested too deeply", os.fsdecode(path[:200]))
                below = os.open(name, trees.DIRECTORY, dir_fd=pair.new)
                was_directory = before is not None and stat.S_ISDIR(before.st_mode)
                beside = os.open(name, trees.DIRECTORY, dir_fd=pair.old) if was_directory else -1
                held.append(_Pair(below, beside, path + b"/", overlay=pair.overlay))
    finally:
        for pair in held:
            pair.close()


def _names(fd: int) -> set[bytes]:
    os.lseek(fd, 0, os.SEEK_SET)
    return {os.fsencode(name) for name in os.listdir(fd)}


def _stat(fd: int, name: bytes, *, whiteouts: bool = False) -> os.stat_result | None:
    """The status of what is there; None for nothing, or for an overlay's mark that says so."""
    if fd < 0:
        return None
    if whiteouts and name.startswith(WHITEOUT):
        return None  # fuse-overlayfs marks opaque directories with a file, too
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if whiteouts and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return None
    return status


def _differs(pair: _Pair, name: bytes, after: os.stat_result, before: os.stat_result) -> bool:
    if (after.st_mode, after.st_uid, after.st_gid, after.st_rdev) != (
        before.st_mode,
        before.st_uid,
        before.st_gid,
        before.st_rdev,
    ):
        return True
    if stat.S_ISDIR(after.st_mode):
        return False
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        return True
    if stat.S_ISLNK(after.st_mode):
        return os.readlink(name, dir_fd=pair.new) != os.readlink(name, dir_fd=pair.old)
    return _capability(pair.new, name) != _capability(pair.old, name)


def _capability(directory: int, name: bytes) -> bytes | None:
    try:
        return os.getxattr(f"/proc/self/fd/{directory}/".encode() + name, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return None


def _is_opaque(fd: int) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(fd, name) == b"y":
                return True
        except OSError:
            continue
    return False
