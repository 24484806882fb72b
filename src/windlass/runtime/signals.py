"""Signals without the enumerations of the signal module: using those makes pages of a forked process its own."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SIGCHLD: int = int(_signal.SIGCHLD)
SIGTERM: int = int(_signal.SIGTERM)


def ignore(number: int) -> None:
    """Let a signal have no effect."""
    _signal.signal(number, _signal.SIG_IGN)


def default(number: int) -> None:
    """Let a signal have its usual effect."""
    _signal.signal(number, _signal.SIG_DFL)


def handle(number: int, handler: Callable[[int, FrameType | None], None]) -> None:
    """Call `handler` on a signal."""
    _signal.signal(number, handler)


def set_wakeup_descriptor(descriptor: int) -> None:
    """Write the number of each signal that has a handler to a non-blocking descriptor; -1: no more."""
    _signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)


def send(pidfd: int, number: int) -> None:
    """Signal the process of a pidfd.

    Raises:
        ProcessLookupError: it has ended and been reaped.
    """
    _signal.pidfd_send_signal(pidfd, number)
