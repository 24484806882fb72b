"""A container's runs: start, end, and what lies between.

    start    prepare ─▶ record "running" ─▶ launch ─▶ watch
    end      monitor says so ─▶ give back networks and volumes ─▶ record ─▶ remove the run's files ─▶ tell waiters
                             ─▶ start again, remove, or leave it
    signal   sent by the monitor to its own child; a stop waits outside of the lock for the end

The intent is on disk first: a daemon that dies in between leaves a record that start-up compares with the kernel.
Everything that changes a container happens under its lock, and to the end even if the client that asked hangs up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from windlass.engine import joins
from windlass.engine.attach import AttachHub
from windlass.engine.container import Container
from windlass.engine.core import Core, log
from windlass.engine.failures import UNKNOWN, start_failure
from windlass.engine.health import HealthMonitor, Prober, check_of, new_health
from windlass.engine.preparation import Preparation
from windlass.engine.restarts import FIRST_DELAY, Backoff, Run, decide
from windlass.engine.signals import NUMBERS, parse_signal
from windlass.engine.timestamps import SECOND
from windlass.errors import Conflict, NotModified, SystemFailure, WindlassError
from windlass.runtime.client import ExitStatus, LaunchError, Monitor

DEFAULT_STOP_TIMEOUT: Final = 10
KILL_PATIENCE: Final = 10.0
_LAST_OUTPUT: Final = 2.0
_SIGKILL: Final = 9


class Lifecycle:
    """Starts, stops and watches containers. `remove` and `probe` are set by the engine once it is put together."""

    def __init__(self, core: Core, preparation: Preparation) -> None:
        self._core = core
        self._preparation = preparation
        self.remove: Callable[[Container], Awaitable[None]] | None = None
        self.probe: Prober | None = None
        self.forget_execs: Callable[[Container], None] = lambda container: None

    # Start -------------------------------------------------------------------------------------------------------

    async def start(self, container: Container) -> None:
        """Start a container that does not run. Raises `NotModified`, `Conflict`, or why it could not be started."""
        await self._core.tasks.finish(self._start_by_hand(container), f"start {container.id[:12]}")

    async def _start_by_hand(self, container: Container) -> None:
        async with container.lock:
            self._check_startable(container)
            container.backoff = Backoff()
            container.restart_count = 0
            container.restart_cancelled = False
            container.stopped_by_hand = False
            try:
                await self._start_locked(container)
                return
            except WindlassError as error:
                if not container.auto_remove:
                    raise
                failure = error
                container.state.removing = True
        await self._remove(container)
        raise failure

    @staticmethod
    def _check_startable(container: Container) -> None:
        state = container.state
        if state.paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if state.running:
            raise NotModified("container is already running")
        if state.removing or state.dead:
            raise Conflict("container is marked for removal and cannot be started")

    async def _start_locked(self, container: Container) -> None:
        try:
            await self._preparation.prepare(container)
            await self._launch(container)
        except LaunchError as error:
            code, shown = start_failure(error.stage, error.message, error.errno, container.path)
            await self._start_failed(container, code, shown)
            raise shown from None
        except WindlassError as error:
            await self._start_failed(container, UNKNOWN, error)
            raise
        except OSError as error:
            shown = SystemFailure(str(error))
            await self._start_failed(container, UNKNOWN, shown)
            raise shown from error
        self._begin_watch(container)
        self._core.container_event(container, "start")
        self._preparation.started(container)

    async def _launch(self, container: Container) -> None:
        core, state = self._core, container.state
        # The intent. If this daemon dies now, the next one finds in the run's directory whether it was carried out.
        container.starting = True
        core.store.save(container)
        directory = Path(core.run_directory(container))
        if container.hub is not None and container.hub.clients:
            ours, theirs = socket.socketpair()
            try:
                monitor = await core.launcher.launch(directory, theirs)
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            container.hub.connect(ours)
        else:
            monitor = await core.launcher.launch(directory)
        container.monitor = monitor
        container.was_started = True
        container.health = new_health() if check_of(container.config) else None
        state.set_running(pid=monitor.pid, started_at=monitor.started_at_ns)

    async def _start_failed(self, container: Container, exit_code: int, error: WindlassError) -> None:
        """Leave the container as it was, but for the record of the failure."""
        await self._preparation.release(container)
        await self._preparation.remove_directory(container)
        state = container.state
        container.starting = state.restarting = state.running = False
        state.error, state.exit_code = str(error), exit_code
        self._core.save(container)
        if container.hub is not None:
            await container.hub.close()
            container.hub = None

    def adopt(self, container: Container, monitor: Monitor) -> None:
        """Take over a container that another daemon started."""
        paused = container.state.paused
        container.monitor = monitor
        container.was_started = True
        container.state.set_running(pid=monitor.pid, started_at=monitor.started_at_ns)
        container.state.paused = paused
        self._preparation.adopt(container)
        self._begin_watch(container)

    def resume_restart(self, container: Container) -> None:
        """Go on with a restart for which another daemon was waiting."""
        container.restart_timer = self._core.tasks.spawn(
            self._start_again(container, FIRST_DELAY), f"restart {container.id[:12]}"
        )

    def _begin_watch(self, container: Container) -> None:
        monitor = container.monitor
        assert monitor is not None
        container.log_ended = asyncio.Event()
        short = container.id[:12]
        self._core.tasks.spawn(self._watch(container, monitor), f"watch {short}")
        self._update_health(container)

    async def _watch(self, container: Container, monitor: Monitor) -> None:
        """Wait for the events of a run, the end last."""
        async for event in monitor.events():
            if event["event"] == "oom":
                container.state.oom_killed = True
                self._core.container_event(container, "oom")
        status = await monitor.wait()
        await self._core.tasks.finish(self.ended(container, monitor, status), f"end of {container.id[:12]}")

    # Health ------------------------------------------------------------------------------------------------------

    def _update_health(self, container: Container) -> None:
        """Have the health monitor run while the container runs and is not paused."""
        check = check_of(container.config)
        if check is None or self.probe is None:
            return
        if container.health is None:
            container.health = new_health()
        if container.health_monitor is None:
            container.health_monitor = HealthMonitor(
                container, check, probe=self.probe, clock=self._core.clock, changed=self._health_changed
            )
        if container.state.running and not container.state.paused:
            container.health_monitor.start()

    async def _stop_health(self, container: Container, *, final: bool) -> None:
        if container.health_monitor is None:
            return
        await container.health_monitor.stop()
        container.health_monitor = None
        if final and container.health is not None:
            container.health["Status"] = "unhealthy"

    def _health_changed(self, container: Container, before: str) -> None:
        assert container.health is not None
        if (status := container.health["Status"]) != before:
            self._core.container_event(container, f"health_status: {status}")

    # The end -----------------------------------------------------------------------------------------------------

    async def ended(self, container: Container, monitor: Monitor | None, status: ExitStatus) -> None:
        """A run has ended: give back, record, tell, and do what the policy says."""
        async with container.lock:
            if container.monitor is not monitor or not container.state.running:
                return
            if status.error:
                log.warning("container %s: %s", container.id, status.error)
            removes = await self._end_locked(container, status)
            if monitor is not None:
                await monitor.close()
        if removes:
            await self._remove(container)

    async def _end_locked(self, container: Container, status: ExitStatus) -> bool:
        """The end, under the lock; returns whether the container is to be removed now."""
        core, state = self._core, container.state
        await self._stop_health(container, final=True)
        if container.hub is not None:
            await container.hub.finish(_LAST_OUTPUT)
            container.hub = None
        container.monitor, container.starting = None, False
        container.log_ended.set()
        self.forget_execs(container)
        await self._preparation.release(container)
        state.oom_killed = state.oom_killed or status.oom_killed
        if status.error and not state.error:
            state.error = status.error
        duration = max(0, status.exited_at_ns - state.started_at)
        decision = decide(
            container.restart_policy,
            Backoff(container.restart_count, container.backoff.delay_ns),
            Run(
                status.exit_code,
                duration,
                signalled_by_hand=container.stopped_by_hand,
                cancelled=container.restart_cancelled or core.stopping,
            ),
        )
        restarts = decision.restart and not core.stopping
        container.backoff = decision.backoff
        if restarts:
            container.restart_count = decision.backoff.restarts
        state.set_ended(exit_code=status.exit_code, finished_at=status.exited_at_ns, restarting=restarts)
        removes = container.auto_remove and not restarts and not container.restarting_by_hand
        if removes:
            # Claimed here, so that nobody starts it in between. The record may go on saying "running": it leads the
            # next daemon to the same end.
            state.removing = True
        else:
            core.save(container)
        await self._preparation.remove_directory(container)
        core.container_event(container, "die", exitCode=status.exit_code, execDuration=duration // SECOND)
        container.waiters.ended(status.exit_code, state.error)
        if restarts:
            container.restart_timer = core.tasks.spawn(
                self._start_again(container, decision.backoff.delay_ns), f"restart {container.id[:12]}"
            )
        return removes

    async def _start_again(self, container: Container, delay_ns: int) -> None:
        await asyncio.sleep(delay_ns / SECOND)
        async with container.lock:
            container.restart_timer = None
            if not container.state.restarting:
                return
            try:
                await self._start_locked(container)
                return
            except WindlassError as error:
                log.warning("cannot restart container %s: %s", container.id, error)
                container.waiters.ended(container.state.exit_code, container.state.error)

    async def _remove(self, container: Container) -> None:
        if self.remove is not None:
            try:
                await self.remove(container)
            except WindlassError as error:
                if self._core.store.get(container.id) is not None:
                    log.error("cannot remove container %s: %s", container.id, error)

    def cancel_restart(self, container: Container) -> bool:
        """If the container waits for its restart, have it stopped instead. Under the lock; returns whether it was."""
        state = container.state
        if not state.restarting:
            return False
        if container.restart_timer is not None:
            container.restart_timer.cancel()
            container.restart_timer = None
        state.running = state.restarting = False
        self._core.save(container)
        container.waiters.ended(state.exit_code, state.error)
        return True

    # Signals -----------------------------------------------------------------------------------------------------

    async def signal(self, container: Container, number: int) -> None:
        """Send a signal, with what it means for the restart policy. Raises `Conflict` if the container does not run."""
        async with container.lock:
            state = container.state
            if not state.running:
                raise joins.not_running(container)
            configured = container.config.get("StopSignal") or ""
            final = True
            if configured and number != _SIGKILL:
                final = parse_signal(configured) == number
            if final:
                container.restart_cancelled = True
            if not self._core.stopping:
                container.stopped_by_hand = True
                if container.restart_policy.name not in {"no", ""}:
                    self._core.save(container)
            if self.cancel_restart(container):
                return
            monitor = container.monitor
            assert monitor is not None
            try:
                await monitor.signal(number)
            except LaunchError as error:
                if error.errno != errno.ESRCH:
                    raise SystemFailure(f"Cannot kill container {container.id}: {error}") from error
            if final and state.paused:
                # A frozen process takes a signal when it is thawed.
                await self._thaw(container)
            self._core.container_event(container, "kill", signal=number)

    async def _thaw(self, container: Container) -> None:
        cgroup = self._core.open_cgroup(container)
        try:
            await asyncio.to_thread(cgroup.thaw)
        except OSError as error:
            log.warning("cannot unpause container %s: %s", container.id, error)

    async def kill(self, container: Container) -> None:
        """End a container at once and wait for that. Raises `Conflict` if it does not run, `SystemFailure`."""
        if not container.state.running:
            raise joins.not_running(container)
        end = container.waiters.next_end()
        try:
            await self.signal(container, _SIGKILL)
            async with asyncio.timeout(KILL_PATIENCE):
                await end
        except TimeoutError:
            raise SystemFailure("tried to kill container, but did not receive an exit event") from None
        finally:
            end.cancel()

    def stop_settings(self, container: Container, signal: str, timeout: int | None) -> tuple[int, int]:
        """The signal and the seconds of patience of a stop; negative is for ever. Raises `InvalidParameter`."""
        number = parse_signal(signal or container.config.get("StopSignal") or "TERM")
        if timeout is None:
            timeout = container.config.get("StopTimeout")
        return number, DEFAULT_STOP_TIMEOUT if timeout is None else timeout

    async def stop(self, container: Container, *, signal: str = "", timeout: int | None = None) -> None:
        """Ask a container to end, and kill it if it does not. No error if it does not run.

        Raises `InvalidParameter` (no such signal), `SystemFailure`.
        """
        await self._core.tasks.finish(
            self._stop(container, *self.stop_settings(container, signal, timeout)), f"stop {container.id[:12]}"
        )

    async def _stop(self, container: Container, number: int, patience: int) -> None:
        if not container.state.running:
            return
        end = container.waiters.next_end()
        try:
            try:
                await self.signal(container, number)
            except Conflict:
                return
            # Not by a timeout around an await, which would cancel `end` and make it look as if it had come.
            await asyncio.wait([end], timeout=patience if patience >= 0 else None)
            if not end.done():
                log.info(
                    "container %s failed to exit within %d s of signal %d: killing it", container.id, patience, number
                )
                with contextlib.suppress(Conflict):
                    await self.kill(container)
        finally:
            end.cancel()
        self._core.container_event(container, "stop")

    async def restart(self, container: Container, *, signal: str = "", timeout: int | None = None) -> None:
        """Stop, if it runs, and start."""
        number, patience = self.stop_settings(container, signal, timeout)
        await self._core.tasks.finish(self._restart(container, number, patience), f"restart {container.id[:12]}")

    async def _restart(self, container: Container, number: int, patience: int) -> None:
        container.restarting_by_hand = True
        try:
            await self._stop(container, number, patience)
            with contextlib.suppress(NotModified):
                await self._start_by_hand(container)
        finally:
            container.restarting_by_hand = False
        self._core.container_event(container, "restart")

    # Pause -------------------------------------------------------------------------------------------------------

    async def pause(self, container: Container) -> None:
        """Freeze all processes. Raises `Conflict`, `SystemFailure`."""
        await self._core.tasks.finish(self._pause(container), f"pause {container.id[:12]}")

    async def _pause(self, container: Container) -> None:
        async with container.lock:
            state = container.state
            if not state.running:
                raise joins.not_running(container)
            if state.paused:
                raise Conflict(f"container {container.id} is already paused")
            if state.restarting:
                raise joins.restarting(container)
            # A probe that froze would count as one that hangs.
            await self._stop_health(container, final=False)
            try:
                await asyncio.to_thread(self._core.open_cgroup(container).freeze)
            except OSError as error:
                self._update_health(container)
                raise SystemFailure(f"cannot pause container {container.id}: {error}") from error
            state.paused = True
            self._core.container_event(container, "pause")
            self._core.save(container)

    async def unpause(self, container: Container) -> None:
        """Thaw all processes. Raises `Conflict`, `SystemFailure`."""
        await self._core.tasks.finish(self._unpause(container), f"unpause {container.id[:12]}")

    async def _unpause(self, container: Container) -> None:
        async with container.lock:
            if not container.state.paused:
                raise Conflict(f"Container {container.id} is not paused")
            try:
                await asyncio.to_thread(self._core.open_cgroup(container).thaw)
            except OSError as error:
                raise SystemFailure(f"Cannot unpause container {container.id}: {error}") from error
            container.state.paused = False
            self._update_health(container)
            self._core.container_event(container, "unpause")
            self._core.save(container)

    # Streams ----------------------------------------------------------------------------------------------------

    def hub(self, container: Container) -> AttachHub:
        """The meeting place of a container's clients, for this run or the next."""
        if container.hub is None:
            container.hub = AttachHub(
                terminal=container.terminal,
                close_stdin_once=bool(container.config["StdinOnce"]),
            )
        return container.hub


SIGNAL_NAMES: Final = {number: name for name, number in NUMBERS.items()}
