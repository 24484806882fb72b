"""A group's figures as the kernel counts them, in units of their own: nanoseconds and bytes.

Where a version or a kernel has no such figure, or the controller is not there, the field is None or empty; zero is a
counted zero.
"""

from __future__ import annotations

from typing import NamedTuple

from windlass.kernel.cgroups.values import Operation


class CpuStats(NamedTuple):
    """`total_ns` = `user_ns` + `system_ns` within the kernel's rounding; `per_cpu_ns` on v1 only. `periods` counts
    enforcement intervals of a quota, `throttled_periods` those in which it was used up."""

    total_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


class MemoryStats(NamedTuple):
    """`usage` includes the page cache, as the kernel counts it; `stat` is memory.stat as it is, so that a reader can
    subtract `total_inactive_file` (v1) or `inactive_file` (v2). `limit` None: unlimited. `fail_count` counts the times
    the limit was hit (v1) or the OOM killer was called (v2: memory.events' `oom`)."""

    usage: int = 0
    max_usage: int | None = None
    limit: int | None = None
    fail_count: int = 0
    stat: dict[str, int] = {}


class PidsStats(NamedTuple):
    """Tasks (threads count) now, and the limit; None: unlimited."""

    current: int = 0
    limit: int | None = None


class BlkioStats(NamedTuple):
    """Per device and operation, child groups included. Operations are named as the version names them: `Read` and
    `Write` (v1, with `Sync`, `Async`, `Discard` and `Total` beside them), `read` and `write` (v2)."""

    service_bytes: tuple[Operation, ...] = ()
    serviced: tuple[Operation, ...] = ()


class CgroupStats(NamedTuple):
    """All of it, at one moment."""

    cpu: CpuStats = CpuStats()
    memory: MemoryStats = MemoryStats()
    pids: PidsStats = PidsStats()
    blkio: BlkioStats = BlkioStats()
