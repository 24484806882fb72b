"""A group in v1's hierarchies: the same path in each of them.

    /sys/fs/cgroup/memory/windlass/x    /sys/fs/cgroup/cpu/windlass/x    …    /sys/fs/cgroup/unified/windlass/x (hybrid)

On a hybrid host the group exists in the v2 hierarchy too. That has no controllers there, but it freezes with an event
to wait for, kills in one step, and tells when the last task is gone; v1 offers polling for each of these.

Linux: admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from windlass.kernel.cgroups import devices, freezer
from windlass.kernel.cgroups.directory import Directory
from windlass.kernel.cgroups.errors import CgroupError, file_error
from windlass.kernel.cgroups.group import Cgroup
from windlass.kernel.cgroups.hierarchy import Hierarchy
from windlass.kernel.cgroups.resources import plan_v1
from windlass.kernel.cgroups.stats import BlkioStats, CgroupStats, CpuStats, MemoryStats, PidsStats
from windlass.kernel.cgroups.values import Operation, parse_flat, parse_limit, parse_number, parse_operations

_Parsed = TypeVar("_Parsed")
_Default = TypeVar("_Default")
_TICK_NS = 10_000_000  # USER_HZ is 100 on every machine type: cpuacct.stat counts in it


class CgroupV1(Cgroup):
    """A group in all mounted v1 hierarchies, and in v2's where that is mounted beside them."""

    def __init__(self, hierarchy: Hierarchy, path: str, *, relative: bool = False) -> None:
        super().__init__(hierarchy, path if relative else f"/{path}")
        self._controllers: dict[str, Directory] = {}
        self._unified: Directory | None = None
        self._all: list[Directory] = []

        def place(own: str) -> str:
            return f"{own}/{path}" if relative and own else path

        if hierarchy.unified is not None:
            self._unified = Directory(hierarchy.unified, place(hierarchy.unified.own))
            self._all.append(self._unified)
        for mount in hierarchy.mounts:
            directory = Directory(mount, place(mount.own))
            self._all.append(directory)
            for controller in mount.controllers:
                self._controllers[controller] = directory

    @property
    def paths(self) -> dict[str, str]:
        found = {controller: directory.name() for controller, directory in self._controllers.items()}
        if self._unified is not None:
            found[""] = self._unified.name()
        return found

    def _directories(self) -> list[Directory]:
        return self._all

    def _processes_directory(self) -> Directory:
        return self._all[0]

    def directory_of(self, controller: str) -> Directory | None:
        return self._controllers.get(controller)

    # --- life

    def create(self) -> None:
        made: list[Directory] = []
        try:
            for directory in self._all:
                directory.make()
                made.append(directory)
            if (cpuset := self._controllers.get("cpuset")) is not None:
                _fill_cpuset(cpuset)
        except BaseException:
            for directory in made:
                directory.remove_once()
            raise
        self._fresh = True

    def apply(self, resources: Mapping[str, Any]) -> None:
        writes = plan_v1(resources)
        wanted = devices.exceptions(devices.parse_rules(resources["devices"])) if resources.get("devices") else None

        def finish() -> None:
            if wanted is not None:
                self._set_devices(wanted)

        self._settle(writes, finish)
        self._fresh = False

    def _set_devices(self, wanted: devices.Exceptions) -> None:
        directory = self._controllers.get("devices")
        if directory is None:
            raise CgroupError(errno.ENOENT, "cgroup controller devices is not available")
        if self._fresh:
            _carry_out(directory, devices.v1_writes(wanted, None))
            return
        before = devices.parse_list(directory.read("devices.list"))
        try:
            _carry_out(directory, devices.v1_writes(wanted, before))
        except BaseException:
            # Exceptions to "everything" are not shown by the kernel, so only the default comes back in that case.
            _carry_out(directory, devices.v1_writes(before, devices.parse_list(directory.read("devices.list"))))
            raise

    def add(self, pid: int, *, beside: int | None = None) -> None:
        for directory in self._all:
            directory.put("cgroup.procs", str(pid))

    def enter(self) -> None:
        for directory in self._all:
            directory.put("cgroup.procs" if directory is self._unified else "tasks", "0")

    def enter_rest(self) -> None:
        for directory in self._all:
            if directory is not self._unified:
                directory.put("tasks", "0")

    def fd(self) -> int | None:
        return None

    def clone_fd(self) -> int | None:
        # Entering v2's hierarchy by a write waits for a grace period of the kernel's lock on all thread groups, 2 to
        # 12 ms; being born there costs nothing.
        return None if self._unified is None else self._unified.open()

    # --- freezer and kill

    def freeze(self, timeout: float = 10.0) -> None:
        if self._unified is not None:
            freezer.freeze_v2(self._unified, timeout)
        else:
            freezer.freeze_v1(self._freezer(), timeout)

    def thaw(self) -> None:
        if self._unified is not None:
            freezer.thaw_v2(self._unified)
        directory = self._controllers.get("freezer")
        # Another engine may have frozen the group in its own way.
        if directory is not None and (self._unified is None or freezer.frozen_v1(directory)):
            freezer.thaw_v1(directory)

    def frozen(self) -> bool:
        directory = self._controllers.get("freezer")
        return (self._unified is not None and freezer.frozen_v2(self._unified)) or (
            directory is not None and freezer.frozen_v1(directory)
        )

    def _freezer(self) -> Directory:
        directory = self._controllers.get("freezer")
        if directory is None:
            raise CgroupError(errno.ENOENT, "cgroup controller freezer is not available")
        return directory

    def kill(self) -> None:
        if self._unified is None or not freezer.kill_v2(self._unified):
            self._kill_by_signal()
            return
        directory = self._controllers.get("freezer")
        if directory is not None and freezer.frozen_v1(directory):
            freezer.thaw_v1(directory)  # what another engine's freezer holds dies only when it is let go

    def _await_empty(self, directory: Directory, seconds: float) -> None:
        if self._unified is None or not freezer.await_empty_v2(self._unified, seconds):
            time.sleep(seconds)

    # --- figures

    def oom_kill_count(self) -> int:
        directory = self._controllers.get("memory")
        if directory is None:
            return 0
        try:
            return parse_flat(directory.read("memory.oom_control")).get("oom_kill", 0)
        except FileNotFoundError:
            return 0

    def oom_event_fd(self) -> int | None:
        directory = self._controllers.get("memory")
        if directory is None:
            return None
        path = f"{directory.path}/memory.oom_control"
        try:
            control = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.mount.fd)
        except OSError as error:
            raise file_error(error, "open", directory.name("memory.oom_control")) from None
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            directory.write("cgroup.event_control", f"{event} {control}")
        except BaseException:
            os.close(event)
            raise
        finally:
            os.close(control)
        return event

    def stats(self) -> CgroupStats:
        return CgroupStats(self._cpu_stats(), self._memory_stats(), self._pids_stats(), self._blkio_stats())

    def _cpu_stats(self) -> CpuStats:
        total, user, system, per_cpu = _usage(self._controllers.get("cpuacct"))
        throttling = _maybe(self._controllers.get("cpu"), "cpu.stat", parse_flat, {})
        return CpuStats(
            total, user, system, per_cpu,
            throttling.get("nr_periods", 0), throttling.get("nr_throttled", 0), throttling.get("throttled_time", 0),
        )  # fmt: skip

    def _memory_stats(self) -> MemoryStats:
        directory = self._controllers.get("memory")
        return MemoryStats(
            usage=_maybe(directory, "memory.usage_in_bytes", parse_number, 0),
            max_usage=_maybe(directory, "memory.max_usage_in_bytes", parse_number, None),
            limit=_maybe(directory, "memory.limit_in_bytes", parse_limit, None),
            fail_count=_maybe(directory, "memory.failcnt", parse_number, 0),
            stat=_maybe(directory, "memory.stat", parse_flat, {}),
        )

    def _pids_stats(self) -> PidsStats:
        directory = self._controllers.get("pids")
        return PidsStats(
            _maybe(directory, "pids.current", parse_number, 0), _maybe(directory, "pids.max", parse_limit, None)
        )

    def _blkio_stats(self) -> BlkioStats:
        directory = self._controllers.get("blkio")

        def figures(name: str) -> tuple[Operation, ...]:
            # BFQ counts what its queues served; a device without BFQ appears in the throttling layer's figures only.
            nothing: tuple[Operation, ...] = ()
            return _maybe(directory, f"blkio.bfq.{name}_recursive", parse_operations, nothing) or _maybe(
                directory, f"blkio.throttle.{name}_recursive", parse_operations, nothing
            )

        return BlkioStats(figures("io_service_bytes"), figures("io_serviced"))


