"""Directories that an overlay's layer has only because something is in them.

A layer may bring `tmp/file` without an entry for `tmp`. Unpacked alone, it must have a directory `tmp`, and in an
overlay the topmost directory decides how it looks: mode 0755 instead of 1777. So those directories are noted beside the
layer and, when the layers below are there, made to look as theirs. Layers are named by everything below them
(chain IDs), so the result is the same for all images that have the layer.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

from windlass.kernel.paths import open_beneath

_NOTE: Final = "implied"
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_OPAQUE: Final = "trusted.overlay.opaque"


def note(place: str, directories: Sequence[bytes]) -> None:
    """Write down which directories (paths; empty for the root) of the layer at `place` are implied."""
    if directories:
        with open(f"{place}/{_NOTE}", "wb") as file:
            file.write(b"\0".join(directories) + b"\0")


def settle(place: str, lower: Sequence[str]) -> None:
    """Let the implied directories of the layer at `place` look as in the layers `lower` (topmost first)."""
    try:
        with open(f"{place}/{_NOTE}", "rb") as file:
            directories = file.read().split(b"\0")[:-1]
    except FileNotFoundError:
        return
    for path in directories:
        _adopt(f"{place}/fs", path, lower)
    os.unlink(f"{place}/{_NOTE}")


def _adopt(files: str, path: bytes, lower: Sequence[str]) -> None:
    fd = _open(files, path)
    if fd is None:
        return
    try:
        for layer in lower:
            model = _open(layer, path)
            if model is not None:
                try:
                    _copy(model, fd)
                finally:
                    os.close(model)
                return
            if _hides(layer, path):
                return
    finally:
        os.close(fd)


def _open(root: str, path: bytes) -> int | None:
    """A descriptor of a directory of a layer, None if the layer has none there."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(top, os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    finally:
        os.close(top)


def _hides(root: str, path: bytes) -> bool:
    """Whether a layer has something at `path` or above it that hides what the layers below have there."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while path:
            try:
                fd = open_beneath(top, os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
            else:
                try:
                    return not stat.S_ISDIR(os.fstat(fd).st_mode) or _is_opaque(fd)
                finally:
                    os.close(fd)
            path = path.rpartition(b"/")[0]
        return False
    finally:
        os.close(top)


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", _OPAQUE) == b"y"
    except OSError:
        return False


def _copy(model: int, fd: int) -> None:
    """Owner, mode, attributes and time."""
    status = os.fstat(model)
    os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(model):
        if not name.startswith("trusted.overlay."):
            os.setxattr(fd, name, os.getxattr(model, name))
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
