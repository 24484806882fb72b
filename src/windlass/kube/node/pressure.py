"""Looks after what the node has: frees images and ended containers, says when it is short of something, evicts pods.

    every 10 s    measure ─ limits of pods' own disks ─ thresholds ─ conditions ─ free what is unused ─ evict one pod
    every 5 min   images, if their disk is too full

One pod at a time: after each, it is measured again whether that was enough.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from windlass.kube.node import eviction, thresholds
from windlass.kube.node.events import NORMAL, WARNING
from windlass.kube.node.eviction import DISK, PodUse
from windlass.kube.node.imagegc import ImageCollector
from windlass.kube.node.measures import Measures
from windlass.kube.node.pods import Pods
from windlass.kube.node.registration import Registration
from windlass.kube.node.rooms import Rooms
from windlass.kube.node.thresholds import SIGNALS, Conditions, Observation, Threshold

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")

_MONITOR_SECONDS: Final = 10.0
_COLLECT_SECONDS: Final = 300.0
_CLEANUP_SECONDS: Final = 30.0
_MESSAGES: Final = {
    thresholds.MEMORY_PRESSURE: "kubelet has insufficient memory available",
    thresholds.DISK_PRESSURE: "kubelet has disk pressure",
    thresholds.PID_PRESSURE: "kubelet has insufficient PID available",
}
_EVENTS: Final = {
    thresholds.MEMORY_PRESSURE: ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    thresholds.DISK_PRESSURE: ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    thresholds.PID_PRESSURE: ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
}
_FREED_BY_IMAGES: Final = (DISK, "inodes")


class Pressure:
    """One node's."""

    def __init__(
        self, rooms: Rooms, pods: Pods, registration: Registration, measures: Measures, images: ImageCollector
    ) -> None:
        self._rooms = rooms
        self._pods = pods
        self._registration = registration
        self._measures = measures
        self._images = images
        self._conditions = Conditions()

    async def monitor(self) -> None:
        """Evict where that is needed, for ever."""
        while True:
            try:
                evicted = await self.synchronize()
            except Exception as error:
                log.error("the node cannot be measured: %s", error, exc_info=not isinstance(error, OSError))
                evicted = []
            if evicted:
                await self._until_clean(evicted)
            else:
                await asyncio.sleep(_MONITOR_SECONDS)

    async def collect(self) -> None:
        """Remove images where their disk is too full, for ever."""
        while True:
            # Not at the start: what pods need is being found out.
            self._images.look()
            await asyncio.sleep(_COLLECT_SECONDS)
            try:
                wanted, freed = await self._images.collect(await self._measures.images_disk())
            except Exception as error:
                log.error("images cannot be collected: %s", error)
                continue
            if freed < wanted:
                self._tell_node(
                    WARNING,
                    "FreeDiskSpaceFailed",
                    "Failed to garbage collect required amount of images. "
                    f"Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free.",
                )

    async def synchronize(self) -> list[str]:
        """One look; the UIDs of pods that have to go."""
        observed = await self._measures.node()
        crossed = thresholds.met(self._rooms.settings.eviction, observed)
        self._set_conditions(self._conditions.update(crossed, time.monotonic()))
        if evicted := await self._enforce_limits():
            return evicted
        if not crossed:
            return []
        first = crossed[0]
        resource = SIGNALS[first.signal].resource
        self._tell_node(WARNING, "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if resource in _FREED_BY_IMAGES:
            await self._free_unused()
            observed = await self._measures.node()
            if not thresholds.met(self._rooms.settings.eviction, observed):
                return []
        return await self._evict_one(first, observed)

    def _set_conditions(self, kinds: Sequence[str]) -> None:
        for kind in sorted({*kinds} ^ {*self._rooms.conditions}):
            event = _EVENTS[kind][0 if kind in kinds else 1]
            self._tell_node(NORMAL, event, f"Node {self._rooms.settings.name} status is now: {event}")
        self._rooms.conditions[:] = kinds
        self._registration.set_pressure({kind: _MESSAGES[kind] for kind in kinds})

    async def _enforce_limits(self) -> list[str]:
        """Evict pods that have more on the disk than they may."""
        bounded = [pod for pod in self._active() if eviction.has_limits(pod)]
        uses = await self._measures.pods(bounded, disk=True)
        evicted = []
        for pod in bounded:
            message = eviction.beyond_limits(pod, uses[pod["metadata"]["uid"]])
            if message and self._evict(pod, message, disruption=False):
                evicted.append(pod["metadata"]["uid"])
        return evicted

    def _active(self) -> list[Object]:
        return [pod for pod in self._pods.active() if not eviction.is_critical(pod)]

    async def _free_unused(self) -> None:
        """Ended containers whose pods still run, and images that nothing uses."""
        for worker in self._pods:
            await self._rooms.runtime.remove_ended(worker.uid)
        await self._images.remove_unused()

    async def _evict_one(self, crossed: Threshold, observed: Mapping[str, Observation]) -> list[str]:
        resource = SIGNALS[crossed.signal].resource
        pods = self._active()
        uses = await self._measures.pods(pods, disk=resource in _FREED_BY_IMAGES)
        for pod in eviction.rank(pods, uses, resource):
            uid = pod["metadata"]["uid"]
            use = uses.get(uid, PodUse())
            message = eviction.message(pod, use, resource, crossed, observed.get(crossed.signal))
            if self._evict(pod, message, disruption=True):
                return [uid]
        log.error("no pod can be evicted to get %s back", resource)
        return []

    def _evict(self, pod: Object, message: str, *, disruption: bool) -> bool:
        worker = self._pods.get(pod["metadata"]["uid"])
        if worker is None or not worker.evict(eviction.REASON, message, disruption=disruption):
            return False
        self._rooms.recorder.event(pod, WARNING, eviction.REASON, message)
        return True

    async def _until_clean(self, uids: Sequence[str]) -> None:
        workers = [worker for uid in uids if (worker := self._pods.get(uid)) is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLEANUP_SECONDS):
                await asyncio.gather(*(worker.over.wait() for worker in workers))

    def _tell_node(self, kind: str, reason: str, message: str) -> None:
        node = self._rooms.node()
        if node is not None:
            self._rooms.recorder.event(node, kind, reason, message)
