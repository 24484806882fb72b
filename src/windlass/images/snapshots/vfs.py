"""The vfs driver: every snapshot is a full copy. Slow and large, but it works on any file system."""

from __future__ import annotations

import os
from functools import partial

from windlass.images.archive.pack import pack_tree
from windlass.images.archive.unpack import Unpacking, unpack
from windlass.images.snapshots.directories import opened
from windlass.images.snapshots.whole import WholeTreeDriver


class VfsDriver(WholeTreeDriver):
    """See the module."""

    name = "vfs"

    def make(self, place: str, parent: str | None) -> None:
        """Copy by what copies trees exactly already: packing and unpacking, without a detour over the disk."""
        os.mkdir(place)
        os.chmod(place, 0o755)  # noqa: S103 - the users of a container may look into its root
        if parent is None:
            return
        with opened(parent) as source, opened(place) as target:
            unpack(partial(next, pack_tree(source, sparse=True), b""), target, Unpacking())
            status = os.fstat(source)
            os.fchown(target, status.st_uid, status.st_gid)
            os.fchmod(target, status.st_mode & 0o7777)
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
