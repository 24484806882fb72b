"""Rates of use: of the time since the measure before, or since the start of what is young."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from windlass.errors import NotFound
from windlass.kernel.cgroups import CgroupStats
from windlass.kernel.cgroups.stats import CpuStats, MemoryStats
from windlass.kube.node.server.usage import Usage
from windlass.kube.node.thresholds import MEMORY, Observation

SECOND = 10**9
START = 1_000_000 * SECOND


class Node:
    """A pod with one container whose counters a test sets."""

    def __init__(self) -> None:
        self.now = START
        self.cpu = 0
        self.started_at = START
        self.ended = False
        finder: Any = SimpleNamespace(
            all=lambda: [{"metadata": {"uid": "u", "name": "p", "namespace": "n"}}],
            runtime=SimpleNamespace(containers=self._containers, stats=self._stats),
        )
        measures: Any = SimpleNamespace(node=self._machine)
        self.usage = Usage(finder, measures, self._stats, lambda: self.now)

    def _containers(self, uid: str) -> list[Any]:
        assert uid == "u"
        return [SimpleNamespace(id="c", name="c", running=not self.ended, started_at=self.started_at)]

    def _stats(self, key: str) -> CgroupStats:
        if self.ended:
            raise NotFound(key)
        return CgroupStats(CpuStats(self.cpu), MemoryStats(5000, stat={"inactive_file": 1000, "anon": 3000}))

    async def _machine(self) -> dict[str, Observation]:
        return {MEMORY: Observation(1000, 400)}

    async def rate(self) -> tuple[int, int]:
        """The container's rate in millicores, and the seconds that it is of."""
        await self.usage._measure()
        (pod,) = await self.usage.pods()
        use = pod.containers[0].use
        assert (use.working_set, use.rss, pod.use.rate) == (4000, 3000, use.rate)
        return use.rate // 10**6, use.window // SECOND


async def test_the_first_rate_of_what_is_young_is_since_its_start() -> None:
    node = Node()
    node.now, node.cpu = START + 4 * SECOND, 2 * SECOND
    assert await node.rate() == (500, 4)
    node.now, node.cpu = START + 14 * SECOND, 3 * SECOND
    assert await node.rate() == (100, 10)


async def test_what_ran_before_has_a_rate_with_the_second_measure() -> None:
    node = Node()
    node.started_at = START - 3600 * SECOND
    node.cpu = 1800 * SECOND
    assert await node.rate() == (0, 0)
    node.now, node.cpu = START + SECOND, 1800 * SECOND + SECOND // 4
    assert await node.rate() == (250, 1)


async def test_two_measures_at_once_say_nothing_new() -> None:
    node = Node()
    node.now, node.cpu = START + 4 * SECOND, 2 * SECOND
    assert await node.rate() == (500, 4)
    node.now += SECOND // 10
    assert await node.rate() == (500, 4)


async def test_what_ends_meanwhile_is_left_out() -> None:
    node = Node()
    await node.rate()
    node.ended = True
    await node.usage._measure()
    assert await node.usage.pods() == ()


async def test_what_is_old_is_measured_when_somebody_asks() -> None:
    node = Node()
    node.now, node.cpu = START + 4 * SECOND, 2 * SECOND
    assert (await node.usage.pods())[0].use.cpu == 2 * SECOND
    node.now, node.cpu = START + 60 * SECOND, 5 * SECOND
    assert (await node.usage.pods())[0].use.cpu == 5 * SECOND
    machine = await node.usage.node()
    assert machine.working_set == 600 and machine.cpu > 0
