"""Hooks: programs that a configuration names for moments of a container's life (runtime-spec, config.md, "Hooks").

Each gets the container's state as JSON on its standard input and has its own arguments, environment and timeout.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.runtime.wire import LaunchFailure


def run(entries: Sequence[Mapping[str, Any]], state: Mapping[str, Any], *, kind: str) -> None:
    """Run hooks one after the other. Raises LaunchFailure at the first that fails."""
    for index, entry in enumerate(entries):
        code = _run_one(entry, json.dumps(state).encode(), f"{kind} hook #{index}")
        if code != 0:
            raise LaunchFailure("hook", f"error running {kind} hook #{index}: exit status {code}")


def _run_one(entry: Mapping[str, Any], state: bytes, name: str) -> int:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        environment = dict(word.partition("=")[::2] for word in entry.get("env") or ())
        arguments = list(entry.get("args") or [entry["path"]])
        pid = os.posix_spawn(
            entry["path"],
            arguments,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0)],
            setsigdef=[signal.SIGPIPE, signal.SIGCHLD],
            setsigmask=[],
        )
    except OSError as error:
        os.close(writing)
        reason = os.strerror(error.errno or 0).lower()
        raise LaunchFailure("hook", f"error running {name}: {entry['path']}: {reason}", error.errno or 0) from None
    finally:
        os.close(reading)
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        # A hook may end without reading its input.
        try:
            os.write(writing, state)
        except BrokenPipeError:
            pass
    finally:
        os.close(writing)
        signal.signal(signal.SIGPIPE, before)
    return _wait(pid, entry.get("timeout"), name)


def _wait(pid: int, timeout: int | None, name: str) -> int:
    if not timeout:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        deadline = time.monotonic() + timeout
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise LaunchFailure("hook", f"error running {name}: signal: killed (timeout of {timeout} s)")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)
