"""The launcher: a small warm process beside the daemon that forks a monitor for each container.

Starting an interpreter costs 10 to 80 ms and some ten megabytes; forking one that has everything imported costs half a
millisecond and the pages that are written to. So this process imports what a monitor will need, freezes it
(`gc.freeze`: the collector then never writes to those pages), and waits:

    daemon ──SOCK_SEQPACKET, descriptor 3──> launcher ──fork──> monitor, monitor, …

It has one thread, keeps no state, and does nothing else: a launch is reported by its monitor, over the connection that
came with the request. When the daemon goes, the socket ends and so does the launcher; the monitors stay.

    python -I -S -c "…; from windlass.runtime.launcher import main; main(3)"
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time

from windlass.kernel import process
from windlass.kernel.cgroups import detect
from windlass.runtime import records, title, wire
from windlass.runtime.monitor.process import Monitor, tell_failure
from windlass.runtime.wire import LaunchFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from windlass.kernel.cgroups import Hierarchy


def main(descriptor: int) -> None:
    """Serve launches that come over the socket `descriptor` until it ends."""
    control = socket.socket(fileno=descriptor)
    os.chdir("/")
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the daemon's terminal is the daemon's business
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps monitors: nobody here asks how they ended
    process_title = title.ProcessTitle()
    process_title.set("windlass-launcher")
    hierarchy = detect()
    _warm_up()
    gc.collect()
    gc.freeze()
    while True:
        try:
            received = wire.receive_launch(control)
        except (ValueError, OSError) as error:
            print(f"windlass-launcher: bad message: {error}", file=sys.stderr)  # noqa: T201
            continue
        if received is None:
            return
        message, descriptors = received
        try:
            if len(descriptors) == 1 + len(message["attach"]) and os.fork() == 0:
                _become_monitor(control, message, descriptors, process_title, hierarchy)
        except OSError as error:  # no process, no memory
            tell_failure(
                socket.socket(fileno=descriptors.pop(0)),
                LaunchFailure("fork", f"fork: {error.strerror}", error.errno or 0),
            )
        for received_descriptor in descriptors:
            os.close(received_descriptor)


def _warm_up() -> None:
    """What is done lazily the first time is done here, so that no monitor has to pay for it."""
    from windlass.logs import jsonfile, local  # noqa: F401
    from windlass.runtime import own  # noqa: F401

    jsonfile.encode(b"warm\n", "stdout", time.time_ns())
    wire.encode({"event": "started"})


def _become_monitor(
    control: socket.socket,
    message: dict[str, Any],
    descriptors: list[int],
    process_title: title.ProcessTitle,
    hierarchy: Hierarchy,
) -> None:
    """The child's way; does not return."""
    code = 1
    try:
        control.close()
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGPIPE):
            # Stopping the daemon's service must not stop the containers' keepers.
            signal.signal(number, signal.SIG_IGN)
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.close(null)
        process.set_child_subreaper()
        directory = str(message["directory"])
        process_title.set("windlass-monitor " + os.path.basename(directory)[:12])
        attach = [
            (socket.socket(fileno=attached), wants)
            for attached, wants in zip(descriptors[1:], message["attach"], strict=True)
        ]
        try:
            Monitor(directory, socket.socket(fileno=descriptors[0]), attach, hierarchy).run()
            code = 0
        except BaseException:
            # A defect of ours: leave the traceback where the next daemon and a bug report find it.
            import traceback

            with open(os.path.join(directory, records.CRASH), "a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
            raise
    finally:
        os._exit(code)
