"""Processes by descriptor (pidfd_open(2)): a pidfd names one process for good, a number may go to another."""

from __future__ import annotations

import os
import select
import signal

from windlass.kernel import syscalls
from windlass.kernel.syscalls import syscall


def pidfd_open(pid: int) -> int:
    """A close-on-exec descriptor of a process; readable once it has ended. Raises ProcessLookupError."""
    return os.pidfd_open(pid)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Send a signal. Raises ProcessLookupError where the process has ended and was reaped."""
    signal.pidfd_send_signal(pidfd, number)


def pidfd_getfd(pidfd: int, descriptor: int) -> int:
    """A copy of another process's descriptor (pidfd_getfd(2))."""
    return syscall(syscalls.PIDFD_GETFD, pidfd, descriptor, 0, name="pidfd_getfd")


def has_ended(pidfd: int) -> bool:
    """Whether the process has ended, reaped or not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot: with the pid it names a process (proc_pid_stat(5)).

    Raises ProcessLookupError where there is none.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None


def open_checked(pid: int, started: int) -> int:
    """A pidfd of the process that had `pid` and started at `started`; ProcessLookupError where it is another now."""
    pidfd = pidfd_open(pid)
    try:
        if start_time(pid) != started:
            raise ProcessLookupError(pid)
    except BaseException:
        os.close(pidfd)
        raise
    return pidfd
