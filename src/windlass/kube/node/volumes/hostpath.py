"""hostPath: something of the node. https://kubernetes.io/docs/concepts/storage/volumes/#hostpath"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable

from windlass.kube.node.volumes.volume import Context, Mounted, Object, VolumeError

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "FileOrCreate": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


async def mount(context: Context, volume: Object) -> Mounted:
    """Check that it is what it should be, and make it where that is asked. Raises VolumeError."""
    source = volume["hostPath"]
    path, kind = source["path"], source.get("type") or ""
    await asyncio.to_thread(_check, path, kind)
    return Mounted(path=path)


def _check(path: str, kind: str) -> None:
    try:
        if kind == "DirectoryOrCreate" and not os.path.lexists(path):
            os.makedirs(path, mode=0o755, exist_ok=True)
        elif kind == "FileOrCreate" and not os.path.lexists(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        if not kind:
            if not os.path.lexists(path):
                # As container engines always did for a missing source.
                os.makedirs(path, mode=0o755, exist_ok=True)
            return
        is_right, what = _CHECKS[kind]
        if not is_right(os.stat(path).st_mode):
            raise VolumeError(f"hostPath type check failed: {path} is not a {what}")
    except FileNotFoundError:
        raise VolumeError(f"hostPath type check failed: {path} is not a {_CHECKS[kind][1]}") from None
    except OSError as error:
        raise VolumeError(str(error)) from error
