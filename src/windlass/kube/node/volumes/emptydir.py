"""emptyDir: a directory of the pod's own, on disk or in memory. https://kubernetes.io/docs/concepts/storage/volumes/#emptydir"""

from __future__ import annotations

import asyncio
import os

from windlass.kernel import mounts
from windlass.kernel.mounts import Mount
from windlass.kube.api import quantity
from windlass.kube.node.volumes import ownership
from windlass.kube.node.volumes.volume import EVERYBODY, Context, Mounted, Object, VolumeError


async def mount(context: Context, volume: Object) -> Mounted:
    """Make it, or find it again. Raises VolumeError."""
    return await asyncio.to_thread(_mount, context, volume["emptyDir"] or {})


def _mount(context: Context, source: Object) -> Mounted:
    directory = context.directory
    medium = source.get("medium") or ""
    if medium not in ("", "Memory"):
        raise VolumeError(f"unknown storage medium {medium!r}")
    try:
        if not os.path.isdir(directory):
            os.makedirs(directory, mode=EVERYBODY)
            os.chmod(directory, EVERYBODY)
        if medium == "Memory" and not os.path.ismount(directory):
            options = ["mode=1777"]
            if limit := source.get("sizeLimit"):
                options.append(f"size={quantity.parse(limit).value}")
            mounts.mount_all([Mount("tmpfs", "tmpfs", tuple(options))], directory)
            os.chmod(directory, EVERYBODY)
        if context.fs_group is not None:
            ownership.give(directory, context.fs_group, read_only=False)
    except OSError as error:
        raise VolumeError(str(error)) from error
    return Mounted(path=directory)
