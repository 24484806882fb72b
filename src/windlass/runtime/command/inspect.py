"""state, list, ps, events: what can be seen of containers."""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from windlass.kernel.cgroups import BlkioStats, CgroupStats, Operation
from windlass.runtime.command.store import CommandError, Container, Store

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def state(store: Store, options: argparse.Namespace) -> int:
    """`state ID`: the state as JSON."""
    _print(json.dumps(store.load(options.container).state(), indent=2))
    return 0


def list_containers(store: Store, options: argparse.Namespace) -> int:
    """`list [--format json] [--quiet]`."""
    containers = list(store.list())
    if options.quiet:
        for container in containers:
            _print(container.record.id)
        return 0
    states = [container.state() for container in containers]
    if options.format == "json":
        _print(json.dumps(states or None))
        return 0
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    for found in states:
        rows.append(
            (found["id"], str(found["pid"]), found["status"], found["bundle"], found["created"], found["owner"])
        )
    _print_table(rows)
    return 0


def processes(store: Store, options: argparse.Namespace) -> int:
    """`ps ID [options of ps(1)]`."""
    container = store.load(options.container)
    pids = container.cgroup().pids()
    if options.format == "json":
        _print(json.dumps(pids))
        return 0
    arguments = [argument for argument in options.options if argument != "--"] or ["-ef"]
    import subprocess

    output = subprocess.run(["ps", *arguments], check=True, capture_output=True, text=True).stdout.splitlines()
    titles = output[0].split()
    if "PID" not in titles:
        raise CommandError("couldn't find PID field in ps output")
    column = titles.index("PID")
    _print(output[0])
    for line in output[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            _print(line)
    return 0


def events(store: Store, options: argparse.Namespace) -> int:
    """`events [--interval 5s] [--stats] ID`: JSON objects, until the container has ended."""
    container = store.load(options.container)
    seconds = parse_duration(options.interval)
    if container.status == "stopped":
        raise CommandError(f"container with id {container.record.id} is not running")
    if options.stats:
        _print_event(container, "stats", stats_document(container.cgroup().stats()))
        return 0
    cgroup = container.cgroup()
    descriptor = cgroup.oom_event_fd()
    watched = [] if descriptor is None else [descriptor]
    killed = cgroup.oom_kill_count()
    due = time.monotonic() + seconds
    process = os.pidfd_open(container.record.pid)
    try:
        while True:
            ready, _, _ = select.select([*watched, process], [], [], max(0.0, due - time.monotonic()))
            if process in ready:
                return 0
            if ready and descriptor is not None:
                os.read(descriptor, 4096)
                if (count := cgroup.oom_kill_count()) > killed:
                    killed = count
                    _print_event(container, "oom", None)
            if time.monotonic() >= due:
                due = time.monotonic() + seconds
                _print_event(container, "stats", stats_document(cgroup.stats()))
    finally:
        os.close(process)
        if descriptor is not None:
            os.close(descriptor)


def parse_duration(text: str) -> float:
    """Seconds of "5s", "1m30s", "100ms".

    Raises:
        CommandError: it is none, or not positive.
    """
    total, end = 0.0, 0
    for match in _DURATION.finditer(text):
        if match.start() != end:
            break
        total += float(match[1]) * _UNITS[match[2]]
        end = match.end()
    if end != len(text) or total <= 0:
        raise CommandError(f"duration interval must be greater than 0: {text!r}")
    return total


def stats_document(stats: CgroupStats) -> dict[str, Any]:
    """The figures in the form that other runtimes print and engines parse."""
    memory = stats.memory
    return {
        "cpu": {
            "usage": {
                "total": stats.cpu.total_ns,
                "percpu": list(stats.cpu.per_cpu_ns),
                "kernel": stats.cpu.system_ns,
                "user": stats.cpu.user_ns,
            },
            "throttling": {
                "periods": stats.cpu.periods,
                "throttledPeriods": stats.cpu.throttled_periods,
                "throttledTime": stats.cpu.throttled_ns,
            },
        },
        "memory": {
            "cache": memory.stat.get("cache", memory.stat.get("file", 0)),
            "usage": {
                "limit": _unlimited(memory.limit),
                "usage": memory.usage,
                "max": memory.max_usage or 0,
                "failcnt": memory.fail_count,
            },
            "raw": dict(memory.stat),
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit or 0},
        "blkio": _blkio(stats.blkio),
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _unlimited(limit: int | None) -> int:
    """As v1 writes "no limit", which is what readers of these figures know."""
    return (1 << 63) - 4096 if limit is None else limit


def _blkio(blkio: BlkioStats) -> dict[str, Any]:
    def entries(operations: Iterable[Operation]) -> list[dict[str, Any]]:
        return [{"major": o.major, "minor": o.minor, "op": o.op, "value": o.value} for o in operations]

    return {
        "ioServiceBytesRecursive": entries(blkio.service_bytes),
        "ioServicedRecursive": entries(blkio.serviced),
    }


def _print_event(container: Container, kind: str, data: dict[str, Any] | None) -> None:
    event: dict[str, Any] = {"type": kind, "id": container.record.id}
    if data is not None:
        event["data"] = data
    _print(json.dumps(event, separators=(",", ":")))
    sys.stdout.flush()


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        _print("   ".join(field.ljust(width) for field, width in zip(row, widths, strict=True)).rstrip())


def _print(text: str) -> None:
    print(text)  # noqa: T201
