"""Health checks: a probe executed in the container at intervals, and what its results add up to.

    starting ──success──▶ healthy ◀──success── unhealthy
        └──── retries failures in a row (those of the start period do not count) ────▲

`next_health` is the arithmetic, pure. `HealthMonitor` is the life: one task for each running container that has a
check, from its start (or a daemon's) to its end, silent while it is paused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from windlass.engine.timestamps import SECOND, rfc3339

if TYPE_CHECKING:
    from windlass.engine.container import Container

Document = dict[str, Any]

log = logging.getLogger("windlass.engine")

KEPT: Final = 5
LONGEST_OUTPUT: Final = 4096
_DEFAULT_INTERVAL: Final = 30 * SECOND
_DEFAULT_TIMEOUT: Final = 30 * SECOND
_DEFAULT_START_INTERVAL: Final = 5 * SECOND
_DEFAULT_RETRIES: Final = 3
_START_PATIENCE: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """A health check with its defaults filled in. Times in nanoseconds."""

    command: tuple[str, ...]
    interval: int = _DEFAULT_INTERVAL
    timeout: int = _DEFAULT_TIMEOUT
    start_period: int = 0
    start_interval: int = _DEFAULT_START_INTERVAL
    retries: int = _DEFAULT_RETRIES


class Result(NamedTuple):
    """What one probe said."""

    start: int
    end: int
    exit_code: int
    output: str


def check_of(config: Mapping[str, Any]) -> Check | None:
    """The check of a container's configuration, None if it has none (or `NONE`)."""
    wanted = config.get("Healthcheck") or {}
    test = list(wanted.get("Test") or ())
    match test[:1]:
        case ["CMD"]:
            command = test[1:]
        case ["CMD-SHELL"]:
            command = [*(config.get("Shell") or ("/bin/sh", "-c")), *test[1:]]
        case _:
            return None
    if len(test) < 2:
        return None
    retries = wanted.get("Retries") or 0
    return Check(
        command=tuple(command),
        interval=wanted.get("Interval") or _DEFAULT_INTERVAL,
        timeout=wanted.get("Timeout") or _DEFAULT_TIMEOUT,
        start_period=wanted.get("StartPeriod") or 0,
        start_interval=wanted.get("StartInterval") or _DEFAULT_START_INTERVAL,
        retries=retries if retries > 0 else _DEFAULT_RETRIES,
    )


def new_health() -> Document:
    """The `Health` of a container that has just started."""
    return {"Status": "starting", "FailingStreak": 0, "Log": []}


def next_health(health: Document, check: Check, result: Result, *, started_at: int) -> Document:
    """The `Health` after one more result."""
    entry = {
        "Start": rfc3339(result.start),
        "End": rfc3339(result.end),
        "ExitCode": result.exit_code,
        "Output": result.output,
    }
    status, streak = health["Status"], health["FailingStreak"]
    if result.exit_code == 0:
        status, streak = "healthy", 0
    elif status != "starting" or result.start - started_at >= check.start_period:
        streak += 1
        if streak >= check.retries:
            status = "unhealthy"
    return {"Status": status, "FailingStreak": streak, "Log": [*health["Log"], entry][-KEPT:]}


def pause_before(health: Document, check: Check, *, now: int, started_at: int) -> int:
    """Nanoseconds until the next probe."""
    if now - started_at < check.start_period and health["Status"] == "starting":
        return check.start_interval
    return check.interval


class Probe(Protocol):
    """A process in the container whose output is collected."""

    async def output(self, limit: int) -> bytes:
        """All of it, cut off after `limit` bytes, when the process has ended."""

    async def exit_code(self) -> int:
        """Its exit code."""

    async def kill(self) -> None:
        """End it."""


class Prober(Protocol):
    """Starts probes."""

    async def __call__(self, container: Container, command: tuple[str, ...]) -> Probe: ...


class HealthMonitor:
    """Probes one container. `changed` is called after each result, with the old status."""

    def __init__(
        self,
        container: Container,
        check: Check,
        *,
        probe: Prober,
        clock: Callable[[], int],
        changed: Callable[[Container, str], None],
    ) -> None:
        self._container = container
        self._check = check
        self._probe = probe
        self._clock = clock
        self._changed = changed
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if it does not run yet."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"health of {self._container.id[:12]}")

    async def stop(self) -> None:
        """End, with the probe that may be running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        container, check = self._container, self._check
        while True:
            started_at = container.state.started_at
            health = container.health or new_health()
            pause = pause_before(health, check, now=self._clock(), started_at=started_at)
            await asyncio.sleep(pause / SECOND)
            result = await self._measure()
            before = (container.health or health)["Status"]
            container.health = next_health(container.health or health, check, result, started_at=started_at)
            self._changed(container, before)

    async def _measure(self) -> Result:
        start = self._clock()
        try:
            exit_code, output = await self._probe_once()
        except Exception as error:
            log.warning("health check of container %s: %s", self._container.id, error)
            exit_code, output = -1, str(error)
        return Result(start, self._clock(), exit_code, output)

    async def _probe_once(self) -> tuple[int, str]:
        check = self._check
        probe = await self._start_probe()
        reading = asyncio.ensure_future(probe.output(LONGEST_OUTPUT + 1))
        try:
            try:
                async with asyncio.timeout(check.timeout / SECOND):
                    output = await asyncio.shield(reading)
                    return await probe.exit_code(), _shown(output)
            except TimeoutError:
                await probe.kill()
                said = _shown(await reading)
                message = f"Health check exceeded timeout ({_seconds(check.timeout)})"
                return -1, f"{message}: {said}" if said else message
        except asyncio.CancelledError:
            await probe.kill()
            raise
        finally:
            reading.cancel()

    async def _start_probe(self) -> Probe:
        container = self._container
        starting = asyncio.ensure_future(self._probe(container, self._check.command))
        try:
            async with asyncio.timeout(_START_PATIENCE):
                return await asyncio.shield(starting)
        except TimeoutError:
            starting.cancel()
            raise TimeoutError(f"timed out starting health check for container {container.id}") from None
        except asyncio.CancelledError:
            # A process may be running whose handle is on its way: it must not be left alone.
            await (await starting).kill()
            raise


def _shown(output: bytes) -> str:
    text = output[:LONGEST_OUTPUT].decode(errors="replace")
    return f"{text}..." if len(output) > LONGEST_OUTPUT else text


def _seconds(nanoseconds: int) -> str:
    """A short duration as Go prints it."""
    if nanoseconds < SECOND:
        return f"{nanoseconds / 1_000_000:g}ms"
    minutes, rest = divmod(nanoseconds, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / SECOND:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
