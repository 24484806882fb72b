"""A control group for each pod, below one for each quality of service, as people know them from /sys/fs/cgroup.

    <parent>/kubepods/pod<uid>                Guaranteed
    <parent>/kubepods/burstable/pod<uid>      Burstable
    <parent>/kubepods/besteffort/pod<uid>     BestEffort

Source: https://kubernetes.io/docs/concepts/architecture/cgroups/
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from windlass.kernel import cgroups
from windlass.kernel.cgroups import CgroupStats, Hierarchy
from windlass.kube.node import resources
from windlass.kube.node.resources import PERIOD_MICROSECONDS, Limits

Object = dict[str, Any]
_CLASSES = {resources.GUARANTEED: "", resources.BURSTABLE: "/burstable", resources.BEST_EFFORT: "/besteffort"}


class PodCgroups:
    """The groups below one parent."""

    def __init__(self, parent: str, hierarchy: Hierarchy) -> None:
        self._top = f"{parent.rstrip('/')}/kubepods"
        self._hierarchy = hierarchy

    def path(self, uid: str, qos: str) -> str:
        """A pod's group: the parent of its containers' groups."""
        return f"{self._top}{_CLASSES[qos]}/pod{uid}"

    async def ensure(self, pod: Object, qos: str) -> str:
        """Make a pod's group with its limits; its path. Raises OSError."""
        path = self.path(pod["metadata"]["uid"], qos)
        await asyncio.to_thread(self._ensure, path, resources.pod_limits(pod["spec"]))
        return path

    async def apply(self, path: str, limits: Limits) -> None:
        """Give a pod's group other limits. Raises OSError."""
        await asyncio.to_thread(self._ensure, path, limits)

    def _ensure(self, path: str, limits: Limits) -> None:
        group = cgroups.open_cgroup(path, self._hierarchy)
        if not group.exists():
            group.create()
        wanted: Object = {"cpu": {"shares": limits.shares, "quota": limits.quota, "period": PERIOD_MICROSECONDS}}
        if limits.memory:
            wanted["memory"] = {"limit": limits.memory}
        group.apply(wanted)

    def stats(self, uid: str) -> CgroupStats:
        """What a pod uses, all its containers together. Blocking, briefly. Raises OSError."""
        for qos in _CLASSES:
            group = cgroups.open_cgroup(self.path(uid, qos), self._hierarchy)
            if group.exists():
                return group.stats()
        return CgroupStats()

    async def remove(self, uid: str) -> None:
        """Remove a pod's group, whatever its class was."""
        await asyncio.to_thread(self._remove, uid)

    def _remove(self, uid: str) -> None:
        for qos in _CLASSES:
            group = cgroups.open_cgroup(self.path(uid, qos), self._hierarchy)
            if group.exists():
                with contextlib.suppress(OSError):
                    group.kill()
                group.remove()

    def known(self) -> set[str]:
        """UIDs of pods that have a group. Blocking."""
        found = set()
        for place in _CLASSES.values():
            for directory in set(cgroups.open_cgroup(f"{self._top}{place}", self._hierarchy).paths.values()):
                with contextlib.suppress(FileNotFoundError):
                    found |= {name[3:] for name in os.listdir(directory) if name.startswith("pod")}
        return found

    def discard(self) -> None:
        """Remove what is empty of the groups above pods. Blocking."""
        for place in ("/burstable", "/besteffort", ""):
            with contextlib.suppress(OSError):
                cgroups.open_cgroup(f"{self._top}{place}", self._hierarchy).discard()
