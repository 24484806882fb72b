"""Processes by descriptor (pidfd_open(2)): a pid may name another process tomorrow, a pidfd never does."""

from __future__ import annotations

import errno
import os
import select
import signal as signals

from windlass.kernel.syscalls import PIDFD_GETFD, call


def open_pidfd(pid: int) -> int:
    """A descriptor of the process `pid`. ESRCH if there is none (a zombie still counts as one)."""
    return os.pidfd_open(pid)


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal; `ProcessLookupError` if the process has ended."""
    signals.pidfd_send_signal(pidfd, number)


def get_fd(pidfd: int, fd: int) -> int:
    """A copy of a descriptor of another process, close-on-exec."""
    return call("pidfd_getfd", PIDFD_GETFD, pidfd, fd)


def has_ended(pidfd: int) -> bool:
    """Has the process ended (reaped or not)?"""
    return wait_end(pidfd, 0.0)


def wait_end(pidfd: int, seconds: float | None = None) -> bool:
    """Wait until the process has ended, at most `seconds`; did it? Reaps nothing, and need not be the parent."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def reap(pidfd: int) -> int:
    """Wait for the end of a child and reap it: its exit code as subprocesses have it (negative for a signal)."""
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if result is None:
        raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
