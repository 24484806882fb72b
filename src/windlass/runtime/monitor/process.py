"""A monitor's life, in its order.

    take the lock on the directory        from now on there is one monitor, and a new daemon can know it
    read config.json and launch.json, open the log, listen on monitor.sock
    make the cgroup and set its limits    before there is anything in it
    create the process                    it runs when this returns
    write state.json, tell "started"      in this order: what a client was told can be found by the next daemon
    loop: output, input, requests, OOM events, children
    the process has ended: kill what is left in the cgroup, read the last output, close the log
    write exit.json, remove the cgroup, tell "exit", let attachers take what is queued, go

A failure before "started" undoes what was done, last first, and is told as "failed".
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time

from windlass.errors import WindlassError
from windlass.kernel import process, pty
from windlass.kernel.cgroups import CgroupError, container_resources, open_cgroup
from windlass.logs.driver import open_writer
from windlass.runtime import records
from windlass.runtime.monitor.execs import Execs
from windlass.runtime.monitor.loop import READ, Loop
from windlass.runtime.monitor.runtimes import Started, open_runtime
from windlass.runtime.monitor.service import Connection, Service
from windlass.runtime.monitor.stdio import Pipes, owner_of
from windlass.runtime.monitor.streams import Streams
from windlass.runtime.records import ExitStatus
from windlass.runtime.wire import LaunchFailure, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from windlass.kernel.cgroups import Cgroup, Hierarchy
    from windlass.logs.driver import LogWriter
    from windlass.runtime.monitor.runtimes import Runtime
    from windlass.runtime.monitor.service import Answer

_STRAGGLERS = 5.0
"""Seconds that execs may take to die after the container's init."""


