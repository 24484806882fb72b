"""What this host's controllers can do, as `docker info` reports it and as requests are checked against it.

Seen from which control files there are, in a group of our own where the root has none; never from kernel versions.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from windlass.kernel.cgroups.errors import CgroupError
from windlass.kernel.cgroups.hierarchy import Hierarchy
from windlass.kernel.cgroups.v1 import CgroupV1
from windlass.kernel.cgroups.v2 import CgroupV2
from windlass.kernel.cgroups.values import parse_list


class Features(NamedTuple):
    """True where the host can do it; `cpus` and `memory_nodes` are those that containers may be bound to."""

    version: str
    memory_limit: bool = False
    memory_reservation: bool = False
    memory_swap: bool = False
    memory_swappiness: bool = False
    oom_kill_disable: bool = False
    cpu_shares: bool = False
    cpu_quota: bool = False
    cpu_realtime: bool = False
    cpuset: bool = False
    cpus: frozenset[int] = frozenset()
    memory_nodes: frozenset[int] = frozenset()
    pids_limit: bool = False
    blkio_weight: bool = False
    blkio_weight_device: bool = False
    blkio_throttle: bool = False
    hugetlb: bool = False
    devices: bool = False
    freezer: bool = False


def features(hierarchy: Hierarchy, probe: str = "") -> Features:
    """Look for the control files in a group made for it, at the path `probe`, and removed again.

    `probe` defaults to `/windlass-probe-<pid>`. Raises `CgroupError` if no group can be made.
    """
    path = (probe or f"windlass-probe-{os.getpid()}").strip("/")
    group = CgroupV2(hierarchy, path) if hierarchy.version == "v2" else CgroupV1(hierarchy, path)
    group.create()
    try:
        return _look(group)
    finally:
        group.remove()


def _look(group: CgroupV1 | CgroupV2) -> Features:
    v2 = isinstance(group, CgroupV2)

    def has(controller: str, *names: str) -> bool:
        directory = group.directory_of(controller)
        return directory is not None and any(directory.exists(name) for name in names)

    def numbers(name: str) -> frozenset[int]:
        directory = group.directory_of("cpuset")
        if directory is None:
            return frozenset()
        try:
            return directory.figure(name, parse_list, frozenset())
        except ValueError as error:
            raise CgroupError(0, f"{directory.name(name)}: {error}", file=directory.name(name)) from None

    if v2:
        return Features(
            version=group.hierarchy.version,
            memory_limit=has("memory", "memory.max"),
            memory_reservation=has("memory", "memory.low"),
            memory_swap=has("memory", "memory.swap.max"),
            cpu_shares=has("cpu", "cpu.weight"),
            cpu_quota=has("cpu", "cpu.max"),
            cpuset=has("cpuset", "cpuset.cpus"),
            cpus=numbers("cpuset.cpus.effective"),
            memory_nodes=numbers("cpuset.mems.effective"),
            pids_limit=has("pids", "pids.max"),
            blkio_weight=has("io", "io.weight", "io.bfq.weight"),
            blkio_weight_device=has("io", "io.weight", "io.bfq.weight"),
            blkio_throttle=has("io", "io.max"),
            hugetlb=group.directory_of("hugetlb") is not None,
            devices=True,  # BPF_PROG_TYPE_CGROUP_DEVICE is as old as the oldest kernel that this project runs on
            freezer=has("cgroup", "cgroup.freeze"),
        )
    return Features(
        version=group.hierarchy.version,
        memory_limit=has("memory", "memory.limit_in_bytes"),
        memory_reservation=has("memory", "memory.soft_limit_in_bytes"),
        memory_swap=has("memory", "memory.memsw.limit_in_bytes"),
        memory_swappiness=has("memory", "memory.swappiness"),
        oom_kill_disable=has("memory", "memory.oom_control"),
        cpu_shares=has("cpu", "cpu.shares"),
        cpu_quota=has("cpu", "cpu.cfs_quota_us"),
        cpu_realtime=has("cpu", "cpu.rt_runtime_us"),
        cpuset=has("cpuset", "cpuset.cpus"),
        cpus=numbers("cpuset.cpus"),
        memory_nodes=numbers("cpuset.mems"),
        pids_limit=has("pids", "pids.max"),
        blkio_weight=has("blkio", "blkio.weight", "blkio.bfq.weight"),
        blkio_weight_device=has("blkio", "blkio.weight_device", "blkio.bfq.weight_device"),
        blkio_throttle=has("blkio", "blkio.throttle.read_bps_device"),
        hugetlb=group.directory_of("hugetlb") is not None,
        devices=has("devices", "devices.allow"),
        freezer=has("freezer", "freezer.state") or group.hierarchy.unified is not None,
    )
