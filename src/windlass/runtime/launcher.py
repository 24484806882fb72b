"""The launcher: a small warm process beside the daemon that forks a monitor for each container.

Starting an interpreter costs 10 to 80 ms and some ten megabytes; forking one that has everything imported costs half a
millisecond and the pages that are written to. So this process imports what a monitor and its builder will need, freezes
it (`gc.freeze`: the collector then never writes to those pages), and waits:

    daemon ──SOCK_SEQPACKET, descriptor 3──> launcher ──fork──> monitor, monitor, …

One monitor always stands by (monitor/standby.py), so that a launch waits for no fork. The launcher has one thread,
keeps
no state, and does nothing else: a launch is reported by its monitor, over the connection that came with the request.
When the daemon goes, the socket ends and so does the launcher; the monitors stay.

    python -I -S -c "…; from windlass.runtime.launcher import main; main(3)"
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

from windlass.kernel import process
from windlass.kernel.cgroups import detect
from windlass.runtime import sockets, title, wire
from windlass.runtime.monitor.process import tell_failure
from windlass.runtime.monitor.standby import Standby
from windlass.runtime.wire import LaunchFailure

_LAST_DESCRIPTOR = 0x7FFFFFFF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def main(descriptor: int) -> None:
    """Serve launches that come over the socket `descriptor` until it ends."""
    # What the daemon may have let us inherit would stay open as long as the longest-lived container.
    process.close_range(descriptor + 1, _LAST_DESCRIPTOR)
    control = sockets.adopt(descriptor)
    os.set_inheritable(descriptor, False)
    os.chdir("/")
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the daemon's terminal is the daemon's business
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps monitors: nobody here asks how they ended
    process_title = title.ProcessTitle()
    process_title.set("windlass-launcher")
    hierarchy = detect()
    _warm_up()
    gc.collect()
    gc.freeze()

    def prepare() -> Standby:
        return Standby(control, process_title, hierarchy)

    standby = _try(prepare)
    while True:
        try:
            received = wire.receive_launch(control)
        except (ValueError, OSError) as error:
            print(f"windlass-launcher: bad message: {error}", file=sys.stderr)  # noqa: T201
            continue
        if received is None:
            return
        message, descriptors = received
        _launch(standby, prepare, message, descriptors)
        for received_descriptor in descriptors:
            os.close(received_descriptor)
        standby = _try(prepare)


def _launch(
    standby: Standby | None, prepare: Callable[[], Standby], message: dict[str, Any], descriptors: list[int]
) -> None:
    """Give a launch to the pair that stands by, or if that is dead to a new one."""
    for attempt in (1, 2):
        try:
            (standby if standby is not None and attempt == 1 else prepare()).order(message, descriptors)
            return
        except OSError as error:
            problem = error
    # No process, no memory.
    failure = LaunchFailure("fork", f"fork: {problem.strerror}", problem.errno or 0)
    tell_failure(sockets.adopt(os.dup(descriptors[0])), failure)


def _try(prepare: Callable[[], Standby]) -> Standby | None:
    try:
        return prepare()
    except OSError:
        return None  # the next launch tries again, and tells


def _warm_up() -> None:
    """What is done lazily the first time is done here, so that no monitor has to pay for it."""
    from windlass.logs import jsonfile, local  # noqa: F401
    from windlass.runtime import own  # noqa: F401

    jsonfile.encode(b"warm\n", "stdout", time.time_ns())
    wire.encode({"event": "started"})
