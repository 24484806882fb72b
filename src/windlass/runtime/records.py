"""The files in which a container's state outlives whoever wrote it: `<exec-root>/containers/<id>/`.

    config.json    OCI runtime config           written by the engine before a launch
    launch.json    the monitor's settings       written by the engine before a launch; whoever launches holds the lock
    state.json     pid, start time              written by the monitor when the container runs
    exit.json      how it ended                 written by the monitor, whole or not at all, before anybody is told
    execs/ID.json  how a process that was executed in it ended; likewise
    monitor.sock   where the monitor listens
    monitor.crash  the traceback of a monitor that died of a defect
    (flock on the directory itself: held by the monitor as long as it lives)

The lock decides whether there is a monitor: with it in hand a daemon that has just been started knows that none is
alive and none can begin, whatever the files say.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import Any, NamedTuple

CONFIG = "config.json"
LAUNCH = "launch.json"
STATE = "state.json"
EXIT = "exit.json"
EXECS = "execs"
SOCKET = "monitor.sock"
CRASH = "monitor.crash"


class ExitStatus(NamedTuple):
    """How a container ended.

    Attributes:
        exit_code: 0 to 255; 128 + signal where a signal ended it.
        oom_killed: whether the kernel killed something in it for want of memory.
        exited_at_ns: nanoseconds since 1970.
        error: what went wrong on our side ("" if nothing did).
    """

    exit_code: int
    oom_killed: bool
    exited_at_ns: int
    error: str = ""


def open_directory(path: str) -> int:
    """A descriptor of a container's directory, for the functions below."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def try_lock(directory: int) -> bool:
    """Take the monitor's lock on a directory; False if another process has it. Closing the descriptor releases it."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(directory: int) -> None:
    """Give the lock back, even if a child process still has a copy of the descriptor."""
    fcntl.flock(directory, fcntl.LOCK_UN)


def read(directory: int, name: str) -> dict[str, Any] | None:
    """The JSON object in a file, None if there is no such file.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size + 1)
        while len(data) <= size and (more := os.read(descriptor, 1 << 16)):
            data += more
    finally:
        os.close(descriptor)
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError(f"{name}: a JSON object is expected")
    return value


def write(directory: int, name: str, value: dict[str, Any]) -> None:
    """Write a JSON object, visible at once and as a whole."""
    temporary = f"{name}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        view: bytes | memoryview = json.dumps(value, separators=(",", ":")).encode()
        while (written := os.write(descriptor, view)) < len(view):
            view = memoryview(view)[written:]
    except OSError:
        os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(descriptor)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def remove(directory: int, name: str) -> None:
    """Remove a file if it is there."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def exit_to_json(status: ExitStatus) -> dict[str, Any]:
    """The contents of exit.json, which are also those of the event."""
    return {
        "exitCode": status.exit_code,
        "oomKilled": status.oom_killed,
        "exitedAt": status.exited_at_ns,
        "error": status.error,
    }


def exit_from_json(value: dict[str, Any]) -> ExitStatus:
    """Read back what `exit_to_json` made."""
    return ExitStatus(
        exit_code=int(value["exitCode"]),
        oom_killed=bool(value["oomKilled"]),
        exited_at_ns=int(value["exitedAt"]),
        error=str(value.get("error", "")),
    )