def _carry_out(directory: Directory, steps: list[tuple[str, str]]) -> None:
    """Consecutive rules for the same file share an open file, one write each."""
    for file, group in itertools.groupby(steps, key=lambda step: step[0]):
        directory.put(file, *(value for _, value in group))


def _maybe(
    directory: Directory | None, file: str, parse: Callable[[str], _Parsed], missing: _Default
) -> _Parsed | _Default:
    return missing if directory is None else directory.figure(file, parse, missing)


def _usage(directory: Directory | None) -> tuple[int, int, int, tuple[int, ...]]:
    """(total, user, system, per CPU) in nanoseconds."""
    table = _maybe(directory, "cpuacct.usage_all", _usage_table, None)
    if table is not None:  # one file for all four, since Linux 4.10
        user, system = sum(row[0] for row in table), sum(row[1] for row in table)
        return user + system, user, system, tuple(row[0] + row[1] for row in table)
    ticks = _maybe(directory, "cpuacct.stat", parse_flat, {})
    return (
        _maybe(directory, "cpuacct.usage", parse_number, 0),
        ticks.get("user", 0) * _TICK_NS,
        ticks.get("system", 0) * _TICK_NS,
        _maybe(directory, "cpuacct.usage_percpu", lambda text: tuple(map(parse_number, text.split())), ()),
    )


def _usage_table(text: str) -> list[tuple[int, int]]:
    """cpuacct.usage_all: a heading, then `CPU USER SYSTEM` for each CPU."""
    rows = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) != 3:
            raise ValueError(f"not a CPU and its two times: {line[:80]!r}")
        rows.append((parse_number(words[1]), parse_number(words[2])))
    return rows


def _fill_cpuset(directory: Directory) -> None:
    """A new v1 cpuset is empty, and takes no process until it has CPUs and memory nodes: give it its parent's."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        if directory.read(file).strip():
            continue  # the parent has cgroup.clone_children set
        parent = directory.parent()
        if parent.path and not parent.read(file).strip():
            _fill_cpuset(parent)
        directory.write(file, parent.read(file).strip())
