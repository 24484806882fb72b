"""The parent's side of the channel to a child that becomes a container (see `init.context` for what is said)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from windlass.kernel import idmap, namespaces
from windlass.runtime import hooks
from windlass.runtime.init.context import Context
from windlass.runtime.listener import hand_over_listener
from windlass.runtime.plan import steps as step_types
from windlass.runtime.wire import LaunchFailure

_LARGEST_MESSAGE = 1 << 16


class Process(NamedTuple):
    """A process that was made: its pid, a pidfd, the master of its terminal (None without one), and what of the
    defaults this host could not grant."""

    pid: int
    pidfd: int
    master: int | None
    warnings: tuple[str, ...] = ()


def follow(
    parent: socket.socket,
    made: namespaces.Clone,
    *,
    config: Mapping[str, Any],
    context: Context,
    mapping: step_types.IdMapping | None = None,
) -> Process:
    """Serve the child until its program runs, or waits for its start.

    Raises:
        LaunchFailure: it does not come to that; what was made has been ended and reaped.
    """
    follower = _Follower(parent, made, config, context, mapping)
    try:
        follower.run()
    except BaseException:
        follower.destroy()
        raise
    finally:
        context.close()
    return Process(follower.pid, follower.pidfd, follower.master, tuple(follower.warnings))


class _Follower:
    """The parent's side of the channel: serves the child until its program runs."""

    def __init__(
        self,
        parent: socket.socket,
        made: namespaces.Clone,
        config: Mapping[str, Any],
        context: Context,
        mapping: step_types.IdMapping | None,
    ) -> None:
        self._parent = parent
        self._config = config
        self._context = context
        self._mapping = mapping
        self.pid = made.pid
        self.pidfd = made.pidfd
        self.master: int | None = None
        self.warnings: list[str] = []
        self.failure: LaunchFailure | None = None

    def run(self) -> None:
        """Returns when the program runs, or waits for its start. A failure is raised at the end of the channel: an
        init may fail before the intermediate that has made it could tell its pid."""
        while True:
            try:
                data, descriptors, _flags, _address = socket.recv_fds(
                    self._parent, _LARGEST_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionResetError:  # it ended with something unread
                break
            if not data:
                break
            message = json.loads(data)
            if "created" in message:
                return
            self._serve(message, descriptors)
        if self.failure is not None:
            raise self.failure
        if not self._context.is_ready():
            raise LaunchFailure("init", "the process ended while it was made (out of memory?)")

    def _serve(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "error" in message:
            self.failure = LaunchFailure(**message["error"])
        elif "warning" in message:
            self.warnings.append(str(message["warning"]))
        elif "terminal" in message:
            self.master = descriptors[0]
        elif "pid" in message:
            self._adopt(int(message["pid"]))
        elif "table" in message:
            self._send_table()
        else:
            if "user" in message:
                self._write_maps()
            elif "hooks" in message:
                self._run_hooks()
            elif "cgroup" in message:
                assert self._context.cgroup is not None
                self._context.cgroup.add(self.pid, beside=message["cgroup"] or None)
            elif "listener" in message:
                self._hand_over(int(message["listener"]))
            with contextlib.suppress(BrokenPipeError):  # it has ended meanwhile, as the end of the channel will tell
                self._parent.send(b"1", socket.MSG_NOSIGNAL)

    def _adopt(self, pid: int) -> None:
        """The intermediate has made the init, and ends."""
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self.pid, self.pidfd = pid, os.pidfd_open(pid)

    def _send_table(self) -> None:
        assert self._mapping is not None
        try:
            table = idmap.make_table(self._mapping.users, self._mapping.groups)
        except OSError as error:
            raise _map_failure(error) from None
        try:
            socket.send_fds(self._parent, [b"1"], [table])
        finally:
            os.close(table)

    def _write_maps(self) -> None:
        assert self._mapping is not None
        try:
            idmap.write_maps(self.pid, self._mapping.users, self._mapping.groups)
        except OSError as error:
            raise _map_failure(error) from None

    def _run_hooks(self) -> None:
        entries = self._config.get("hooks") or {}
        state = self._context.state | {"pid": self.pid, "status": "creating"}
        hooks.run(entries.get("prestart") or (), state, kind="prestart")
        hooks.run(entries.get("createRuntime") or (), state, kind="createRuntime")

    def _hand_over(self, number: int) -> None:
        profile = (self._config.get("linux") or {}).get("seccomp") or {}
        state = self._context.state | {"pid": self.pid, "status": "creating"}
        hand_over_listener(self.pid, self.pidfd, number, profile, state)

    def destroy(self) -> None:
        """End and reap what was made."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        if self.master is not None:
            os.close(self.master)


def _map_failure(error: OSError) -> LaunchFailure:
    reason = os.strerror(error.errno or 0).lower()
    return LaunchFailure("namespace", f"write {error.filename}: {reason}", error.errno or 0)
