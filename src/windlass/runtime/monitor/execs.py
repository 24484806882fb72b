"""Further processes in a running container: `exec`."""

from __future__ import annotations

import os
import re
import signal
import time

from windlass.runtime import records
from windlass.runtime.monitor.loop import Loop
from windlass.runtime.monitor.stdio import Pipes
from windlass.runtime.monitor.streams import Streams
from windlass.runtime.wire import LaunchFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from windlass.runtime.monitor.runtimes import Runtime
    from windlass.runtime.monitor.service import Answer, Connection

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Exec:
    """One process that was executed in the container."""

    __slots__ = ("descriptor", "identifier", "master", "pid", "streams")

    def __init__(self, identifier: str, pid: int, master: int, streams: Streams) -> None:
        self.identifier = identifier
        self.pid = pid
        self.descriptor = os.pidfd_open(pid)
        self.master = master
        self.streams = streams


class Execs:
    """All of them that run.

    Args:
        directory: descriptor of the container's directory, for the exit records.
        adopt: registers a child and what to do when it has ended.
        publish: tells an event to whoever has subscribed.
    """

    def __init__(
        self,
        loop: Loop,
        directory: int,
        runtime: Runtime,
        adopt: Callable[[int, Callable[[int], None]], None],
        publish: Callable[[dict[str, Any]], None],
    ) -> None:
        self._loop = loop
        self._directory = directory
        self._runtime = runtime
        self._adopt = adopt
        self._publish = publish
        self._running: dict[str, Exec] = {}
        self._last: Callable[[], None] | None = None

    def start(self, spec: dict[str, Any], connection: Connection, answer: Answer, *, attach: bool) -> None:
        """Run `spec` (see `client.ExecSpec`) and answer with its pid; with `attach` the connection becomes its stream.

        Raises:
            LaunchFailure: it could not be started.
        """
        identifier = str(spec["id"])
        if not _IDENTIFIER.fullmatch(identifier):
            raise LaunchFailure("exec", f"bad exec id {identifier!r}")
        if identifier in self._running:
            raise LaunchFailure("exec", f"exec {identifier} is running already")
        self._make_folder()
        terminal = bool(spec.get("terminal"))
        stdin = attach and bool(spec.get("attachStdin"))
        pipes = None
        if not terminal:
            pipes = Pipes(stdin=stdin, output=attach, owner=self._runtime.owner(spec["process"]))
        try:
            size = spec.get("consoleSize") or None
            started = self._runtime.execute(
                spec, pipes.child if pipes is not None else None, (int(size[0]), int(size[1])) if size else None
            )
        except BaseException:
            if pipes is not None:
                pipes.close()
            raise
        finally:
            if pipes is not None:
                pipes.close_child_ends()
        streams = Streams(
            self._loop,
            outputs={started.master: "stdout"} if pipes is None else pipes.outputs,
            stdin=os.dup(started.master) if pipes is None else pipes.stdin,
            terminal=terminal,
            stdin_once=True,
            log=None,
        )
        process = self._running[identifier] = Exec(identifier, started.pid, started.master, streams)
        self._adopt(started.pid, lambda code: self._ended(process, code))
        answer({"pid": started.pid})
        if attach:
            stream, early = connection.take_over()
            streams.attach(stream, stdin=stdin, early_input=early)
        streams.start()

    def running(self) -> list[dict[str, Any]]:
        """For a client that connects: which there are."""
        return [{"id": process.identifier, "pid": process.pid} for process in self._running.values()]

    def terminal(self, identifier: str) -> int:
        """The pty master of an exec, -1 if it has none."""
        return self._find(identifier).master

    def signal(self, identifier: str, number: int) -> None:
        """Signal an exec's process."""
        signal.pidfd_send_signal(self._find(identifier).descriptor, number)

    def on_all_ended(self, callback: Callable[[], None]) -> int:
        """The container has ended: call back once when no exec is left. How many calls are to come: 0 or 1."""
        if not self._running:
            return 0
        self._last = callback
        return 1

    def give_up(self) -> None:
        """Those that are left cannot be killed: their ends will not be known."""
        for process in tuple(self._running.values()):
            self._record(process, 137)

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
        os.close(process.descriptor)
        # Record, then tell, then the end of the stream: who sees the stream end can ask for the exit code.
        value = {"exitCode": exit_code, "exitedAt": ended_at}
        records.write(self._directory, f"{records.EXECS}/{process.identifier}.json", value)
        self._publish({"event": "exec-exit", "id": process.identifier, **value})
        process.streams.close()
        if not self._running and self._last is not None:
            last, self._last = self._last, None
            last()
