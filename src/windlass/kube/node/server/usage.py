"""What containers use, measured now and then: a rate needs two measures.

    every ten seconds, and when somebody asks for what is in none yet
    rate = processor time between the last two measures / time between them

What has just begun is measured from its start; what ran before we did has a rate after a second.

Source: https://kubernetes.io/docs/reference/instrumentation/node-metrics/
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from windlass.errors import WindlassError
from windlass.kernel.cgroups import CgroupStats
from windlass.kube.node.measures import Measures, working_set
from windlass.kube.node.runtime import Found
from windlass.kube.node.server.pods import PodFinder
from windlass.kube.node.thresholds import MEMORY

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")

_SECOND: Final = 10**9
_PERIOD_SECONDS: Final = 10.0
_SOON_SECONDS: Final = 1.0
_OLD_SECONDS: Final = 20.0
_YOUNG: Final = 60 * _SECOND
_SHORTEST: Final = _SECOND // 4  # nanoseconds between two measures that say something of a rate


@dataclass(frozen=True, slots=True)
class Use:
    """One measure. `time` is nanoseconds since 1970, `cpu` processor time since the start, `rate` in nanocores.

    `window`: the nanoseconds that the rate is of, 0 where none is known yet.
    """

    time: int
    cpu: int
    rate: int
    window: int
    working_set: int
    memory: int
    rss: int
    cache: int
    faults: int
    major_faults: int
    stats: CgroupStats


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """A running container and its use."""

    found: Found
    use: Use


@dataclass(frozen=True, slots=True)
class PodUse:
    """A pod's: its own group's, and its containers'."""

    pod: Object
    use: Use
    containers: tuple[ContainerUse, ...]


class Usage:
    """Measures the node. `keep` does it as long as it runs."""

    def __init__(
        self,
        finder: PodFinder,
        measures: Measures,
        group_of: Callable[[str], CgroupStats],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._finder = finder
        self._measures = measures
        self._group_of = group_of
        self._clock = clock
        self._known: dict[str, Use] = {}
        self._pods: tuple[PodUse, ...] = ()
        self._node: Use | None = None
        self.capacity = 0  # bytes of memory
        self.free = 0
        self._measured = 0
        self._lock = asyncio.Lock()

    async def keep(self) -> None:
        """Measure for ever."""
        while True:
            try:
                await self._measure()
            except (OSError, WindlassError) as error:
                log.warning("what pods use cannot be measured: %s", error)
            await asyncio.sleep(_PERIOD_SECONDS if all(use.window for use in self._known.values()) else _SOON_SECONDS)

    async def pods(self) -> tuple[PodUse, ...]:
        """The last measure of each pod that runs. Raises OSError."""
        await self._refresh()
        return self._pods

    async def node(self) -> Use:
        """The last measure of the whole machine. Raises OSError."""
        await self._refresh()
        assert self._node is not None
        return self._node

    async def _refresh(self) -> None:
        """Measure where the last measure is old, or a pod that runs is in none."""
        known = {each.pod["metadata"]["uid"] for each in self._pods}
        is_old = self._clock() - self._measured > _OLD_SECONDS * _SECOND
        if is_old or any(uid not in known for uid, _ in self._running()):
            await self._measure()

    def _running(self) -> Iterator[tuple[str, list[Found]]]:
        for pod in self._finder.all():
            uid = pod["metadata"]["uid"]
            running = [each for each in self._finder.runtime.containers(uid) if each.running]
            if running:
                yield uid, running

    async def _measure(self) -> None:
        async with self._lock:
            running = dict(self._running())
            pods = {pod["metadata"]["uid"]: pod for pod in self._finder.all()}
            found = await asyncio.to_thread(self._read, running)
            self._pods = tuple(
                PodUse(pods[uid], own, containers) for uid, (own, containers) in found.items() if uid in pods
            )
            observed = (await self._measures.node())[MEMORY]
            self.capacity, self.free = observed.capacity, observed.available
            self._node = await asyncio.to_thread(self._read_node)
            self._measured = self._clock()
            alive = {"", *found, *(each.id for every in running.values() for each in every)}
            self._known = {key: use for key, use in self._known.items() if key in alive}

    def _read(self, running: dict[str, list[Found]]) -> dict[str, tuple[Use, tuple[ContainerUse, ...]]]:
        result = {}
        for uid, containers in running.items():
            measured = []
            for each in containers:
                # One that ends just now has no group any more.
                with contextlib.suppress(OSError, WindlassError):
                    stats = self._finder.runtime.stats(each.id)
                    measured.append(ContainerUse(each, self._use(each.id, stats, each.started_at)))
            if measured:
                started = min(each.found.started_at for each in measured)
                result[uid] = self._use(uid, self._group_of(uid), started), tuple(measured)
        return result

    def _use(self, key: str, stats: CgroupStats, started_at: int) -> Use:
        kept = stats.memory.stat
        found = self._rate(
            key,
            stats.cpu.total_ns,
            started_at,
            Use(
                time=self._clock(),
                cpu=stats.cpu.total_ns,
                rate=0,
                window=0,
                working_set=working_set(stats),
                memory=stats.memory.usage,
                rss=kept.get("total_rss", kept.get("anon", 0)),
                cache=kept.get("total_cache", kept.get("file", 0)),
                faults=kept.get("total_pgfault", kept.get("pgfault", 0)),
                major_faults=kept.get("total_pgmajfault", kept.get("pgmajfault", 0)),
                stats=stats,
            ),
        )
        self._known[key] = found
        return found

    def _rate(self, key: str, cpu: int, started_at: int, use: Use) -> Use:
        before = self._known.get(key)
        if before is not None and before.cpu <= cpu:
            then, spent = before.time, before.cpu
        elif use.time - started_at < _YOUNG:
            then, spent = started_at, 0
        else:
            return use
        window = use.time - then
        if window < _SHORTEST:
            return before if before is not None else use
        return replace(use, rate=(cpu - spent) * _SECOND // window, window=window)

    def _read_node(self) -> Use:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        # user nice system idle iowait irq softirq steal: all that is not idle
        busy = sum(ticks) - ticks[3] - ticks[4]
        cpu = busy * _SECOND // os.sysconf("SC_CLK_TCK")
        faults = major = 0
        with open("/proc/vmstat", encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "pgfault":
                    faults = int(value)
                elif name == "pgmajfault":
                    major = int(value)
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in file)}
        used = self.capacity - self.free
        use = Use(
            time=self._clock(),
            cpu=cpu,
            rate=0,
            window=0,
            working_set=used,
            memory=sizes["MemTotal"] - sizes["MemFree"],
            rss=sizes["AnonPages"],
            cache=sizes["Cached"],
            faults=faults,
            major_faults=major,
            stats=CgroupStats(),
        )
        found = self._rate("", cpu, _boot_time(), use)
        self._known[""] = found
        return found


def _boot_time() -> int:
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
