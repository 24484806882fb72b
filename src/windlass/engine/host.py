"""What this host can do, looked at once when the engine starts: limits that its control groups know, LSMs, numbers.

`docker info` shows it, and a create request is checked against it: a limit that the host does not know is dropped with
a warning, as dockerd does, never silently.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from windlass.kernel import cgroups, lsm

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


def format_uint_list(numbers: Collection[int]) -> str:
    """`0-2,7`, the shortest list of these numbers."""
    parts: list[str] = []
    ordered = sorted(numbers)
    start = 0
    for place, number in enumerate(ordered):
        if place + 1 < len(ordered) and ordered[place + 1] == number + 1:
            continue
        first = ordered[start]
        parts.append(str(number) if first == number else f"{first}-{number}")
        start = place + 1
    return ",".join(parts)


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


def _limits(found: cgroups.Features) -> dict[str, Any]:
    """What the control groups can do, in the names of `HostFacts`."""
    return {
        "cgroup_version": "2" if found.version == "v2" else "1",
        "memory_limit": found.memory_limit,
        "swap_limit": found.memory_swap,
        "memory_reservation": found.memory_reservation,
        "oom_kill_disable": found.oom_kill_disable,
        "memory_swappiness": found.memory_swappiness,
        "cpu_shares": found.cpu_shares,
        "cpu_cfs": found.cpu_quota,
        "cpu_realtime": found.cpu_realtime,
        "cpuset": found.cpuset,
        "cpus": format_uint_list(found.cpus),
        "mems": format_uint_list(found.memory_nodes),
        "blkio_weight": found.blkio_weight,
        "blkio_weight_device": found.blkio_weight_device,
        "blkio_read_bps": found.blkio_throttle,
        "blkio_write_bps": found.blkio_throttle,
        "blkio_read_iops": found.blkio_throttle,
        "blkio_write_iops": found.blkio_throttle,
        "pids_limit": found.pids_limit,
    }


def look(hierarchy: cgroups.Hierarchy) -> HostFacts:
    """Look at this host. Blocking, some milliseconds. Raises `CgroupError` if no control group can be made."""
    limits = _limits(cgroups.features(hierarchy))
    names = os.uname()
    system, version = os_release(_text("/etc/os-release") or _text("/usr/lib/os-release"))
    count = os.cpu_count() or 1
    throttles = (f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(count))
    sysctls = ("net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start")
    return HostFacts(
        **limits,
        controllers=hierarchy.controllers,
        cgroup_namespaces=_exists("/proc/self/ns/cgroup"),
        time_namespaces=_exists("/proc/self/ns/time"),
        ipv4_forwarding=_text("/proc/sys/net/ipv4/ip_forward") == "1",
        apparmor=lsm.apparmor_enabled(),
        selinux=lsm.selinux_enabled(),
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
