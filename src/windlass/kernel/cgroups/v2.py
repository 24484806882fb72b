"""A group in the one hierarchy of cgroup v2.

    /sys/fs/cgroup/windlass/x

A controller's files are in a group only if each group above it passes the controller on (cgroup.subtree_control).
Groups that pass controllers on hold no processes themselves, but for the root.

Linux: admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from windlass.kernel import bpf, inotify
from windlass.kernel.cgroups import devices, freezer
from windlass.kernel.cgroups.directory import Directory
from windlass.kernel.cgroups.errors import CgroupError, file_error
from windlass.kernel.cgroups.group import Cgroup
from windlass.kernel.cgroups.hierarchy import Hierarchy, below_mount, parse_membership
from windlass.kernel.cgroups.resources import plan_v2
from windlass.kernel.cgroups.stats import BlkioStats, CgroupStats, CpuStats, MemoryStats, PidsStats
from windlass.kernel.cgroups.values import Operation, parse_device, parse_flat, parse_limit, parse_nested, parse_number


def make_room(hierarchy: Hierarchy, name: str = "init") -> bool:
    """Move the processes of the mounted top group to a child group, so that the top can pass controllers on.

    Needed where the top is not the root of all groups: in a container with a cgroup namespace, whose processes start in
    what looks like the root to them, and keep it from having child groups with limits. For an engine that is to run in
    a container. Was anything moved? Raises `CgroupError`.
    """
    if hierarchy.version != "v2" or hierarchy.unified is None:
        return False
    top, below = Directory(hierarchy.unified, ""), Directory(hierarchy.unified, name)
    if not top.exists("cgroup.type"):  # only the root has none, and only there processes are in nobody's way
        return False
    moved = False
    for _ in range(100):
        pids = [pid for pid in top.read("cgroup.procs").split() if pid != "0"]
        if not pids:
            return moved
        below.make_if_missing()
        for pid in pids:
            try:
                below.put("cgroup.procs", pid)
                moved = True
            except CgroupError as error:
                if error.errno != errno.ESRCH:  # it has ended
                    raise
    raise CgroupError(errno.EBUSY, f"processes come to {top.name()} faster than they can be moved away")


class CgroupV2(Cgroup):
    """A group of the unified hierarchy."""

    def __init__(self, hierarchy: Hierarchy, path: str, *, relative: bool = False) -> None:
        super().__init__(hierarchy, path if relative else f"/{path}")
        mount = hierarchy.unified
        assert mount is not None
        self._directory = Directory(mount, f"{mount.own}/{path}" if relative and mount.own else path)

    @property
    def paths(self) -> dict[str, str]:
        return {"": self._directory.name()}

    def _directories(self) -> list[Directory]:
        return [self._directory]

    def _processes_directory(self) -> Directory:
        return self._directory

    def directory_of(self, controller: str) -> Directory | None:
        # The core's own files (cgroup.max.depth, …) are everywhere.
        return self._directory if controller in self.hierarchy.controllers or controller == "cgroup" else None

    # --- life

    def create(self) -> None:
        self._directory.make()
        try:
            self._pass_controllers_on()
            kind = self._directory.read("cgroup.type").strip()
            if kind != "domain":
                name = self._directory.name()
                raise CgroupError(errno.EOPNOTSUPP, f"cgroup {name} is {kind}: its parent is threaded", file=name)
        except BaseException:
            self._directory.remove_once()
            raise
        self._fresh = True

    def _pass_controllers_on(self) -> None:
        wanted = self.hierarchy.controllers
        parts = self._directory.path.split("/")[:-1]
        above = [Directory(self._directory.mount, "/".join(parts[:length])) for length in range(len(parts) + 1)]
        if wanted.issubset(above[-1].read("cgroup.subtree_control").split()):
            return
        for directory in above:
            missing = wanted.intersection(directory.read("cgroup.controllers").split())
            missing -= set(directory.read("cgroup.subtree_control").split())
            self._pass_on(directory, sorted(missing))

    def _pass_on(self, directory: Directory, controllers: list[str]) -> None:
        """All at once; if the kernel refuses, one by one, so that one that cannot be (`cpu` while real-time tasks are
        about) does not cost the others. Who asks for a limit of that one will be told."""
        if not controllers:
            return
        file = "cgroup.subtree_control"
        try:
            directory.write(file, " ".join(f"+{name}" for name in controllers))
            return
        except CgroupError as error:
            if error.errno == errno.EBUSY and len(directory.processes()):
                hint = "processes in the group itself keep it from passing controllers on; move them to a child group"
                raise CgroupError(
                    errno.EBUSY, f"{error} ({hint})", file=directory.name(file), value=error.value
                ) from None
        for name in controllers:
            try:
                directory.write(file, f"+{name}")
            except CgroupError:
                continue

    def apply(self, resources: Mapping[str, Any]) -> None:
        writes = plan_v2(resources)
        program = devices.program(devices.parse_rules(resources["devices"])) if resources.get("devices") else None
        self._check_usage(resources)

        def finish() -> None:
            if program is not None:
                self._set_program(program)

        self._settle(writes, finish)
        self._fresh = False

    def _set_program(self, program: bytes) -> None:
        fd = self._directory.open()
        try:
            bpf.set_device_program(fd, program)
        except OSError as error:
            name = self._directory.name()
            raise CgroupError(error.errno or 0, f"setting the device rules of {name}: {error}", file=name) from None
        finally:
            os.close(fd)

    def _check_usage(self, resources: Mapping[str, Any]) -> None:
        """v2 kills rather than refuse a limit below the usage; `checkBeforeUpdate` asks for v1's refusal."""
        memory = resources.get("memory") or {}
        limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
        if self._fresh or not memory.get("checkBeforeUpdate") or limit <= 0:
            return
        for file, value in (("memory.current", limit), ("memory.swap.current", swap - limit if swap > 0 else -1)):
            usage = self._directory.figure(file, parse_number, 0)
            if 0 <= value < usage:
                kind = "swap" if "swap" in file else "memory"
                raise CgroupError(
                    errno.EBUSY, f"unable to set {kind} limit to {value} (current usage: {usage})",
                    file=self._directory.name(file), value=str(value),
                )  # fmt: skip

    def add(self, pid: int, *, beside: int | None = None) -> None:
        try:
            self._directory.put("cgroup.procs", str(pid))
        except CgroupError as error:
            if error.errno != errno.EBUSY or beside is None:
                raise
            self._group_of(beside).put("cgroup.procs", str(pid))

    def _group_of(self, pid: int) -> Directory:
        """The group of a process that lives in this one or below it."""
        mount = self._directory.mount
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
                group = parse_membership(file.read()).get("", "/")
        except OSError as error:
            raise file_error(error, "read", f"/proc/{pid}/cgroup") from None
        path = below_mount(group, mount.root)
        if path != self._directory.path and not path.startswith(self._directory.path + "/"):
            raise CgroupError(errno.ESRCH, f"process {pid} is not in {self._directory.name()}")
        return Directory(mount, path)

    def enter(self) -> None:
        self._directory.put("cgroup.procs", "0")

    def fd(self) -> int | None:
        return self._directory.open()

    # --- freezer and kill

    def freeze(self, timeout: float = 10.0) -> None:
        freezer.freeze_v2(self._directory, timeout)

    def thaw(self) -> None:
        freezer.thaw_v2(self._directory)

    def frozen(self) -> bool:
        return freezer.frozen_v2(self._directory)

    def kill(self) -> None:
        if not freezer.kill_v2(self._directory):
            self._kill_by_signal()

    def _await_empty(self, directory: Directory, seconds: float) -> None:
        freezer.await_empty_v2(directory, seconds)

    # --- figures

    def oom_kill_count(self) -> int:
        return self._directory.figure("memory.events", parse_flat, {}).get("oom_kill", 0)

    def oom_event_fd(self) -> int | None:
        if "memory" not in self.hierarchy.controllers:
            return None
        return inotify.watch_file(f"/proc/self/fd/{self._directory.mount.fd}/{self._directory.path}/memory.events")

    def stats(self) -> CgroupStats:
        directory = self._directory
        cpu = directory.figure("cpu.stat", parse_flat, {})
        nothing: dict[str, dict[str, str]] = {}
        return CgroupStats(
            CpuStats(
                cpu.get("usage_usec", 0) * 1000, cpu.get("user_usec", 0) * 1000, cpu.get("system_usec", 0) * 1000, (),
                cpu.get("nr_periods", 0), cpu.get("nr_throttled", 0), cpu.get("throttled_usec", 0) * 1000,
            ),
            MemoryStats(
                usage=directory.figure("memory.current", parse_number, 0),
                max_usage=directory.figure("memory.peak", parse_number, None),
                limit=directory.figure("memory.max", parse_limit, None),
                fail_count=directory.figure("memory.events", parse_flat, {}).get("oom", 0),
                stat=directory.figure("memory.stat", parse_flat, {}),
            ),
            PidsStats(
                directory.figure("pids.current", parse_number, 0), directory.figure("pids.max", parse_limit, None)
            ),
            _blkio(directory.figure("io.stat", parse_nested, nothing)),
        )  # fmt: skip


def _blkio(figures: dict[str, dict[str, str]]) -> BlkioStats:
    def collect(read: str, write: str) -> tuple[Operation, ...]:
        return tuple(
            Operation(*parse_device(device), op, parse_number(values[name]))
            for device, values in figures.items()
            for op, name in (("read", read), ("write", write))
            if name in values
        )

    return BlkioStats(collect("rbytes", "wbytes"), collect("rios", "wios"))
