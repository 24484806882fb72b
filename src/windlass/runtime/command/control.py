"""kill, pause, resume, update: what is done to a container that exists."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import Any

from windlass.errors import InvalidParameter
from windlass.logs.options import parse_size
from windlass.runtime.command.store import CommandError, Container, Store


def kill(store: Store, options: argparse.Namespace) -> int:
    """`kill ID [SIGNAL]`, `kill --all`."""
    container = store.load(options.container)
    number = parse_signal(options.signal)
    if options.all:
        signal_all(container, number)
        return 0
    try:
        descriptor = os.pidfd_open(container.record.pid)
    except ProcessLookupError:
        raise CommandError("container not running") from None
    try:
        if not container.alive:  # asked with the descriptor in hand: it is this process, or it has ended
            raise CommandError("container not running")
        signal.pidfd_send_signal(descriptor, number)
        if number == signal.SIGKILL:
            # A v1 freezer holds even dying tasks.
            container.cgroup().thaw()
    except ProcessLookupError:
        raise CommandError("container not running") from None
    finally:
        os.close(descriptor)
    return 0


def signal_all(container: Container, number: int) -> None:
    """Every process in the container's cgroup."""
    cgroup = container.cgroup()
    if number == signal.SIGKILL:
        cgroup.kill()
        return
    for pid in cgroup.pids():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def pause(store: Store, options: argparse.Namespace) -> int:
    """`pause ID`."""
    container = store.load(options.container)
    if container.status not in ("running", "created"):
        raise CommandError(f"container not running or created: {container.status}")
    container.cgroup().freeze()
    return 0


def resume(store: Store, options: argparse.Namespace) -> int:
    """`resume ID`."""
    container = store.load(options.container)
    if container.status != "paused":
        raise CommandError("container not paused")
    container.cgroup().thaw()
    return 0


def update(store: Store, options: argparse.Namespace) -> int:
    """`update [--resources FILE] [limits] ID`."""
    container = store.load(options.container)
    if container.status == "stopped":
        raise CommandError("container not running")
    if options.l3_cache_schema or options.mem_bw_schema:
        raise CommandError("Intel RDT is not supported")
    wanted = _read_resources(options.resources) if options.resources else _resources_of(options)
    container.cgroup().apply(wanted)
    config = container.config()
    resources = config.setdefault("linux", {}).setdefault("resources", {})
    for group, values in wanted.items():
        if isinstance(values, dict):
            resources.setdefault(group, {}).update(values)
        else:
            resources[group] = values
    container.save_config(config)
    return 0


def parse_signal(text: str) -> int:
    """A number or a name, with or without SIG; RTMIN+n too.

    Raises:
        CommandError: no such signal.
    """
    if text.isascii() and text.isdigit():
        number = int(text)
        if 0 < number < signal.NSIG:
            return number
        raise CommandError(f"unknown signal {text!r}")
    name, plus, offset = text.upper().removeprefix("SIG").partition("+")
    number = getattr(signal, "SIG" + name, 0)
    if not isinstance(number, int) or name.startswith("_") or (plus and not offset.isdigit()):
        number = 0
    number += int(offset or 0) if number else 0
    if not 0 < number < signal.NSIG:
        raise CommandError(f"unknown signal {text!r}")
    return int(number)


def _read_resources(path: str) -> dict[str, Any]:
    try:
        if path == "-":
            value = json.load(sys.stdin)
        else:
            with open(path, encoding="utf-8") as file:
                value = json.load(file)
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise CommandError(f"{path}: a JSON object is expected")
    return value


def _resources_of(options: argparse.Namespace) -> dict[str, Any]:
    """OCI linux.resources from the options that were given."""
    found: dict[str, Any] = {}

    def put(group: str, name: str, value: int | str | None) -> None:
        if value is not None:
            found.setdefault(group, {})[name] = value

    put("blockIO", "weight", options.blkio_weight)
    put("cpu", "period", options.cpu_period)
    put("cpu", "quota", options.cpu_quota)
    put("cpu", "shares", options.cpu_share)
    put("cpu", "realtimePeriod", options.cpu_rt_period)
    put("cpu", "realtimeRuntime", options.cpu_rt_runtime)
    put("cpu", "idle", options.cpu_idle)
    put("cpu", "cpus", options.cpuset_cpus)
    put("cpu", "mems", options.cpuset_mems)
    put("memory", "limit", _bytes(options.memory))
    put("memory", "reservation", _bytes(options.memory_reservation))
    put("memory", "swap", _bytes(options.memory_swap))
    put("pids", "limit", options.pids_limit)
    return found


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "-1":
        return -1
    try:
        return parse_size(text, binary=True)
    except InvalidParameter as error:
        raise CommandError(str(error)) from None
