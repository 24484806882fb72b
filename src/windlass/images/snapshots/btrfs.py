"""The btrfs driver: every snapshot is a subvolume, made in no time whatever its size.

The file system's own calls (linux/btrfs.h) are ioctls on a directory, with the name of the subvolume in their argument:

    struct btrfs_ioctl_vol_args     { s64 fd; char name[4088] }                                  create, destroy
    struct btrfs_ioctl_vol_args_v2  { s64 fd; u64 transid; u64 flags; u64 unused[4]; char name[4040] }  snapshot
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Final

from windlass.images import trees
from windlass.images.snapshots.directories import opened
from windlass.images.snapshots.whole import WholeTreeDriver

_ARGUMENTS: Final = struct.Struct("=q4088s")
_ARGUMENTS_V2: Final = struct.Struct("=qQQ32x4040s")


def _write_request(number: int, size: int) -> int:
    """_IOW of the btrfs family (asm-generic/ioctl.h)."""
    return 1 << 30 | size << 16 | 0x94 << 8 | number


_CREATE: Final = _write_request(14, _ARGUMENTS.size)
_DESTROY: Final = _write_request(15, _ARGUMENTS.size)
_SNAPSHOT: Final = _write_request(23, _ARGUMENTS_V2.size)


class BtrfsDriver(WholeTreeDriver):
    """See the module."""

    name = "btrfs"

    def probe(self) -> None:
        """Make a subvolume and destroy it. ENOTTY on other file systems."""
        place = f"{self.root}/probe"
        _destroy_subvolume(place)
        self.make(place, None)
        _destroy_subvolume(place)

    def make(self, place: str, parent: str | None) -> None:
        """A subvolume, or a snapshot of one."""
        directory, _, name = place.rpartition("/")
        with opened(directory) as above:
            if parent is None:
                _call(above, _CREATE, _ARGUMENTS.pack(0, name.encode()))
                os.chmod(place, 0o755)  # noqa: S103 - the users of a container may look into its root
                return
            with opened(parent) as source:
                _call(above, _SNAPSHOT, _ARGUMENTS_V2.pack(source, 0, 0, name.encode()))

    def destroy(self, place: str) -> None:
        """The subvolume, then the directory that holds it."""
        _destroy_subvolume(f"{place}/fs")
        trees.remove(place)


def _call(fd: int, request: int, arguments: bytes) -> None:
    fcntl.ioctl(fd, request, bytearray(arguments))  # `bytes` may have 1024 bytes at most here


def _destroy_subvolume(place: str) -> None:
    directory, _, name = place.rpartition("/")
    try:
        with opened(directory) as above:
            _call(above, _DESTROY, _ARGUMENTS.pack(0, name.encode()))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return
        if error.errno not in {errno.ENOTEMPTY, errno.ENOTDIR, errno.EINVAL}:
            raise
        # The container has made subvolumes of its own in it. Empty ones are removed like directories.
        trees.remove(place)
