"""Further processes in a running container: `exec`."""

from __future__ import annotations

import errno
import os
import re
import time

from windlass.runtime import records, signals, sockets
from windlass.runtime.monitor.builder import receive_result
from windlass.runtime.monitor.loop import READ, Loop
from windlass.runtime.monitor.streams import Streams
from windlass.runtime.sockets import Socket
from windlass.runtime.wire import LaunchFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from windlass.runtime.monitor.builder import Result
    from windlass.runtime.monitor.service import Connection

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Exec:
    """One process that was executed in the container."""

    __slots__ = ("descriptor", "identifier", "master", "pid", "streams")

    def __init__(self, identifier: str, pid: int, master: int, streams: Streams) -> None:
        self.identifier = identifier
        self.pid = pid
        self.descriptor = _open_pidfd(pid)
        self.master = master
        self.streams = streams


class Execs:
    """All of them that run.

    Args:
        directory: descriptor of the container's directory, for the exit records.
        build: starts a builder that hands over by a channel -> the builder's pid.
        adopt: registers a child and what to do when it has ended.
        publish: tells an event to whoever has subscribed.
    """

    def __init__(
        self,
        loop: Loop,
        directory: int,
        *,
        build: Callable[[Socket, dict[str, Any], bool], int],
        adopt: Callable[[int, Callable[[int], None]], None],
        publish: Callable[[dict[str, Any]], None],
    ) -> None:
        self._loop = loop
        self._directory = directory
        self._build = build
        self._adopt = adopt
        self._publish = publish
        self._building: set[str] = set()
        self._running: dict[str, Exec] = {}
        self._last: Callable[[], None] | None = None

    @property
    def building(self) -> bool:
        """Whether a process may come that is not known yet."""
        return bool(self._building)

    def start(self, spec: dict[str, Any], connection: Connection, number: object, *, attach: bool) -> None:
        """Run `spec` (see `client.ExecSpec`) and answer request `number` with its pid.

        With `attach` the connection then becomes the process's stream.

        Raises:
            LaunchFailure: it cannot even be tried; later failures are answered.
        """
        identifier = str(spec["id"])
        if not _IDENTIFIER.fullmatch(identifier):
            raise LaunchFailure("exec", f"bad exec id {identifier!r}")
        if identifier in self._running or identifier in self._building:
            raise LaunchFailure("exec", f"exec {identifier} is running already")
        ours, theirs = sockets.pair(packets=True)
        try:
            self._build(theirs, spec, attach)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._building.add(identifier)
        if attach:
            connection.hold()

        def built(events: int) -> None:
            self._loop.forget(ours.fileno())
            try:
                try:
                    result = receive_result(ours)
                finally:
                    ours.close()
                if result is None:
                    raise LaunchFailure("exec", "the builder has died (out of memory?)")
                self._run(spec, identifier, result, connection, number, attach=attach)
            except LaunchFailure as failure:
                connection.send({"id": number, "error": failure.to_json()})
                if attach:
                    connection.close()
            finally:
                self._building.discard(identifier)
                self._tell_last()

        self._loop.watch(ours.fileno(), READ, built)

    def _run(
        self,
        spec: dict[str, Any],
        identifier: str,
        built: Result,
        connection: Connection,
        number: object,
        *,
        attach: bool,
    ) -> None:
        terminal = bool(spec.get("terminal"))
        master = built.get("master")
        streams = Streams(
            self._loop,
            outputs=(
                {master: "stdout"}
                if terminal
                else {built.get(name): name for name in ("stdout", "stderr") if built.get(name) >= 0}
            ),
            stdin=os.dup(master) if terminal else built.get("stdin"),
            terminal=terminal,
            stdin_once=True,
            log=None,
        )
        pid = int(built.facts["pid"])
        process = self._running[identifier] = Exec(identifier, pid, master, streams)
        self._adopt(pid, lambda code: self._ended(process, code))
        connection.send({"id": number, "result": {"pid": pid}})
        if attach and not connection.closed:
            stream, early = connection.take_over()
            streams.attach(stream, stdin=bool(spec.get("attachStdin")), early_input=early)
        streams.start()

    def running(self) -> list[dict[str, Any]]:
        """For a client that connects: which there are."""
        return [{"id": process.identifier, "pid": process.pid} for process in self._running.values()]

    def terminal(self, identifier: str) -> int:
        """The pty master of an exec, -1 if it has none."""
        return self._find(identifier).master

    def signal(self, identifier: str, number: int) -> None:
        """Signal an exec's process."""
        descriptor = self._find(identifier).descriptor
        if descriptor < 0:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        signals.send(descriptor, number)

    def on_all_ended(self, callback: Callable[[], None]) -> int:
        """The container has ended: call back once when no exec is left. How many calls are to come: 0 or 1."""
        if not self._running and not self._building:
            return 0
        self._last = callback
        return 1

    def give_up(self) -> None:
        """Those that are left cannot be killed: their ends will not be known."""
        for process in tuple(self._running.values()):
            self._record(process, 137)
        self._building.clear()
        self._tell_last()

    def _find(self, identifier: str) -> Exec:
        process = self._running.get(identifier)
        if process is None:
            raise LaunchFailure("exec", f"no exec {identifier} is running")
        return process

    def _make_folder(self) -> None:
        try:
            os.mkdir(records.EXECS, 0o700, dir_fd=self._directory)
        except FileExistsError:
            pass

    def _ended(self, process: Exec, exit_code: int) -> None:
        process.streams.end(lambda: self._record(process, exit_code))

    def _record(self, process: Exec, exit_code: int) -> None:
        if self._running.pop(process.identifier, None) is None:
            return
        ended_at = time.time_ns()
        if process.descriptor >= 0:
            os.close(process.descriptor)
        # Record, then tell, then the end of the stream: who sees the stream end can ask for the exit code.
        value = {"exitCode": exit_code, "exitedAt": ended_at}
        self._make_folder()
        records.write(self._directory, f"{records.EXECS}/{process.identifier}.json", value)
        self._publish({"event": "exec-exit", "id": process.identifier, **value})
        process.streams.close()
        self._tell_last()

    def _tell_last(self) -> None:
        if not self._running and not self._building and self._last is not None:
            last, self._last = self._last, None
            last()


def _open_pidfd(pid: int) -> int:
    """A pidfd, -1 where the process has ended and been reaped already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
