"""Finding an image's passwd and group files for `users.resolve`, safely and without waiting.

Before a start, the files of a container that never wrote to its /etc are those of its image, which are kept; else its
snapshot is mounted for a moment. In a running container they are read below its root, by a thread: what is mounted
there may be slow.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from windlass.engine.rootfs import open_running, open_snapshot
from windlass.engine.users import AccountFiles
from windlass.kernel.mounts import Mount
from windlass.kernel.paths import read_file_in_root

PASSWD: Final = "/etc/passwd"  # noqa: S105 - a path
GROUP: Final = "/etc/group"
_LIMIT: Final = 8 << 20
_KEPT: Final = 64
_ABSENT: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.EFBIG, errno.ENXIO, errno.EACCES}
)


def _read(root: int, path: str) -> bytes:
    try:
        return read_file_in_root(root, path, limit=_LIMIT)
    except OSError as error:
        if error.errno in _ABSENT:
            return b""
        raise


def read_files(root: int) -> AccountFiles:
    """The files below a root. Blocking."""
    return AccountFiles(_read(root, PASSWD), _read(root, GROUP))


def _untouched(layers: Sequence[Mount]) -> bool:
    """Whether a container has written nothing to its /etc: its overlay's upper directory has none."""
    if len(layers) != 1 or layers[0].type != "overlay":
        return False
    upper = next((option[9:] for option in layers[0].options if option.startswith("upperdir=")), None)
    return upper is not None and not os.path.lexists(f"{upper}/etc")


class AccountReader:
    """Reads the files, and keeps those of the images in use."""

    def __init__(self) -> None:
        self._of_images: OrderedDict[str, AccountFiles] = OrderedDict()

    async def of_snapshot(self, image_id: str, layers: Sequence[Mount]) -> AccountFiles:
        """The files of a container that does not run."""
        untouched = _untouched(layers)
        if untouched and (known := self._of_images.get(image_id)) is not None:
            self._of_images.move_to_end(image_id)
            return known
        files = await asyncio.to_thread(self._read_snapshot, layers)
        if untouched:
            self._of_images[image_id] = files
            while len(self._of_images) > _KEPT:
                self._of_images.popitem(last=False)
        return files

    @staticmethod
    def _read_snapshot(layers: Sequence[Mount]) -> AccountFiles:
        with open_snapshot(layers) as view:
            return read_files(view.root)

    async def of_running(self, pid: int) -> AccountFiles:
        """The files of a running container. Raises `Conflict` if it has ended."""
        return await asyncio.to_thread(self._read_running, pid)

    @staticmethod
    def _read_running(pid: int) -> AccountFiles:
        with open_running(pid) as view:
            return read_files(view.root)
