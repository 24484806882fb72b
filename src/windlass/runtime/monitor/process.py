"""A monitor's life, in its order.

    stand by                       forked in advance by the launcher, with a builder of its own
    a launch comes                 the builder builds (builder.py); we wait for what it hands over
    loop                           output, input, requests, execs, OOM events, children
    the process has ended          kill what is left in the cgroup, read the last output, close the log
    write exit.json, remove the cgroup, free the lock, tell "exit", let attachers take what is queued, go

It keeps its hands still: each page of the interpreter that it touches becomes its own, and there is one monitor for
each container. So the builder's work is done elsewhere, and what may never be needed (the log, the cgroup) is opened
when it is.
"""

from __future__ import annotations

import os
import time

from windlass.kernel import pty
from windlass.kernel.cgroups import open_cgroup
from windlass.runtime import records, signals, sockets
from windlass.runtime.monitor import builder
from windlass.runtime.monitor.execs import Execs
from windlass.runtime.monitor.loop import READ, Loop
from windlass.runtime.monitor.service import Connection, Service
from windlass.runtime.monitor.streams import Streams
from windlass.runtime.records import ExitStatus
from windlass.runtime.sockets import Socket
from windlass.runtime.wire import LaunchFailure, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from windlass.kernel.cgroups import Cgroup, Hierarchy
    from windlass.logs.driver import LogWriter
    from windlass.runtime.monitor.builder import Result
    from windlass.runtime.monitor.service import Answer

    Attach = list[tuple[Socket, dict[str, Any]]]

_STRAGGLERS = 5.0
"""Seconds that execs may take to die after the container's init."""


