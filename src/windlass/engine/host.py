"""What this host can do, looked at once when the engine starts: limits that its control groups know, LSMs, numbers.

`docker info` shows it, and a create request is checked against it: a limit that the host does not know is dropped with
a warning, as dockerd does, never silently.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from windlass.kernel import cgroups

# Values such as 1-9223372036854775807 must not fill the memory (CVE-2018-20699).
MOST_CPUS = 8192


def parse_uint_list(text: str, *, most: int = MOST_CPUS) -> frozenset[int]:
    """The numbers of a cpuset list such as `0-2,7`. Raises `ValueError`."""
    if not text:
        return frozenset()
    return frozenset(_uint_list(text, most))


def _uint_list(text: str, most: int) -> Iterator[int]:
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()) or int(last) < int(first):
            raise ValueError(f"invalid format: {text}")
        if int(last) > most:
            raise ValueError(f"value of out range, maximum is {most}")
        yield from range(int(first), int(last) + 1)


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The facts, named as in dockerd's sysinfo. Everything is there unless a probe says otherwise."""

    cgroup_version: str = "2"
    controllers: frozenset[str] = frozenset()
    memory_limit: bool = True
    swap_limit: bool = True
    memory_reservation: bool = True
    oom_kill_disable: bool = True
    memory_swappiness: bool = True
    cpu_shares: bool = True
    cpu_cfs: bool = True
    cpu_realtime: bool = False
    cpuset: bool = True
    cpus: str = ""
    mems: str = ""
    blkio_weight: bool = True
    blkio_weight_device: bool = True
    blkio_read_bps: bool = True
    blkio_write_bps: bool = True
    blkio_read_iops: bool = True
    blkio_write_iops: bool = True
    pids_limit: bool = True
    cgroup_namespaces: bool = True
    time_namespaces: bool = True
    ipv4_forwarding: bool = True
    apparmor: bool = False
    selinux: bool = False
    seccomp: bool = True
    cpu_count: int = 1
    memory_total: int = 0
    hostname: str = ""
    kernel_version: str = ""
    architecture: str = ""
    operating_system: str = ""
    os_version: str = ""
    thermal_throttle: tuple[str, ...] = field(default=())
    sysctls: frozenset[str] = frozenset()


def _exists(path: str) -> bool:
    return os.path.exists(path)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def memory_total(meminfo: str) -> int:
    """`MemTotal` of a /proc/meminfo text, in bytes."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def os_release(text: str) -> tuple[str, str]:
    """`PRETTY_NAME` and `VERSION_ID` of an os-release text."""
    values = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and not name.startswith("#"):
            values[name.strip()] = value.strip().strip("\"'")
    return values.get("PRETTY_NAME") or "Linux", values.get("VERSION_ID", "")


def _v1_facts(hierarchy: cgroups.Hierarchy) -> dict[str, object]:
    where = {controller: mount.path for mount in hierarchy.mounts for controller in mount.controllers}

    def has(controller: str, file: str) -> bool:
        return controller in where and _exists(f"{where[controller]}/{file}")

    return {
        "cgroup_version": "1",
        "memory_limit": "memory" in where,
        "swap_limit": has("memory", "memory.memsw.limit_in_bytes"),
        "memory_reservation": has("memory", "memory.soft_limit_in_bytes"),
        "oom_kill_disable": has("memory", "memory.oom_control"),
        "memory_swappiness": has("memory", "memory.swappiness"),
        "cpu_shares": has("cpu", "cpu.shares"),
        "cpu_cfs": has("cpu", "cpu.cfs_quota_us"),
        "cpu_realtime": has("cpu", "cpu.rt_period_us"),
        "cpuset": "cpuset" in where,
        "cpus": _text(f"{where['cpuset']}/cpuset.cpus") if "cpuset" in where else "",
        "mems": _text(f"{where['cpuset']}/cpuset.mems") if "cpuset" in where else "",
        "blkio_weight": has("blkio", "blkio.weight") or has("blkio", "blkio.bfq.weight"),
        "blkio_weight_device": has("blkio", "blkio.weight_device") or has("blkio", "blkio.bfq.weight_device"),
        "blkio_read_bps": has("blkio", "blkio.throttle.read_bps_device"),
        "blkio_write_bps": has("blkio", "blkio.throttle.write_bps_device"),
        "blkio_read_iops": has("blkio", "blkio.throttle.read_iops_device"),
        "blkio_write_iops": has("blkio", "blkio.throttle.write_iops_device"),
        "pids_limit": "pids" in where,
    }


def _v2_facts(hierarchy: cgroups.Hierarchy) -> dict[str, object]:
    controllers = hierarchy.controllers
    root = hierarchy.unified.path if hierarchy.unified else "/sys/fs/cgroup"
    io, memory, cpuset = "io" in controllers, "memory" in controllers, "cpuset" in controllers
    return {
        "cgroup_version": "2",
        "memory_limit": memory,
        "swap_limit": memory and _exists("/proc/swaps"),
        "memory_reservation": memory,
        "oom_kill_disable": False,
        "memory_swappiness": False,
        "cpu_shares": "cpu" in controllers,
        "cpu_cfs": "cpu" in controllers,
        "cpu_realtime": False,
        "cpuset": cpuset,
        "cpus": _text(f"{root}/cpuset.cpus.effective") if cpuset else "",
        "mems": _text(f"{root}/cpuset.mems.effective") if cpuset else "",
        "blkio_weight": io,
        "blkio_weight_device": io,
        "blkio_read_bps": io,
        "blkio_write_bps": io,
        "blkio_read_iops": io,
        "blkio_write_iops": io,
        "pids_limit": "pids" in controllers,
    }


def look() -> HostFacts:
    """Look at this host. Blocking, about a millisecond."""
    with closing(cgroups.detect()) as hierarchy:
        limits = _v2_facts(hierarchy) if hierarchy.version == "v2" else _v1_facts(hierarchy)
        controllers = hierarchy.controllers
    names = os.uname()
    system, version = os_release(_text("/etc/os-release") or _text("/usr/lib/os-release"))
    count = os.cpu_count() or 1
    throttles = (f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(count))
    sysctls = ("net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start")
    return HostFacts(
        **limits,  # type: ignore[arg-type]
        controllers=controllers,
        cgroup_namespaces=_exists("/proc/self/ns/cgroup"),
        time_namespaces=_exists("/proc/self/ns/time"),
        ipv4_forwarding=_text("/proc/sys/net/ipv4/ip_forward") == "1",
        apparmor=_text("/sys/module/apparmor/parameters/enabled") == "Y"
        and _exists("/sys/kernel/security/apparmor/profiles"),
        selinux=_exists("/sys/fs/selinux/enforce"),
        seccomp=_exists("/proc/sys/kernel/seccomp/actions_avail"),
        cpu_count=len(os.sched_getaffinity(0)),
        memory_total=memory_total(_text("/proc/meminfo")),
        hostname=names.nodename,
        kernel_version=names.release,
        architecture=platform.machine(),
        operating_system=system,
        os_version=version,
        thermal_throttle=tuple(path for path in throttles if _exists(path)),
        sysctls=frozenset(name for name in sysctls if _exists(f"/proc/sys/{name.replace('.', '/')}")),
    )
