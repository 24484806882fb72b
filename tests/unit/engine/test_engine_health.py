"""Health checks: the arithmetic, and the life with a fake probe."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from windlass.engine.health import (
    Check,
    HealthMonitor,
    Result,
    check_of,
    new_health,
    next_health,
    pause_before,
)
from windlass.engine.timestamps import MILLISECOND, SECOND

CHECK = Check(command=("check",), interval=10 * MILLISECOND, timeout=50 * MILLISECOND, retries=2)


@pytest.mark.parametrize(
    ("config", "command"),
    [
        ({}, None),
        ({"Healthcheck": None}, None),
        ({"Healthcheck": {"Test": []}}, None),
        ({"Healthcheck": {"Test": ["NONE"]}}, None),
        ({"Healthcheck": {"Test": ["CMD"]}}, None),
        ({"Healthcheck": {"Test": ["CMD", "a", "b"]}}, ("a", "b")),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "a | b"]}}, ("/bin/sh", "-c", "a | b")),
        ({"Shell": ["/bin/bash", "-ec"], "Healthcheck": {"Test": ["CMD-SHELL", "a"]}}, ("/bin/bash", "-ec", "a")),
    ],
)
def test_what_is_run(config: dict[str, Any], command: tuple[str, ...] | None) -> None:
    check = check_of(config)
    assert (check.command if check else None) == command


def test_defaults() -> None:
    check = check_of({"Healthcheck": {"Test": ["CMD", "a"], "Retries": 0, "Interval": 0}})
    assert check is not None
    assert (check.interval, check.timeout, check.start_period, check.start_interval, check.retries) == (
        30 * SECOND,
        30 * SECOND,
        0,
        5 * SECOND,
        3,
    )


def run(codes: list[int], *, start_period: int = 0, step: int = SECOND) -> list[tuple[str, int]]:
    check = Check(command=("c",), retries=2, start_period=start_period)
    health, seen = new_health(), []
    for number, code in enumerate(codes):
        health = next_health(health, check, Result(number * step, number * step, code, "out"), started_at=0)
        seen.append((health["Status"], health["FailingStreak"]))
    return seen


def test_a_success_makes_it_healthy_and_retries_make_it_unhealthy() -> None:
    assert run([1, 0, 1, 1, 1, 0]) == [
        ("starting", 1),
        ("healthy", 0),
        ("healthy", 1),
        ("unhealthy", 2),
        ("unhealthy", 3),
        ("healthy", 0),
    ]


def test_failures_of_the_start_period_do_not_count_until_a_success() -> None:
    assert run([1, 1, 1, 1, 1], start_period=3 * SECOND) == [
        ("starting", 0),
        ("starting", 0),
        ("starting", 0),
        ("starting", 1),
        ("unhealthy", 2),
    ]
    assert run([0, 1, 1], start_period=100 * SECOND) == [("healthy", 0), ("healthy", 1), ("unhealthy", 2)]


def test_five_results_are_kept() -> None:
    health = new_health()
    for number in range(7):
        health = next_health(health, CHECK, Result(number, number, 0, str(number)), started_at=0)
    assert [entry["Output"] for entry in health["Log"]] == ["2", "3", "4", "5", "6"]


def test_the_start_interval_holds_in_the_start_period_only() -> None:
    check = Check(command=("c",), interval=30, start_interval=5, start_period=100)
    starting, healthy = new_health(), new_health() | {"Status": "healthy"}
    assert pause_before(starting, check, now=10, started_at=0) == 5
    assert pause_before(healthy, check, now=10, started_at=0) == 30
    assert pause_before(starting, check, now=100, started_at=0) == 30


class FakeProbe:
    """A process that prints and ends, or hangs."""

    def __init__(self, output: bytes, code: int, *, hangs: bool = False) -> None:
        self._output, self._code = output, code
        self._over = asyncio.Event()
        self.killed = False
        if not hangs:
            self._over.set()

    async def output(self, limit: int) -> bytes:
        await self._over.wait()
        return self._output[:limit]

    async def exit_code(self) -> int:
        await self._over.wait()
        return self._code

    async def kill(self) -> None:
        self.killed = True
        self._over.set()


class State:
    started_at = 0


class FakeContainer:
    """What the monitor looks at."""

    def __init__(self) -> None:
        self.id = "c" * 64
        self.state = State()
        self.health: dict[str, Any] | None = None


async def watch(probes: list[FakeProbe | Exception], results: int) -> tuple[FakeContainer, list[str]]:
    container, seen, done = FakeContainer(), [], asyncio.Event()
    remaining = iter(probes)

    async def probe(_: object, command: tuple[str, ...]) -> FakeProbe:
        assert command == ("check",)
        made = next(remaining)
        if isinstance(made, Exception):
            raise made
        return made

    def changed(_: object, before: str) -> None:
        assert container.health is not None
        seen.append(f"{before} > {container.health['Status']}")
        if len(seen) == results:
            done.set()

    monitor = HealthMonitor(cast(Any, container), CHECK, probe=cast(Any, probe), clock=lambda: 1, changed=changed)
    monitor.start()
    await done.wait()
    await monitor.stop()
    return container, seen


async def test_probes_run_one_after_the_other() -> None:
    container, seen = await watch([FakeProbe(b"ok\n", 0), FakeProbe(b"bad", 3), FakeProbe(b"", 1)], 3)
    assert seen == ["starting > healthy", "healthy > healthy", "healthy > unhealthy"]
    assert container.health is not None
    assert [(entry["ExitCode"], entry["Output"]) for entry in container.health["Log"]] == [
        (0, "ok\n"),
        (3, "bad"),
        (1, ""),
    ]


async def test_long_output_is_cut() -> None:
    container, _ = await watch([FakeProbe(b"x" * 10_000, 0)], 1)
    assert container.health is not None
    assert container.health["Log"][0]["Output"] == "x" * 4096 + "..."


async def test_a_probe_that_hangs_is_killed_and_failed() -> None:
    hanging = FakeProbe(b"so far", 0, hangs=True)
    container, _ = await watch([hanging], 1)
    assert hanging.killed and container.health is not None
    entry = container.health["Log"][0]
    assert (entry["ExitCode"], entry["Output"]) == (-1, "Health check exceeded timeout (50ms): so far")


async def test_a_probe_that_cannot_start_has_failed() -> None:
    container, _ = await watch([OSError("no such container")], 1)
    assert container.health is not None
    assert container.health["Log"][0]["Output"] == "no such container"


async def test_stopping_ends_the_probe_that_runs() -> None:
    hanging = FakeProbe(b"", 0, hangs=True)
    started = asyncio.Event()

    async def probe(_: object, command: tuple[str, ...]) -> FakeProbe:
        started.set()
        return hanging

    monitor = HealthMonitor(
        cast(Any, FakeContainer()), CHECK, probe=cast(Any, probe), clock=lambda: 1, changed=lambda c, b: None
    )
    monitor.start()
    await started.wait()
    await asyncio.sleep(0)
    await monitor.stop()
    assert hanging.killed
