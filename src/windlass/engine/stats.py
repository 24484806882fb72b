"""`docker stats`: what a container uses, sampled once a second for all who watch it.

    control group ─┐
    /proc/stat ────┼─▶ sample ─▶ every watcher's queue        one sampler for each container that anybody watches
    interfaces ────┘

The client computes percentages from two samples, so each carries the processor's part of the one before
(`precpu_stats`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from windlass.engine.container import Container
from windlass.engine.core import Core
from windlass.engine.timestamps import NEVER, rfc3339
from windlass.errors import WindlassError
from windlass.kernel.cgroups import CgroupStats, Operation

Document = dict[str, Any]

INTERVAL: Final = 1.0
_TICK: Final = 10_000_000  # nanoseconds of a clock tick
_QUEUE: Final = 4
_BLKIO: Final = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
_NO_CPU: Final[Document] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


def system_cpu(text: str) -> tuple[int, int]:
    """Nanoseconds that all processors have been through together, and their number, from a /proc/stat text."""
    total = count = 0
    for line in text.splitlines():
        if not line.startswith("cpu"):
            break
        name, *fields = line.split()
        if name == "cpu":
            total = sum(int(field) for field in fields[:7]) * _TICK
        else:
            count += 1
    return total, count


def _operations(operations: Iterable[Operation]) -> list[Document]:
    return [{"major": entry.major, "minor": entry.minor, "op": entry.op, "value": entry.value} for entry in operations]


def empty_document(container_id: str, name: str) -> Document:
    """The sample of a container that does not run."""
    return {
        "name": f"/{name}",
        "id": container_id,
        "read": NEVER,
        "preread": NEVER,
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(_BLKIO),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _NO_CPU,
        "precpu_stats": _NO_CPU,
        "memory_stats": {},
    }


def document(
    container_id: str,
    name: str,
    figures: CgroupStats,
    *,
    read: int,
    system: tuple[int, int],
    memory_total: int,
    networks: dict[str, dict[str, int]],
) -> Document:
    """One sample in the shape of the API; `read` is when, `system` is of `system_cpu`."""
    cpu, memory, pids = figures.cpu, figures.memory, figures.pids
    usage: Document = {
        "total_usage": cpu.total_ns,
        "usage_in_kernelmode": cpu.system_ns,
        "usage_in_usermode": cpu.user_ns,
    }
    if cpu.per_cpu_ns:
        usage["percpu_usage"] = list(cpu.per_cpu_ns)
    limit = memory.limit
    used: Document = {"usage": memory.usage, "stats": memory.stat}
    if memory.max_usage is not None:
        used["max_usage"] = memory.max_usage
    if memory.fail_count:
        used["failcnt"] = memory.fail_count
    used["limit"] = memory_total if limit is None else min(limit, memory_total or limit)
    result = empty_document(container_id, name)
    result |= {
        "read": rfc3339(read),
        "pids_stats": {"current": pids.current} | ({} if pids.limit is None else {"limit": pids.limit}),
        "cpu_stats": {
            "cpu_usage": usage,
            "system_cpu_usage": system[0],
            "online_cpus": system[1],
            "throttling_data": {
                "periods": cpu.periods,
                "throttled_periods": cpu.throttled_periods,
                "throttled_time": cpu.throttled_ns,
            },
        },
        "memory_stats": used,
    }
    # The first hierarchy has files for all of them, the second for two.
    rest: Document = dict.fromkeys(_BLKIO) if usage.get("percpu_usage") is None else {name: [] for name in _BLKIO}
    result["blkio_stats"] = rest | {
        "io_service_bytes_recursive": _operations(figures.blkio.service_bytes),
        "io_serviced_recursive": _operations(figures.blkio.serviced),
    }
    if networks:
        result["networks"] = networks
    return result


class _Watched:
    """A container that is being sampled, and who wants to know."""

    def __init__(self) -> None:
        self.queues: set[asyncio.Queue[Document | None]] = set()
        self.task: asyncio.Task[None] | None = None

    def publish(self, sample: Document | None) -> None:
        for queue in self.queues:
            if queue.full():
                queue.get_nowait()  # a slow reader sees fewer samples, not older ones
            queue.put_nowait(sample)


class Stats:
    """Samples containers."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._watched: dict[str, _Watched] = {}

    async def sample(self, container: Container) -> Document:
        """What it uses now; an empty document if it does not run."""
        core = self._core
        if not container.state.running or container.state.restarting:
            return empty_document(container.id, container.name)
        source = container
        network = container.id
        while (donor := source.shares_network_of) is not None:
            if donor == source.sandbox:
                network = donor
                break
            try:
                source = core.store.find(donor)
                network = source.id
            except WindlassError:
                break
        try:
            figures, system = await asyncio.to_thread(self._read, container)
            networks = await core.networks.statistics(network)
        except OSError:
            return empty_document(container.id, container.name)
        return document(
            container.id,
            container.name,
            figures,
            read=core.clock(),
            system=system,
            memory_total=core.host.memory_total,
            networks=networks,
        )

    def _read(self, container: Container) -> tuple[CgroupStats, tuple[int, int]]:
        figures = self._core.open_cgroup(container).stats()
        with open("/proc/stat") as file:
            return figures, system_cpu(file.read(1 << 16))

    async def stream(self, container: Container, *, stream: bool, one_shot: bool) -> AsyncIterator[Document]:
        """Samples for one client: one at once, one after a second with the figures before it, or one each second."""
        if not stream and (one_shot or not container.state.running or container.state.restarting):
            yield await self.sample(container)
            return
        queue: asyncio.Queue[Document | None] = asyncio.Queue(_QUEUE)
        watched = self._watch(container, queue)
        before: Document | None = None
        try:
            while (sample := await queue.get()) is not None:
                sample = dict(sample)
                if before is not None:
                    sample |= {"preread": before["read"], "precpu_stats": before["cpu_stats"]}
                first, before = before is None, sample
                if not stream and first:
                    continue
                yield sample
                if not stream:
                    return
        finally:
            await self._unwatch(container, watched, queue)

    def _watch(self, container: Container, queue: asyncio.Queue[Document | None]) -> _Watched:
        watched = self._watched.get(container.id)
        if watched is None:
            watched = self._watched[container.id] = _Watched()
            watched.task = asyncio.create_task(self._run(container, watched), name=f"stats {container.id[:12]}")
        watched.queues.add(queue)
        return watched

    async def _unwatch(self, container: Container, watched: _Watched, queue: asyncio.Queue[Document | None]) -> None:
        watched.queues.discard(queue)
        if watched.queues or watched.task is None:
            return
        if self._watched.get(container.id) is watched:
            del self._watched[container.id]
        watched.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watched.task

    async def _run(self, container: Container, watched: _Watched) -> None:
        while self._core.store.get(container.id) is not None:
            watched.publish(await self.sample(container))
            await asyncio.sleep(INTERVAL)
        if self._watched.get(container.id) is watched:
            del self._watched[container.id]
        watched.publish(None)

    async def close(self) -> None:
        """End all sampling."""
        for watched in list(self._watched.values()):
            if watched.task is not None:
                watched.task.cancel()
                await asyncio.gather(watched.task, return_exceptions=True)
            watched.publish(None)
        self._watched.clear()
