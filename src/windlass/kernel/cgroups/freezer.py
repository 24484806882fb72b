"""Stopping, letting go and killing all tasks of a group.

v2 tells when it is done: cgroup.events signals POLLPRI when `frozen` or `populated` changes, and cgroup.kill (Linux
5.14) leaves nothing to race with. v1's freezer.state has to be read until it says FROZEN, and a task that it holds
dies of a signal only when it is let go.

Linux: cgroup-v2.rst, "Core Interface Files"; cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import errno
import os
import select
import time

from windlass.kernel.cgroups.directory import Directory
from windlass.kernel.cgroups.errors import CgroupError, file_error
from windlass.kernel.cgroups.values import parse_flat

_EVENTS = "cgroup.events"


def _await_event(directory: Directory, key: str, wanted: int, seconds: float) -> bool:
    """Wait until cgroup.events says that `key` is `wanted`; False if it does not in that time."""
    try:
        fd = os.open(f"{directory.path}/{_EVENTS}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.mount.fd)
    except OSError as error:
        raise file_error(error, "open", directory.name(_EVENTS)) from None
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        deadline = time.monotonic() + seconds
        while parse_flat(os.pread(fd, 4096, 0).decode())[key] != wanted:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
        return True
    except OSError as error:
        raise file_error(error, "read", directory.name(_EVENTS)) from None
    finally:
        os.close(fd)


def _stuck(directory: Directory, seconds: float) -> CgroupError:
    name = directory.name()
    return CgroupError(errno.ETIMEDOUT, f"freeze {name}: a task did not stop within {seconds:g} s", file=name)


def freeze_v2(directory: Directory, timeout: float) -> None:
    """Freeze and wait for it; on ETIMEDOUT (a task in an uninterruptible call) the group is thawed again."""
    directory.put("cgroup.freeze", "1")
    if not _await_event(directory, "frozen", 1, timeout):
        directory.put("cgroup.freeze", "0")
        raise _stuck(directory, timeout)


def thaw_v2(directory: Directory) -> None:
    """Let go, also where nothing is frozen."""
    directory.put("cgroup.freeze", "0")


def frozen_v2(directory: Directory) -> bool:
    """Is freezing asked for in this very group?"""
    try:
        return directory.read("cgroup.freeze").strip() == "1"
    except FileNotFoundError:
        return False


def kill_v2(directory: Directory) -> bool:
    """SIGKILL to all in one step. False where the kernel cannot, True also where the group is gone."""
    try:
        directory.write("cgroup.kill", "1")
    except FileNotFoundError:
        return not directory.exists()
    except CgroupError as error:
        if error.errno == errno.EOPNOTSUPP:  # a threaded group
            return False
        raise
    return True


def await_empty_v2(directory: Directory, seconds: float) -> bool:
    """Wait until no task is in the group or below it. False if some still are, or if there is nothing to ask."""
    try:
        return _await_event(directory, "populated", 0, seconds)
    except CgroupError as error:
        if error.errno in {errno.ENOENT, errno.ENODEV}:
            return False
        raise


def freeze_v1(directory: Directory, timeout: float) -> None:
    """Freeze and wait for it; on ETIMEDOUT the group is thawed again."""
    deadline = time.monotonic() + timeout
    pause = 0.0
    while True:
        # Asked anew each time: a task that was forking while the state was set makes the kernel look again only so.
        directory.put("freezer.state", "FROZEN")
        if directory.read("freezer.state").strip() == "FROZEN":
            return
        if time.monotonic() > deadline:
            directory.put("freezer.state", "THAWED")
            raise _stuck(directory, timeout)
        time.sleep(pause)
        pause = min(pause + 0.0002, 0.01)


def thaw_v1(directory: Directory) -> None:
    """Let go, also where nothing is frozen."""
    directory.put("freezer.state", "THAWED")


def frozen_v1(directory: Directory) -> bool:
    """Is the group frozen, or about to be?"""
    try:
        return directory.read("freezer.state").strip() != "THAWED"
    except FileNotFoundError:
        return False
