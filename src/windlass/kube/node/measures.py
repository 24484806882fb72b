"""What is left of the machine, and what pods use of it.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

from windlass.errors import WindlassError
from windlass.kernel.cgroups import CgroupStats
from windlass.kube.node import thresholds
from windlass.kube.node.eviction import ContainerUse, PodUse
from windlass.kube.node.podcgroups import PodCgroups
from windlass.kube.node.runtime import PodRuntime
from windlass.kube.node.thresholds import Observation
from windlass.kube.node.volumes import Volumes
from windlass.volumes.trees import disk_usage

Object = dict[str, Any]


class Measures:
    """Measures a node. `data` is where pods' files are, `images` where those of images and containers are."""

    def __init__(self, data: str, images: str, runtime: PodRuntime, cgroups: PodCgroups, volumes: Volumes) -> None:
        self._data, self._images = data, images
        self._runtime = runtime
        self._cgroups = cgroups
        self._volumes = volumes

    async def node(self) -> dict[str, Observation]:
        """By signal. Raises OSError."""
        return await asyncio.to_thread(self._node)

    def _node(self) -> dict[str, Observation]:
        data, images = os.statvfs(self._data), os.statvfs(self._images)
        found = {
            thresholds.MEMORY: memory(_read("/proc/meminfo")),
            thresholds.NODE_DISK: _bytes(data),
            thresholds.NODE_INODES: Observation(data.f_files, data.f_ffree),
            thresholds.IMAGE_DISK: _bytes(images),
            thresholds.IMAGE_INODES: Observation(images.f_files, images.f_ffree),
        }
        most = min(int(_read("/proc/sys/kernel/pid_max")), int(_read("/proc/sys/kernel/threads-max")))
        found[thresholds.PIDS] = Observation(most, most - int(_read("/proc/loadavg").split()[3].partition("/")[2]))
        # A file system that makes inodes as it needs them counts none.
        return {signal: each for signal, each in found.items() if each.capacity > 0}

    async def images_disk(self) -> Observation:
        """The file system of images. Raises OSError."""
        return _bytes(await asyncio.to_thread(os.statvfs, self._images))

    async def pods(self, pods: Iterable[Object], *, disk: bool) -> dict[str, PodUse]:
        """What pods use, by UID; what they have on disks only if `disk`."""
        return {pod["metadata"]["uid"]: await self._pod(pod, disk=disk) for pod in pods}

    async def _pod(self, pod: Object, *, disk: bool) -> PodUse:
        uid = pod["metadata"]["uid"]
        stats = await asyncio.to_thread(self._cgroups.stats, uid)
        containers: dict[str, ContainerUse] = {}
        for each in self._runtime.containers(uid):
            try:
                used = working_set(self._runtime.stats(each.id)) if each.running else 0
                # What an attempt before this one wrote is on the disk, too.
                before = containers.get(each.name, ContainerUse())
                written = before.disk + (await self._runtime.disk_usage(each.id) if disk else 0)
            except (WindlassError, OSError):
                continue  # it ends just now
            containers[each.name] = ContainerUse(memory=used, disk=written)
        volumes: dict[str, int] = {}
        in_memory: set[str] = set()
        inodes = 0
        if disk:
            for volume in pod["spec"].get("volumes") or ():
                if "emptyDir" not in volume:
                    continue
                path = self._volumes.path_of_empty_dir(uid, volume["name"])
                try:
                    volumes[volume["name"]] = await asyncio.to_thread(disk_usage, path)
                    inodes += await asyncio.to_thread(_count, path)
                except OSError:
                    continue
                if (volume["emptyDir"] or {}).get("medium") == "Memory":
                    in_memory.add(volume["name"])
        return PodUse(
            memory=working_set(stats),
            inodes=inodes,
            processes=stats.pids.current,
            containers=containers,
            volumes=volumes,
            in_memory=frozenset(in_memory),
        )


def working_set(stats: CgroupStats) -> int:
    """The memory that cannot be given back at once. Pure."""
    kept = stats.memory.stat
    free = kept.get("total_inactive_file", kept.get("inactive_file", 0))
    return max(stats.memory.usage - free, 0)


def memory(meminfo: str) -> Observation:
    """The machine's memory and what of it is not the working set of its processes. Pure."""
    found = {}
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) << 10
    used = found["AnonPages"] + found["Cached"] + found["Buffers"] - found["Inactive(file)"]
    return Observation(found["MemTotal"], found["MemTotal"] - max(used, 0))


def _bytes(space: os.statvfs_result) -> Observation:
    return Observation(space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize)


def _count(path: str) -> int:
    return sum(len(directories) + len(files) for _, directories, files in os.walk(path))


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
