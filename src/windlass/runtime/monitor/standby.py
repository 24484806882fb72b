"""A monitor and its builder, forked before anybody needs them: a launch then waits for no fork and no page fault.

    launcher ── orders ──> monitor      the same message to both; the monitor's carries the streams to attach
             ── orders ──> builder ── what was built ──> monitor

Both end when the launcher closes its ends without an order.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import time

from windlass.kernel import process
from windlass.runtime import records, signals, sockets, wire
from windlass.runtime.burial import bury
from windlass.runtime.monitor.builder import ContainerBuilder, receive_result, warm_up
from windlass.runtime.monitor.process import Monitor, tell_failure
from windlass.runtime.sockets import Socket
from windlass.runtime.wire import LaunchFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from windlass.kernel.cgroups import Hierarchy
    from windlass.runtime.title import ProcessTitle

_LARGEST_ORDER = 1 << 16
_TRIES = 400
_PAUSE = 0.005
_DIED = "the process that built the container has died (out of memory?)"


class Standby:
    """The launcher's ends: a pair that waits for an order.

    Args:
        control: the launcher's own socket, which the new processes close.
        title: of the launcher's process, to be changed in the new ones.
        hierarchy: the host's cgroups.

    Raises:
        OSError: no process, no memory.
    """

    def __init__(self, control: Socket, title: ProcessTitle, hierarchy: Hierarchy) -> None:
        self._monitor, monitor = sockets.pair(packets=True)
        self._builder, builder = sockets.pair(packets=True)
        try:
            if os.fork() == 0:
                for inherited in (control, self._monitor, self._builder):
                    inherited.close()
                _stand_by(monitor, builder, title, hierarchy)
        except OSError:
            self.close()
            raise
        finally:
            monitor.close()
            builder.close()

    def close(self) -> None:
        """Let them go."""
        self._monitor.close()
        self._builder.close()

    def order(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Send them to work.

        Args:
            message: as it came from the client.
            descriptors: the control connection, then the streams to attach. They are sent; the caller closes its own.

        Raises:
            OSError: they have died.
        """
        try:
            if select.select([self._monitor, self._builder], [], [], 0)[0]:  # they never write: it is the end
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            # First to whom the client waits for. If the second sending fails, the builder finds nobody to hand over to.
            data = marshal.dumps(message)
            sockets.send(self._builder, data, descriptors[:1])
            sockets.send(self._monitor, data, descriptors)
        finally:
            self.close()


def _stand_by(monitor: Socket, builder: Socket, title: ProcessTitle, hierarchy: Hierarchy) -> NoReturn:
    """The new process: the monitor-to-be, whose child is the builder-to-be."""
    code = 1
    try:
        os.setsid()
        # Stopping the daemon's service must not stop the containers' keepers.
        signals.ignore(signals.SIGTERM)
        signals.default(signals.SIGCHLD)
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.close(null)
        process.set_child_subreaper()
        ours, theirs = sockets.pair(packets=True)
        if os.fork() == 0:
            ours.close()
            monitor.close()
            _build(builder, theirs, title, hierarchy)
        theirs.close()
        builder.close()
        _keep(monitor, ours, title, hierarchy)
        code = 0
    finally:
        os._exit(code)


def _build(orders: Socket, channel: Socket, title: ProcessTitle, hierarchy: Hierarchy) -> NoReturn:
    code = 1
    directory = ""
    try:
        title.set("windlass-builder")
        warm_up(hierarchy)
        received = _receive_order(orders)
        orders.close()
        if received is not None:
            message, descriptors = received
            directory = str(message["directory"])
            with _noting_defects(directory):
                ContainerBuilder(directory, channel, sockets.adopt(descriptors[0]), hierarchy).run()
        code = 0
    finally:
        os._exit(code)


def _keep(orders: Socket, channel: Socket, title: ProcessTitle, hierarchy: Hierarchy) -> None:
    title.set("windlass-monitor")
    received = _receive_order(orders)
    orders.close()
    if received is None:
        return
    message, descriptors = received
    directory = str(message["directory"])
    title.set("windlass-monitor " + os.path.basename(directory)[:12])
    with _noting_defects(directory):
        control = sockets.adopt(descriptors[0])
        attach = [
            (sockets.adopt(attached), wants) for attached, wants in zip(descriptors[1:], message["attach"], strict=True)
        ]
        try:
            built = receive_result(channel)
            channel.close()
            if built is None:
                # Its half-made child dies with it, and may hold the lock for a moment.
                for _ in range(_TRIES):
                    if bury(directory, _DIED):
                        break
                    time.sleep(_PAUSE)
                raise LaunchFailure("monitor", _DIED)
        except LaunchFailure as failure:
            for connection, _ in attach:
                connection.close()
            tell_failure(control, failure)
            return
        Monitor(directory, built, control, attach, hierarchy).run()


def _receive_order(orders: Socket) -> tuple[dict[str, Any], list[int]] | None:
    data, descriptors = sockets.receive(orders, _LARGEST_ORDER, 1 + wire.MAX_ATTACHERS)
    return (marshal.loads(data), descriptors) if data else None  # noqa: S302 - from the launcher


class _noting_defects:  # noqa: N801 - used as a function
    """Leave the traceback of a defect of ours where the next daemon and a bug report find it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        import traceback

        with open(os.path.join(self._directory, records.CRASH), "a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
