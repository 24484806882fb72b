"""The launcher's process, as the daemon sees it: started, given launches, started again when it dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import windlass
from windlass.kernel.process import open_read_only_executable
from windlass.runtime.client.link import writable
from windlass.runtime.client.monitor import Monitor, NeverBegan
from windlass.runtime.client.types import Attachment, LaunchError

_CHILD_SOCKET = 3
_HEALTHY = 1.0
"""Seconds; a launcher that dies sooner is not started again before somebody needs it."""


class Launcher:
    """The launcher of one daemon."""

    def __init__(self, exec_root: Path) -> None:
        self._exec_root = exec_root
        self._process: _Process | None = None
        self._closed = False

    @classmethod
    async def start(cls, exec_root: Path) -> Launcher:
        """Start the process; it takes launches at once, even while it is still importing.

        Raises:
            OSError: no process, no memory.
        """
        launcher = cls(exec_root)
        launcher._spawn()
        return launcher

    @property
    def pid(self) -> int:
        """The process now, 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    async def close(self) -> None:
        """End the launcher and wait for that; containers live on."""
        self._closed = True
        process, self._process = self._process, None
        if process is not None:
            process.control.close()
            await process.ended

    async def launch(
        self, directory: Path, attach: socket.socket | Attachment | Sequence[Attachment] | None = None
    ) -> Monitor:
        """Start the container that `directory` describes (config.json, launch.json).

        Args:
            directory: `<exec-root>/containers/<id>`, absolute.
            attach: streams that see the output from its first byte. They are duplicated: close yours.

        Returns:
            Its monitor, when the container's process runs.

        Raises:
            LaunchError: it could not be started; nothing is left of it.
        """
        if isinstance(attach, socket.socket):
            attach = [Attachment(attach)]
        attachments: Sequence[Attachment] = [attach] if isinstance(attach, Attachment) else attach or []
        wants = [{"stdin": a.stdin, "stdout": a.stdout, "stderr": a.stderr} for a in attachments]
        message = json.dumps({"directory": str(directory), "attach": wants}).encode()
        for _ in range(3):
            ours, theirs = socket.socketpair()
            try:
                await self._send(message, [theirs, *(a.connection for a in attachments)])
            except OSError as error:
                ours.close()
                problem = str(error)
                continue
            finally:
                theirs.close()
            try:
                return await Monitor.launched(directory, ours)
            except NeverBegan:
                # The launcher died before there was a monitor: nothing has happened, so it can be tried again.
                problem = "it has died"
        raise LaunchError("launcher", f"the launcher takes no launches: {problem}")

    async def _send(self, data: bytes, sockets: list[socket.socket]) -> None:
        while True:
            if self._closed:
                raise OSError("the launcher is closed")
            process = self._process or self._spawn()
            try:
                socket.send_fds(process.control, [data], [s.fileno() for s in sockets], socket.MSG_NOSIGNAL)
                return
            except BlockingIOError:
                await writable(process.control.fileno())
            except (BrokenPipeError, ConnectionResetError):
                self._gone(process)
                raise

    def _spawn(self) -> _Process:
        self._process = process = _Process(self._gone)
        return process

    def _gone(self, process: _Process) -> None:
        """It has died (or will at once: its socket is closed)."""
        if self._process is not process:
            return
        self._process = None
        process.control.close()
        if not self._closed and time.monotonic() - process.started > _HEALTHY:
            self._spawn()


class _Process:
    """One launcher process, started with posix_spawn(3): no fork of this one, with its many pages and threads."""

    def __init__(self, on_death: Callable[[_Process], None]) -> None:
        loop = asyncio.get_running_loop()
        self.started = time.monotonic()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        with theirs:
            self.pid = _posix_spawn(theirs.fileno())
        descriptor = os.pidfd_open(self.pid)

        def died() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            os.waitpid(self.pid, 0)
            self.control.close()
            if not self.ended.done():
                self.ended.set_result(None)
            on_death(self)

        loop.add_reader(descriptor, died)


def _posix_spawn(control: int) -> int:
    package = str(Path(windlass.__file__).resolve().parents[1])
    code = (
        f"import sys; sys.path.append({package!r}); from windlass.runtime.launcher import main; main({_CHILD_SOCKET})"
    )
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    # By a read-only mount, so that a container that gets at our /proc/PID/exe cannot write over the interpreter.
    program = open_read_only_executable(sys.executable)
    try:
        return os.posix_spawn(
            f"/proc/self/fd/{program}",
            # -I: nobody's environment or directory; -S: no site-packages, which nothing of ours needs there.
            [sys.executable, "-I", "-S", "-c", code],
            {"PATH": os.environ.get("PATH", os.defpath)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, control, _CHILD_SOCKET),
            ],
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP),
        )
    finally:
        os.close(program)
        os.close(null)