class Monitor:
    """The keeper of one container that has been built.

    Args:
        path: the container's directory.
        built: what the builder has handed over.
        control: the connection of whoever launches; gets all events.
        attach: streams to attach before the first byte, with what each takes part in.
        hierarchy: the host's cgroups, found before the fork.
    """

    def __init__(self, path: str, built: Result, control: Socket, attach: Attach, hierarchy: Hierarchy) -> None:
        facts = built.facts
        self._path = path
        self._hierarchy = hierarchy
        self._state: dict[str, Any] = facts["state"]
        self._log_settings: dict[str, Any] = facts["log"]
        self._releases = bool(facts["releases"])
        self._directory = built.get("directory")
        self._init_descriptor = built.get("init")
        self._terminal = built.get("master")
        self._loop = Loop()
        self._children: dict[int, Callable[[int], None]] = {}
        self._unclaimed: dict[int, int] = {}
        self._log: LogWriter | None = None
        self._ended: ExitStatus | None = None
        self._waiting = 0  # for: the last output, the execs
        self._finished = False
        self._oom_kills = 0
        listener = sockets.adopt(built.get("listener"))
        self._service = Service(self._loop, self._directory, listener, self._request)
        self._execs = Execs(
            self._loop,
            self._directory,
            build=self._build_exec,
            adopt=self._adopt_child,
            publish=self._service.publish,
        )
        outputs = {built.get(name): name for name in ("stdout", "stderr") if built.get(name) >= 0}
        self._streams = Streams(
            self._loop,
            outputs={self._terminal: "stdout"} if facts["terminal"] else outputs,
            stdin=os.dup(self._terminal) if facts["terminal"] else built.get("stdin"),
            terminal=facts["terminal"],
            stdin_once=facts["stdinOnce"],
            log=self,
        )
        for connection, wants in attach:
            self._attach_stream(connection, wants)
        self._service.adopt(control).subscribed = True
        self._watch_memory(built.get("oom"))
        self._adopt_child(self._state["pid"], self._init_ended)
        self._watch_children()
        self._streams.start()

    def run(self) -> None:
        """Keep the container; returns when there is nothing more to do."""
        while not self._finished or self._streams.watched:
            self._loop.run_once()
        self._service.close()

    # --- the log (a writer for `Streams`, opened by the first output)

    def write(self, stream: str, data: bytes, timestamp_ns: int) -> None:
        """Store a chunk of output."""
        if self._log is None:
            self._log = builder.open_log(self._log_settings, self._spawn)
        self._log.write(stream, data, timestamp_ns)

    # --- children

    def _watch_children(self) -> None:
        """SIGCHLD becomes a byte in a pipe: the handler does nothing, Python's writes to the wakeup descriptor."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signals.handle(signals.SIGCHLD, lambda number, frame: None)
        signals.set_wakeup_descriptor(writing)

        def reap(events: int) -> None:
            os.read(reading, 4096)
            self._reap()

        self._loop.watch(reading, READ, reap)
        self._loop.call_later(0, self._reap)  # whoever ended before there was a handler

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code
            callback = self._children.pop(pid, None)
            if callback is not None:
                callback(code)
            elif self._execs.building:
                # Perhaps the exec whose builder is just about to tell us of it.
                self._unclaimed[pid] = code
            # Others are orphans of the container, given to us as its subreaper.
        if not self._execs.building:
            self._unclaimed.clear()

    def _adopt_child(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call back with the exit code when the child `pid` has ended."""
        code = self._unclaimed.pop(pid, None)
        if code is None:
            self._children[pid] = callback
        else:
            self._loop.call_later(0, lambda: callback(code))

    def _spawn(self, job: Callable[[], None], done: Callable[[bool], None]) -> int:
        """Run `job` in a child process of low priority."""

        def work() -> None:
            os.nice(19)
            job()

        pid = _fork(work)
        self._adopt_child(pid, lambda code: done(code == 0))
        return pid

    def _build_exec(self, channel: Socket, spec: dict[str, Any], attach: bool) -> int:
        """Fork a builder for an exec -> its pid; it ends by itself."""
        if self._ended is not None:
            raise LaunchFailure("exec", "the container has ended")
        init = int(self._state["pid"])

        def work() -> None:
            builder.build_exec(channel, self._path, spec, init=init, attach=attach, hierarchy=self._hierarchy)

        return _fork(work)

    # --- out of memory

    def _open_cgroup(self) -> Cgroup | None:
        path = str(self._state["cgroup"])
        return open_cgroup(path, self._hierarchy) if path else None

    def _watch_memory(self, descriptor: int) -> None:
        if descriptor < 0:
            return

        def check(events: int) -> None:
            try:
                os.read(descriptor, 4096)
            except BlockingIOError:
                pass
            cgroup = self._open_cgroup()
            if cgroup is not None:
                self._count_oom_kills(cgroup)
            if self._ended is not None:
                self._loop.forget(descriptor)

        os.set_blocking(descriptor, False)
        self._loop.watch(descriptor, READ, check)

    def _count_oom_kills(self, cgroup: Cgroup) -> int:
        count = cgroup.oom_kill_count()
        if count > self._oom_kills:
            self._oom_kills = count
            self._service.publish({"event": "oom"})
        return count

    # --- the end

    def _init_ended(self, exit_code: int) -> None:
        ended_at = time.time_ns()
        oom_killed = False
        error = ""
        try:
            cgroup = self._open_cgroup()
            if cgroup is not None:
                # The kill and its end may be seen in either order; it is told before the end in any case.
                oom_killed = self._count_oom_kills(cgroup) > 0
                if cgroup.pids():  # it shared a PID namespace: nobody else ends its other processes
                    cgroup.kill()
        except OSError as problem:
            error = str(problem)
        self._ended = ExitStatus(exit_code, oom_killed, ended_at, error)
        self._waiting = 1 + self._execs.on_all_ended(self._one_less)
        if self._waiting > 1:
            self._loop.call_later(_STRAGGLERS, self._execs.give_up)
        self._streams.end(self._one_less)

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
        for step in (self._release, self._remove_cgroup):
            try:
                step()
            except (OSError, LaunchFailure) as error:
                errors.append(str(error))
        self._service.stop_listening()
        # From here on the container may be launched again, though attachers may still have to take what is queued.
        records.unlock(self._directory)
        status = status._replace(error="; ".join(errors))
        self._service.publish({"event": "exit", **records.exit_to_json(status)})
        self._streams.close()
        self._finished = True

    def _release(self) -> None:
        if self._releases:
            from windlass.runtime.monitor.runtimes import open_runtime

            launch, config = builder.read_documents(self._path, self._directory)
            cgroup = self._open_cgroup()
            open_runtime(config, launch, directory=self._path, cgroup=cgroup, hierarchy=self._hierarchy).release()

    def _remove_cgroup(self) -> None:
        cgroup = self._open_cgroup()
        if cgroup is not None:
            cgroup.remove()

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
            self._execs.start(request["spec"], connection, request["id"], attach=bool(request.get("attach")))
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
                signals.send(self._init_descriptor, number)
            answer({})
        else:
            raise LaunchFailure("request", f"unknown operation {operation!r}")

    def _attach_stream(self, stream: Socket, wants: dict[str, Any], early_input: bytes = b"") -> None:
        self._streams.attach(
            stream,
            stdin=bool(wants.get("stdin", True)),
            stdout=bool(wants.get("stdout", True)),
            stderr=bool(wants.get("stderr", True)),
            early_input=early_input,
        )


def tell_failure(control: Socket, failure: LaunchFailure) -> None:
    """The last words of a launch that has failed; nobody may be there to hear them."""
    try:
        control.setblocking(True)
        control.sendall(encode({"event": "failed", "error": failure.to_json()}))
    except OSError:
        pass
    control.close()


def _fork(work: Callable[[], None]) -> int:
    """A child that does `work` and ends -> its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signals.set_wakeup_descriptor(-1)
        signals.default(signals.SIGCHLD)
        work()
        code = 0
    finally:
        os._exit(code)
