"""Directories of volumes of the default storage class: removed when their volume has been deleted while we watched.

A volume that went while nobody watched leaves its directory: data are never removed by a guess.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any, Final

from windlass.kube.client import SharedCache

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")

PROVISIONER: Final = "windlass.dev/local-path"
# Annotations: of volumes who made them and for which node, of nodes where their volumes' directories are.
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
NODE: Final = "windlass.dev/node"
STORAGE_PATH: Final = "windlass.dev/storage-path"


class LocalStorage:
    """`start`, then `stop`. `root` is the directory that has the volumes' directories."""

    def __init__(self, cache: SharedCache, node: str, root: Path) -> None:
        self._cache = cache
        self._node = node
        self._root = root
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Watch volumes from now on."""
        self._cache.subscribe("", "persistentvolumes", self._changed)

    async def stop(self) -> None:
        """Watch no longer; what is being removed is removed."""
        self._cache.unsubscribe("", "persistentvolumes", self._changed)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _changed(self, event: str, volume: Object) -> None:
        metadata, spec = volume["metadata"], volume["spec"]
        annotations = metadata.get("annotations") or {}
        if (
            event != "DELETED"
            or annotations.get(PROVISIONED_BY) != PROVISIONER
            or annotations.get(NODE) != self._node
            or spec.get("persistentVolumeReclaimPolicy") != "Delete"
        ):
            return
        path = Path((spec.get("hostPath") or {}).get("path", ""))
        # Only what stands right below our own directory and has the volume's name can be ours.
        if path.parent != self._root or not path.name.startswith(metadata["name"]) or path.is_symlink():
            return
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(_remove, path))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("the directory of a deleted volume cannot be removed: %s", error)
