"""The volumes of pods: made before a pod's first container, kept up to date, taken away with the pod.

<data-dir>/pods/<uid>/volumes/kubernetes.io~<kind>/<name>
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from windlass.kernel import mounts
from windlass.kube.node.volumes import claims, emptydir, hostpath, projected
from windlass.kube.node.volumes.volume import Context, Find, Mounted, Object, Token, VolumeError

__all__ = ["Mounted", "VolumeError", "Volumes"]

_KINDS: Final[Mapping[str, tuple[str, Callable[[Context, Object], Awaitable[Mounted]]]]] = {
    "emptyDir": ("empty-dir", emptydir.mount),
    "hostPath": ("host-path", hostpath.mount),
    "configMap": ("configmap", projected.mount),
    "secret": ("secret", projected.mount),
    "downwardAPI": ("downward-api", projected.mount),
    "projected": ("projected", projected.mount),
    "persistentVolumeClaim": ("local-volume", claims.mount),
    "ephemeral": ("local-volume", claims.mount),
}


class Volumes:
    """All volumes of a node. `find` and `find_any` get the namespace of the pod first."""

    def __init__(
        self,
        root: Path,
        *,
        find: Callable[[str], Find],
        find_any: Find,
        token: Callable[[str], Token],
        allocatable: Callable[[], Mapping[str, str]],
    ) -> None:
        self._root = root
        self._find = find
        self._find_any = find_any
        self._token = token
        self._allocatable = allocatable

    def directory(self, uid: str) -> str:
        """Where all that belongs to a pod is."""
        return f"{self._root}/{uid}"

    async def mount(self, pod: Object) -> dict[str, Mounted]:
        """Make all volumes of a pod, or bring them up to date; by name.

        Raises:
            VolumeError: the first that cannot be made, in the words of upstream's event.
        """
        found = {}
        for volume in pod["spec"].get("volumes") or ():
            try:
                found[volume["name"]] = await self._mount(pod, volume)
            except VolumeError as error:
                name = volume["name"]
                raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from None
        return found

    async def _mount(self, pod: Object, volume: Object) -> Mounted:
        if "image" in volume:
            return Mounted(image=volume["image"].get("reference", ""), read_only=True)
        kind = next((each for each in volume if each != "name"), "emptyDir")
        if kind not in _KINDS:
            raise VolumeError(f"no volume plugin matched: volumes of kind {kind} are not supported")
        directory_name, mount = _KINDS[kind]
        context = self._context(
            pod, f"{self.directory(pod['metadata']['uid'])}/volumes", directory_name, volume["name"]
        )
        return await mount(context, {"emptyDir": {}, **volume} if kind == "emptyDir" else volume)

    def _context(self, pod: Object, root: str, kind: str, name: str) -> Context:
        namespace = pod["metadata"]["namespace"]
        parent = f"{root}/kubernetes.io~{kind}"
        os.makedirs(parent, mode=0o750, exist_ok=True)
        return Context(
            pod=pod,
            directory=f"{parent}/{name}",
            fs_group=(pod["spec"].get("securityContext") or {}).get("fsGroup"),
            allocatable=self._allocatable(),
            find=self._find(namespace),
            find_any=self._find_any,
            token=self._token(namespace),
        )

    def path_of_empty_dir(self, uid: str, name: str) -> str:
        """Where an emptyDir of a pod is."""
        return f"{self.directory(uid)}/volumes/kubernetes.io~{_KINDS['emptyDir'][0]}/{name}"

    async def remove_mounts(self, uid: str) -> None:
        """Unmount what a pod that is over had mounted; its files stay until it is removed. Raises OSError."""
        await asyncio.to_thread(_unmount_below, self.directory(uid))

    async def remove(self, uid: str) -> None:
        """Take away everything of a pod. Raises OSError."""
        await asyncio.to_thread(self._remove, self.directory(uid))

    def _remove(self, directory: str) -> None:
        if not os.path.isdir(directory):
            return
        _unmount_below(directory)
        shutil.rmtree(directory)

    def known(self) -> set[str]:
        """UIDs of pods of which something is on the disk. Blocking."""
        try:
            return {entry.name for entry in os.scandir(self._root) if entry.is_dir(follow_symlinks=False)}
        except FileNotFoundError:
            return set()


def _unmount_below(directory: str) -> None:
    for mount in reversed(mounts.mountinfo()):
        if mount.target.startswith(directory + "/"):
            mounts.unmount_all(mount.target)
