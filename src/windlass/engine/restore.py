"""Start-up: what the disk says is compared with what the kernel says, and completed or undone. No other way leads in.

    record       run's directory              so it …
    ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
    .removing    any                          is being removed: go on
    none         -                            was being created: remove what there is
    any          a monitor answers            runs: take it over, with its network, volumes and health checks
    any          exit.json                    has ended while nobody looked: record it with the right code and time
    starting     neither                      never began: as it was before
    running      neither, or gone (reboot)    has ended, nobody knows how: exit code 255
    restarting   -                            waits for its restart: go on waiting

Then networks, control groups, mounts and directories that nobody owns are removed, and the restart policies have their
say. A monitor decides by its lock, so a launch that is just happening is waited for (`Monitor.connect`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from windlass.engine.container import Container
from windlass.engine.core import Core, default_cgroup_parent, log
from windlass.engine.lifecycle import Lifecycle
from windlass.engine.preparation import Preparation
from windlass.engine.removal import Removal
from windlass.engine.restarts import starts_with_daemon
from windlass.engine.store import RECORD, REMOVING
from windlass.engine.usermounts import unmount_below
from windlass.errors import WindlassError
from windlass.kernel import cgroups
from windlass.runtime.client import ExitStatus, Monitor, NoMonitor, read_exit
from windlass.runtime.records import STATE

Document = dict[str, Any]

UNKNOWN_END: Final = 255
_AT_ONCE: Final = 32
_DAMAGE: Final = (WindlassError, OSError, ValueError, KeyError, TypeError)


class Found(NamedTuple):
    """What the disk holds."""

    containers: list[Container]
    removals: list[tuple[str, Container | None]]
    unfinished: list[str]


def read_records(root: Path) -> Found:
    """Read all records below `root`. Blocking. A record that cannot be read is logged and left alone."""
    found = Found([], [], [])
    root.mkdir(mode=0o710, parents=True, exist_ok=True)
    for directory in sorted(root.iterdir()):
        if not directory.is_dir():
            continue
        name = directory.name
        container: Container | None = None
        try:
            container = Container.from_record(orjson.loads((directory / RECORD).read_bytes()))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("cannot load container %s: %s", name, error)
            if not name.endswith(REMOVING):
                continue
        if name.endswith(REMOVING):
            found.removals.append((name.removesuffix(REMOVING), container))
        elif container is None:
            found.unfinished.append(name)
        elif container.id != name:
            log.error("container %s is stored at %s", container.id, directory)
        else:
            found.containers.append(container)
    return found


def _state_of_run(directory: str) -> Document | None:
    """state.json of a run, None if there is none."""
    try:
        document: Document = orjson.loads(Path(directory, STATE).read_bytes())
    except (OSError, ValueError):
        return None
    return document


class Restore:
    """One start-up."""

    def __init__(self, core: Core, lifecycle: Lifecycle, preparation: Preparation, removal: Removal) -> None:
        self._core = core
        self._lifecycle = lifecycle
        self._preparation = preparation
        self._removal = removal
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Bring disk, kernel and memory together."""
        core = self._core
        core.run_root.mkdir(mode=0o711, parents=True, exist_ok=True)
        found = await asyncio.to_thread(read_records, core.store.root)
        for container in found.containers:
            self._register(container)
        ended = await self._each(self._compare(container) for container in core.store)
        await self._complete_removals(found)
        await self._tell_volumes()
        running = {container.id for container in core.store if container.monitor is not None}
        sandboxes = await core.sandboxes.restore()
        await core.networks.reconcile(running | sandboxes)
        await self._each(self._forget_run(name) for name in self._strange_runs())
        await asyncio.to_thread(self._remove_control_groups, running)
        await self._images()
        # Only now may anything begin or be removed.
        await self._each(self._end(container, status) for container, status in ended if status is not None)
        self._apply_policies()

    async def _each(self, jobs: Iterable[Any]) -> list[Any]:
        async def limited(job: Any) -> Any:
            async with self._room:
                return await job

        return await asyncio.gather(*(limited(job) for job in jobs))

    def _register(self, container: Container) -> None:
        names = self._core.store.names
        try:
            names.reserve(container.name, container.id)
        except WindlassError as error:
            log.error("container %s: %s", container.id, error)
            container.name = names.reserve_random(container.id)
        self._core.store.add(container)

    # One container -------------------------------------------------------------------------------------------------

    async def _compare(self, container: Container) -> tuple[Container, ExitStatus | None]:
        """Take over a container that runs; the end of one that has ended, to be dealt with later."""
        core, state = self._core, container.state
        directory = Path(core.run_directory(container))
        here = await asyncio.to_thread(directory.is_dir)
        if not here:
            if container.starting or (state.running and not state.restarting):
                return container, ExitStatus(UNKNOWN_END, False, core.clock())
            return container, None
        try:
            monitor = await Monitor.connect(directory)
        except NoMonitor:
            return container, await self._ended(container, directory)
        except _DAMAGE as error:
            # One that cannot be understood must not keep the others from going on.
            log.error("what runs of container %s cannot be found out: %s", container.id, error)
            return container, await self._lost(container)
        await self._adopt(container, monitor)
        return container, None

    async def _ended(self, container: Container, directory: Path) -> ExitStatus | None:
        """How a container ended whose run's directory has no monitor; None if it never began, or that is known."""
        expected = container.starting or (container.state.running and not container.state.restarting)
        if not expected:
            await self._discard_run(container)
            return None
        run = await asyncio.to_thread(_state_of_run, str(directory))
        try:
            status = await asyncio.to_thread(read_exit, directory)
        except _DAMAGE as error:
            log.error("the end of container %s cannot be found out: %s", container.id, error)
            status = None
        if run is not None:
            container.state.started_at = int(run.get("startedAt") or container.state.started_at)
            container.was_started = True
        if status is not None:
            return status
        if run is not None or container.state.running:
            return ExitStatus(UNKNOWN_END, False, self._core.clock())
        container.starting = False
        self._core.save(container)
        await self._discard_run(container)
        return None

    async def _lost(self, container: Container) -> ExitStatus | None:
        """The end of a container whose run's files are damaged; what may still run of it is ended with its group."""
        if container.starting or (container.state.running and not container.state.restarting):
            return ExitStatus(UNKNOWN_END, False, self._core.clock())
        await self._discard_run(container)
        return None

    async def _discard_run(self, container: Container) -> None:
        self._preparation.adopt(container)
        await self._preparation.release(container)
        await self._preparation.remove_directory(container)

    async def _adopt(self, container: Container, monitor: Monitor) -> None:
        core = self._core
        try:
            container.state.paused = await asyncio.to_thread(core.open_cgroup(container).frozen)
        except OSError as error:
            log.warning("container %s: %s", container.id, error)
        if container.attachment is not None:
            try:
                await core.networks.restore(container.id, container.attachment)
            except (WindlassError, OSError, ValueError) as error:
                log.error("cannot restore the network of container %s: %s", container.id, error)
        self._lifecycle.adopt(container, monitor)
        core.save(container)

    async def _end(self, container: Container, status: ExitStatus) -> None:
        container.state.running, container.state.restarting = True, False
        container.starting = False
        self._preparation.adopt(container)
        await self._lifecycle.ended(container, None, status)

    def _apply_policies(self) -> None:
        for container in self._core.store:
            state = container.state
            if state.restarting:
                if container.restart_timer is None:
                    self._lifecycle.resume_restart(container)
            elif not state.running and starts_with_daemon(
                container.restart_policy,
                exit_code=state.exit_code,
                stopped_by_hand=container.stopped_by_hand,
                restarts=container.restart_count,
                was_started=container.was_started,
            ):
                self._core.tasks.spawn(self._start(container), f"start {container.id[:12]}")
            elif container.auto_remove and container.was_started and not state.running and not state.removing:
                state.removing = True
                self._core.tasks.spawn(self._removal.auto(container), f"remove {container.id[:12]}")

    async def _start(self, container: Container) -> None:
        try:
            await self._lifecycle.start(container)
        except WindlassError as error:
            log.error("cannot start container %s: %s", container.id, error)

    # What is left over -----------------------------------------------------------------------------------------

    async def _complete_removals(self, found: Found) -> None:
        root, images = self._core.store.root, self._core.images
        for name in found.unfinished:
            await images.remove_rootfs(name)
            await asyncio.to_thread(shutil.rmtree, root / name, ignore_errors=True)
        for container_id, container in found.removals:
            if container is not None:
                await self._removal.remove_snapshots(container)
                await self._removal.release_volumes(container, remove=container.auto_remove)
            else:
                await images.remove_rootfs(container_id)
            await asyncio.to_thread(shutil.rmtree, root / f"{container_id}{REMOVING}", ignore_errors=True)

    async def _tell_volumes(self) -> None:
        references: dict[str, list[str]] = {}
        mounted: dict[str, list[str]] = {}
        for container in self._core.store:
            for point in container.mount_points.values():
                if point.type == "volume":
                    references.setdefault(point.name, []).append(container.id)
                    if container.monitor is not None:
                        mounted.setdefault(point.name, []).append(container.id)
        await self._core.volumes.restore(references, mounted)

    def _strange_runs(self) -> list[str]:
        """Directories of runs whose container does not exist."""
        return [name for name in os.listdir(self._core.run_root) if self._core.store.get(name) is None]

    async def _forget_run(self, name: str) -> None:
        """End what runs for nobody and remove its files."""
        directory = self._core.run_root / name
        try:
            monitor = await Monitor.connect(directory)
            log.warning("container %s runs and has no record: ending it", name)
            await monitor.signal(9)
            await monitor.wait()
            await monitor.close()
        except _DAMAGE as error:
            log.debug("%s: %s", directory, error)  # nobody is there
        await asyncio.to_thread(_clear_run, str(directory))

    def _remove_control_groups(self, running: set[str]) -> None:
        """Remove control groups of containers that do not run. Blocking."""
        core = self._core
        parent = core.settings.cgroup_parent or default_cgroup_parent(Path(core.settings.exec_root))
        top = cgroups.open_cgroup(parent, core.hierarchy)
        for directory in set(top.paths.values()):
            try:
                names = [entry.name for entry in os.scandir(directory) if entry.is_dir()]
            except FileNotFoundError:
                continue
            for name in names:
                ours = len(name) == 64 and all(digit in "0123456789abcdef" for digit in name)
                if not ours or name in running or (core.settings.cgroup_parent and core.store.get(name) is None):
                    # Under a parent that somebody else chose, only what is known to be ours.
                    continue
                try:
                    group = cgroups.open_cgroup(f"{parent}/{name}", core.hierarchy)
                    group.kill()
                    group.remove()
                except OSError as error:
                    log.warning("cannot remove control group %s: %s", name, error)

    async def _images(self) -> None:
        """Remove snapshots of containers that do not exist."""
        known = [container.id for container in self._core.store]
        known += [each for container in self._core.store for each in self._removal.image_mounts(container)]
        await self._core.images.reconcile(known)


def _clear_run(directory: str) -> None:
    unmount_below(directory)
    shutil.rmtree(directory, ignore_errors=True)
