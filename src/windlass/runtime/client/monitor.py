"""One container's monitor, as the daemon sees it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from windlass.runtime import records
from windlass.runtime.burial import KILLED, bury, read_exec_exit, read_exit
from windlass.runtime.client.link import Link, LinkLost, connect, request_stream
from windlass.runtime.client.types import ExecSpec, LaunchError, NoMonitor
from windlass.runtime.records import ExitStatus

_PATIENCE = 10.0
_PAUSE = 0.005
_GONE = "the container's monitor is gone"
_DIED = "the container's monitor died"


class NeverBegan(Exception):
    """The connection of a launch ended before a monitor took it up."""


class ExecSession:
    """A process that is executed in a container.

    Attributes:
        id: as in its `ExecSpec`.
        pid: on the host.
        connection: its stream in Docker's format (non-blocking), None if it was started without; the caller closes it.
    """

    def __init__(self, identifier: str, pid: int, connection: socket.socket | None, ended: asyncio.Future[int]) -> None:
        self.id = identifier
        self.pid = pid
        self.connection = connection
        self._ended = ended

    async def wait(self) -> int:
        """Its exit code, 128 + signal if one ended it; 137 if the container's monitor died."""
        return await asyncio.shield(self._ended)


class Monitor:
    """The connection to one container's monitor.

    Attributes:
        directory: the container's.
        pid: of the container's init, on the host.
        started_at_ns: nanoseconds since 1970.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pid = 0
        self.started_at_ns = 0
        loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._started: asyncio.Future[None] | None = loop.create_future()
        self._began = False
        self._established = False
        self._exit: asyncio.Future[ExitStatus] = loop.create_future()
        self._execs: dict[str, asyncio.Future[int]] = {}
        self._listeners: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._burial: asyncio.Task[None] | None = None

    @classmethod
    async def launched(cls, directory: Path, connection: socket.socket) -> Monitor:
        """The monitor at the other end of a launch's control connection, when the container runs. For `Launcher`.

        Raises:
            LaunchError: it could not be started.
            NeverBegan: nobody took the launch up.
        """
        monitor = cls(directory)
        started = monitor._started
        assert started is not None
        link = monitor._link = await Link.open(connection, monitor._on_event, monitor._on_lost)
        try:
            await started
        except LinkLost:
            if not monitor._began:
                raise NeverBegan from None
            await asyncio.to_thread(bury, directory, "the container's monitor died while it was being started")
            raise LaunchError("monitor", _DIED) from None
        finally:
            monitor._started = None
            if not started.done() or started.cancelled() or started.exception() is not None:
                link.close()
        return monitor

    @classmethod
    async def connect(cls, directory: Path) -> Monitor:
        """Find the monitor of a container again.

        Raises:
            NoMonitor: there is none, and none can come any more; what a dead one left has been settled, so `read_exit`
                is the last word (None: the container never began to run).
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            monitor = cls(directory)
            monitor._started = None
            try:
                link = monitor._link = await Link.open(await connect(directory), monitor._on_event, monitor._on_lost)
                state = await link.request({"op": "subscribe"})
                if link.lost:
                    raise LinkLost
            except (OSError, LinkLost):
                # No monitor, or one that is just beginning or ending. The lock on the directory tells.
                if await asyncio.to_thread(bury, directory, _DIED):
                    raise NoMonitor(f"{directory.name}: {_GONE}") from None
                if time.monotonic() > deadline:
                    raise NoMonitor(f"{directory.name}: the container's monitor does not answer") from None
                await asyncio.sleep(_PAUSE)
                continue
            monitor._established = True
            monitor.pid, monitor.started_at_ns = state["pid"], state["startedAt"]
            for running in state["execs"]:
                monitor._expect_exec(running["id"])
            if state["exit"] is not None and not monitor._exit.done():
                monitor._exit.set_result(records.exit_from_json(state["exit"]))
            return monitor

    @property
    def running_execs(self) -> list[str]:
        """Ids of the execs whose end is awaited."""
        return [identifier for identifier, ended in self._execs.items() if not ended.done()]

    async def wait(self) -> ExitStatus:
        """How the container ended, when it has: its last output is logged, its exit recorded, its cgroup removed.

        If its monitor is killed, the container is killed too, and this says so (137, with an error).
        """
        return await asyncio.shield(self._exit)

    async def wait_exec(self, identifier: str) -> int:
        """The exit code of an exec, when it has ended; also for those that an earlier daemon began.

        Raises:
            KeyError: there was no such exec.
        """
        if identifier in self._execs:
            return await asyncio.shield(self._execs[identifier])
        ended = read_exec_exit(self.directory, identifier)
        if ended is None:
            raise KeyError(identifier)
        return ended.exit_code

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """{"event": "oom"}, {"event": "exec-exit", "id", "exitCode", "exitedAt"}, …, and "exit" as the last."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        if self._exit.done():
            return
        self._listeners.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
                if event["event"] == "exit":
                    return
        finally:
            self._listeners.discard(queue)

    async def attach(self, *, stdin: bool, stdout: bool = True, stderr: bool = True) -> socket.socket:
        """A stream of the output from now on, in Docker's format: raw if the container has a terminal, else frames.

        What is written to it is the container's input, if `stdin`; `shutdown(SHUT_WR)` ends that as dockerd does.

        Returns:
            A non-blocking socket; the caller closes it.

        Raises:
            LaunchError: the monitor has gone.
        """
        request = {"op": "attach", "stdin": stdin, "stdout": stdout, "stderr": stderr}
        connection, _ = await request_stream(self.directory, request)
        return connection

    async def exec(self, spec: ExecSpec, *, attach: bool) -> ExecSession:
        """Run a further process in the container.

        Args:
            attach: its stdio is a stream (`ExecSession.connection`), else it goes nowhere.

        Raises:
            LaunchError: it could not be started.
        """
        if spec.id in self._execs:
            raise LaunchError("exec", f"exec {spec.id} is running already")
        ended = self._expect_exec(spec.id)
        request = {"op": "exec", "spec": spec.to_json(), "attach": attach}
        try:
            if attach:
                connection, answer = await request_stream(self.directory, request)
                return ExecSession(spec.id, answer["pid"], connection, ended)
            answer = await self._request(request)
            return ExecSession(spec.id, answer["pid"], None, ended)
        except BaseException:
            self._execs.pop(spec.id, None)
            raise

    async def resize(self, height: int, width: int, exec_id: str | None = None) -> None:
        """Set the size of the container's terminal, or of an exec's, in characters.

        Raises:
            LaunchError: it has none, or it has ended.
        """
        await self._request({"op": "resize", "height": height, "width": width, "exec": exec_id})

    async def signal(self, signum: int, exec_id: str | None = None) -> None:
        """Send a signal to the container's init, or to an exec's process.

        Raises:
            LaunchError: with errno ESRCH where it has ended.
        """
        await self._request({"op": "signal", "signal": signum, "exec": exec_id})

    async def close(self) -> None:
        """Let the monitor go on without us."""
        if self._link is not None:
            self._link.close()
        if self._burial is not None:
            await self._burial
        self._end_listeners()

    async def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._link is not None
        try:
            return await self._link.request(request)
        except LinkLost:
            raise LaunchError("monitor", _GONE, 3) from None  # ESRCH

    def _expect_exec(self, identifier: str) -> asyncio.Future[int]:
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._execs[identifier] = ended
        return ended

    def _on_event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if self._started is not None and not self._started.done():
            if kind == "began":
                self._began = True
            elif kind == "started":
                self.pid, self.started_at_ns = event["pid"], event["startedAt"]
                self._established = True
                self._started.set_result(None)
            elif kind == "failed":
                self._started.set_exception(LaunchError.from_json(event["error"]))
            return
        if kind == "exec-exit":
            ended = self._execs.pop(event["id"], None)
            if ended is not None and not ended.done():
                ended.set_result(event["exitCode"])
        elif kind == "exit" and not self._exit.done():
            self._exit.set_result(records.exit_from_json(event))
        for queue in self._listeners:
            queue.put_nowait(event)
        if kind == "exit" and self._link is not None:
            self._link.close()  # its last word

    def _on_lost(self) -> None:
        """The connection has ended; after "exit" that is how it should be."""
        if self._started is not None and not self._started.done():
            self._started.set_exception(LinkLost())
        if not self._established or (self._link is not None and self._link.closed and not self._exit.done()):
            return
        for ended in self._execs.values():
            if not ended.done():
                ended.set_result(KILLED)
        self._execs.clear()
        if self._exit.done():
            self._end_listeners()
        else:
            self._burial = asyncio.get_running_loop().create_task(self._bury())

    async def _bury(self) -> None:
        """The monitor died before its container: end it too, so that what is recorded is true."""
        status = None
        try:
            while True:
                if await asyncio.to_thread(bury, self.directory, _DIED):
                    break
                await asyncio.sleep(_PAUSE)  # a dying process has the lock still: nothing tells when it is free
            status = read_exit(self.directory)
        finally:
            if not self._exit.done():
                self._exit.set_result(status or ExitStatus(KILLED, False, time.time_ns(), _DIED))
            self._end_listeners()

    def _end_listeners(self) -> None:
        for queue in self._listeners:
            queue.put_nowait(None)