class Monitor:
    """The keeper of one container.

    Args:
        path: the container's directory.
        control: the connection of whoever launches; gets "started" or "failed", and all later events.
        attach: streams to attach before the first byte, with what each takes part in.
        hierarchy: the host's cgroups, found before the fork.
    """

    def __init__(
        self,
        path: str,
        control: socket.socket,
        attach: list[tuple[socket.socket, dict[str, Any]]],
        hierarchy: Hierarchy,
    ) -> None:
        self._path = path
        self._control = control
        self._attach = attach
        self._hierarchy = hierarchy
        self._loop = Loop()
        self._directory = -1  # open and locked
        self._undo: list[Callable[[], None]] = []
        self._children: dict[int, Callable[[int], None]] = {}
        self._log: LogWriter | None = None
        self._cgroup: Cgroup | None = None
        self._init_descriptor = -1
        self._terminal = -1
        self._ended: ExitStatus | None = None
        self._waiting = 0  # for: the last output, each exec
        self._finished = False

    def run(self) -> None:
        """Launch and keep the container; returns when there is nothing more to do."""
        try:
            self._watch_children()
            self._launch()
        except LaunchFailure as failure:
            self._fail(failure)
            return
        while not self._finished or self._streams.watched:
            self._loop.run_once()
        self._service.close()

    # --- launch

    def _launch(self) -> None:
        directory = records.open_directory(self._path)
        if not records.try_lock(directory):
            raise LaunchFailure("lock", "the container has a monitor already")
        self._directory = directory
        if select.select([self._control], [], [], 0)[0]:
            # The client never speaks first: it has gone. The next daemon may have judged this launch as one that
            # never was.
            raise LaunchFailure("control", "nobody waits for this container any more")
        self._read_documents()
        self._control.sendall(encode({"event": "began"}))
        launch, config = self._launch_document, self._config
        self._service = Service(self._loop, self._directory, self._request)
        self._undo.append(self._service.close)
        self._open_log(launch.get("log") or {})
        self._make_cgroup(str(launch.get("cgroup") or ""))
        runtime = open_runtime(config, launch, directory=self._path, cgroup=self._cgroup, hierarchy=self._hierarchy)
        self._runtime: Runtime = runtime
        self._undo.append(runtime.release)
        started = self._create()
        self._execs = Execs(self._loop, self._directory, runtime, self._adopt_child, self._service.publish)
        started_at = time.time_ns()
        state = {
            "pid": started.pid,
            "startTime": process.read_stat(started.pid).start_time,
            "startedAt": started_at,
            "monitorPid": os.getpid(),
            "cgroup": launch.get("cgroup") or "",
        }
        records.write(self._directory, records.STATE, state)
        self._state = state
        self._undo.clear()
        subscriber = self._service.adopt(self._control)
        subscriber.subscribed = True
        subscriber.send({"event": "started", "pid": started.pid, "startedAt": started_at})

    def _read_documents(self) -> None:
        try:
            launch = records.read(self._directory, records.LAUNCH)
            config = records.read(self._directory, records.CONFIG)
            if launch is None or config is None:
                missing = records.LAUNCH if launch is None else records.CONFIG
                raise LaunchFailure("config", f"{self._path}/{missing}: no such file")
        except (ValueError, OSError) as error:
            raise LaunchFailure("config", f"{self._path}: {error}", getattr(error, "errno", None) or 0) from None
        self._launch_document, self._config = launch, config
        for stale in (records.EXIT, records.STATE):
            records.remove(self._directory, stale)

    def _open_log(self, log: dict[str, Any]) -> None:
        try:
            self._log = open_writer(
                str(log.get("driver") or "none"),
                log.get("options") or {},
                str(log.get("path") or ""),
                attrs=log.get("attrs") or {},
                spawn=self._spawn,
            )
        except (WindlassError, OSError) as error:
            raise LaunchFailure("log", str(error), getattr(error, "errno", None) or 0) from None
        self._undo.append(self._log.close)

    def _make_cgroup(self, path: str) -> None:
        if not path:
            return
        cgroup = open_cgroup(path, self._hierarchy)
        try:
            cgroup.create()
            self._undo.append(lambda: _remove_cgroup(cgroup))
            if not self._launch_document.get("runtime"):  # another runtime sets the limits itself
                cgroup.apply(container_resources((self._config.get("linux") or {}).get("resources") or {}))
        except CgroupError as error:
            raise LaunchFailure("cgroup", str(error), error.errno or 0) from None
        self._cgroup = cgroup
        self._watch_memory(cgroup)

    def _create(self) -> Started:
        launch, document = self._launch_document, self._config.get("process") or {}
        terminal = bool(launch.get("terminal"))
        pipes = None
        if not terminal:
            owner = owner_of(document, self._config.get("linux") or {})
            pipes = Pipes(stdin=bool(launch.get("openStdin")), output=True, owner=owner)
            self._undo.append(pipes.close)
        try:
            started = self._runtime.create(
                pipes.child if pipes is not None else None, _console_size(launch.get("consoleSize"))
            )
        finally:
            if pipes is not None:
                pipes.close_child_ends()
        self._terminal = started.master
        self._init_descriptor = os.pidfd_open(started.pid)
        self._adopt_child(started.pid, self._init_ended)
        self._streams = Streams(
            self._loop,
            outputs={started.master: "stdout"} if pipes is None else pipes.outputs,
            stdin=os.dup(started.master) if pipes is None else pipes.stdin,
            terminal=terminal,
            stdin_once=bool(launch.get("stdinOnce")),
            log=self._log,
        )
        for connection, wants in self._attach:
            self._attach_stream(connection, wants)
        self._streams.start()
        return started

    def _fail(self, failure: LaunchFailure) -> None:
        for step in reversed(self._undo):
            try:
                step()
            except OSError as error:
                failure = LaunchFailure(failure.stage, f"{failure.message} (and while undoing: {error})", failure.errno)
        for connection, _ in self._attach:
            connection.close()
        if self._directory >= 0:
            records.unlock(self._directory)  # it may be tried again at once
        tell_failure(self._control, failure)

    # --- children

    def _watch_children(self) -> None:
        """SIGCHLD becomes a byte in a pipe: the handler does nothing, Python's writes to the wakeup descriptor."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

        def reap(events: int) -> None:
            os.read(reading, 4096)
            self._reap()

        self._loop.watch(reading, READ, reap)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # Unknown ones are orphans of the container that the kernel gave to us, as its subreaper.
            callback = self._children.pop(pid, None)
            if callback is not None:
                code = os.waitstatus_to_exitcode(status)
                callback(code if code >= 0 else 128 - code)

    def _adopt_child(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call back with the exit code when the child `pid` has ended."""
        self._children[pid] = callback

    def _spawn(self, job: Callable[[], None], done: Callable[[bool], None]) -> int:
        """Run `job` in a child process of low priority."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.nice(19)
                job()
                code = 0
            finally:
                os._exit(code)
        self._adopt_child(pid, lambda code: done(code == 0))
        return pid

    # --- out of memory

    def _watch_memory(self, cgroup: Cgroup) -> None:
        descriptor = cgroup.oom_event_fd()
        if descriptor is None:
            return
        killed = 0

        def check(events: int) -> None:
            nonlocal killed
            try:
                os.read(descriptor, 4096)
            except BlockingIOError:
                pass
            count = cgroup.oom_kill_count()
            if count > killed:
                killed = count
                self._service.publish({"event": "oom"})
            if self._ended is not None:
                self._loop.forget(descriptor)

        os.set_blocking(descriptor, False)
        self._loop.watch(descriptor, READ, check)

    # --- the end

    def _init_ended(self, exit_code: int) -> None:
        ended_at = time.time_ns()
        oom_killed = False
        error = ""
        if self._cgroup is not None:
            try:
                oom_killed = self._cgroup.oom_kill_count() > 0
                if self._cgroup.pids():  # it shared a PID namespace: nobody else ends its other processes
                    self._cgroup.kill()
            except OSError as problem:
                error = str(problem)
        self._ended = ExitStatus(exit_code, oom_killed, ended_at, error)
        self._waiting = 1 + self._execs.on_all_ended(self._one_less)
        self._streams.end(self._one_less)
        if self._waiting > 1:
            self._loop.call_later(_STRAGGLERS, self._execs.give_up)

    def _one_less(self) -> None:
        self._waiting -= 1
        if self._waiting == 0:
            self._finish()

    def _finish(self) -> None:
        status = self._ended
        assert status is not None
        if self._log is not None:
            self._log.close()
        records.write(self._directory, records.EXIT, records.exit_to_json(status))
        errors = [status.error] if status.error else []
        for release in (self._runtime.release, self._remove_own_cgroup):
            try:
                release()
            except OSError as error:
                errors.append(str(error))
        self._service.stop_listening()
        # From here on the container may be launched again, though attachers may still have to take what is queued.
        records.unlock(self._directory)
        status = status._replace(error="; ".join(errors))
        self._service.publish({"event": "exit", **records.exit_to_json(status)})
        self._streams.close()
        self._finished = True

    def _remove_own_cgroup(self) -> None:
        if self._cgroup is not None:
            self._cgroup.remove()

    # --- requests

    def _request(self, connection: Connection, request: dict[str, Any], answer: Answer) -> None:
        operation = request["op"]
        if operation == "subscribe":
            connection.subscribed = True
            ended = records.exit_to_json(self._ended) if self._finished and self._ended else None
            answer({**self._state, "execs": self._execs.running(), "exit": ended})
        elif operation == "attach":
            answer({})
            stream, early = connection.take_over()
            self._attach_stream(stream, request, early)
        elif operation == "exec":
            if self._ended is not None:
                raise LaunchFailure("exec", "the container has ended")
            self._execs.start(request["spec"], connection, answer, attach=bool(request.get("attach")))
        elif operation == "resize":
            master = self._execs.terminal(request["exec"]) if request.get("exec") else self._terminal
            if master < 0:
                raise LaunchFailure("resize", "there is no terminal")
            pty.set_size(master, int(request["height"]), int(request["width"]))
            answer({})
        elif operation == "signal":
            number = int(request["signal"])
            if request.get("exec"):
                self._execs.signal(request["exec"], number)
            else:
                signal.pidfd_send_signal(self._init_descriptor, number)
            answer({})
        else:
            raise LaunchFailure("request", f"unknown operation {operation!r}")

    def _attach_stream(self, stream: socket.socket, wants: dict[str, Any], early_input: bytes = b"") -> None:
        self._streams.attach(
            stream,
            stdin=bool(wants.get("stdin", True)),
            stdout=bool(wants.get("stdout", True)),
            stderr=bool(wants.get("stderr", True)),
            early_input=early_input,
        )


def tell_failure(control: socket.socket, failure: LaunchFailure) -> None:
    """The last words of a launch that has failed; nobody may be there to hear them."""
    try:
        control.setblocking(True)
        control.sendall(encode({"event": "failed", "error": failure.to_json()}))
    except OSError:
        pass
    control.close()


def _console_size(value: Any) -> tuple[int, int] | None:
    return (int(value[0]), int(value[1])) if value and any(value) else None


def _remove_cgroup(cgroup: Cgroup) -> None:
    cgroup.kill()
    cgroup.remove()
