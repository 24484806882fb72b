"""Builds a container, or an exec in one, in a process of its own that ends when it is done.

The work touches some megabytes of the interpreter's pages, which a forked process then owns. So the monitor, which
lives
as long as the container, leaves it to a child and gets the result: descriptors and a few facts. The container's init,
orphaned when the builder ends, becomes the monitor's child, because the monitor is a subreaper.

    builder ── one SOCK_SEQPACKET message (marshal: no Python runs to read it) ──> monitor
        {"pid": …, …, "descriptors": ["init", "stdout", …]}  and the descriptors themselves, in that order
        or {"error": {"stage", "message", "errno"}}: nothing is left of what was begun

A failure undoes what was done, last first. If the builder is killed, the monitor clears away what it finds
(`burial.bury`); the init dies with its builder (PR_SET_PDEATHSIG) as long as it is not complete.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import select
import time

from windlass.errors import WindlassError
from windlass.kernel import process
from windlass.kernel.cgroups import CgroupError, container_resources, open_cgroup
from windlass.logs.driver import open_writer
from windlass.runtime import records, sockets
from windlass.runtime.monitor.runtimes import open_runtime
from windlass.runtime.monitor.stdio import Pipes
from windlass.runtime.sockets import MSG_NOSIGNAL, Socket
from windlass.runtime.wire import LaunchFailure, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from windlass.kernel.cgroups import Cgroup, Hierarchy
    from windlass.runtime.monitor.runtimes import Runtime, Started

MAX_DESCRIPTORS = 16
_EXAMPLE = {
    "process": {
        "args": ["sh"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
    },
    "root": {"path": "/"},
    "hostname": "example",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/data", "type": "bind", "source": "/", "options": ["rbind", "rprivate", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")],
        "resources": {"devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 1}},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    },
}
"""Something like what is built most often, to warm up with."""
_MAX_RESULT = 1 << 16
_BACKLOG = 64


class Result:
    """What a builder hands over.

    Attributes:
        facts: the message.
        descriptors: by name.
    """

    def __init__(self, facts: dict[str, Any], descriptors: dict[str, int]) -> None:
        self.facts = facts
        self.descriptors = descriptors

    def get(self, name: str) -> int:
        """A descriptor, -1 if there is none of this name."""
        return self.descriptors.get(name, -1)

    def close(self) -> None:
        """Nobody wants it any more."""
        for descriptor in self.descriptors.values():
            os.close(descriptor)


def receive_result(channel: Socket) -> Result | None:
    """Wait for a builder's message; None if it died without one.

    Raises:
        LaunchFailure: it could not build.
    """
    data, descriptors = sockets.receive(channel, _MAX_RESULT, MAX_DESCRIPTORS)
    if not data:
        return None
    facts = marshal.loads(data)  # noqa: S302 - from our own child
    if "error" in facts:
        raise LaunchFailure(**facts["error"])
    return Result(facts, dict(zip(facts["descriptors"], descriptors, strict=True)))


def send_result(channel: Socket, facts: dict[str, Any], descriptors: dict[str, int]) -> None:
    """Hand over.

    Raises:
        OSError: the monitor has gone.
    """
    message = marshal.dumps({**facts, "descriptors": list(descriptors)})
    sockets.send(channel, message, list(descriptors.values()))


class ContainerBuilder:
    """Builds one container.

    Args:
        path: the container's directory.
        channel: to the monitor.
        control: the connection of whoever launches; is told "began" and "started".
        hierarchy: the host's cgroups.
    """

    def __init__(self, path: str, channel: Socket, control: Socket, hierarchy: Hierarchy) -> None:
        self._path = path
        self._channel = channel
        self._control = control
        self._hierarchy = hierarchy
        self._undo: list[Callable[[], None]] = []
        self._launch: dict[str, Any] = {}
        self._config: dict[str, Any] = {}
        self._cgroup: Cgroup | None = None
        self._descriptors: dict[str, int] = {}

    def run(self) -> None:
        """Build, hand over, tell "started"; or undo, and tell why not."""
        try:
            self._build()
        except LaunchFailure as failure:
            self._fail(failure)
        except OSError as error:
            self._fail(LaunchFailure("kernel", str(error), error.errno or 0))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self._fail(LaunchFailure("config", f"malformed configuration: {type(error).__name__}: {error}"))

    def _build(self) -> None:
        self._take_directory()
        self._read_documents()
        self._control.sendall(encode({"event": "began"}))
        # Through the descriptor, because a socket's path may have 108 bytes at most.
        records.remove(self._directory, records.SOCKET)
        listener = sockets.listen(f"/proc/self/fd/{self._directory}/{records.SOCKET}", _BACKLOG)
        self._descriptors["listener"] = listener.fileno()
        self._undo.append(lambda: records.remove(self._directory, records.SOCKET))
        self._check_log(self._launch.get("log") or {})
        self._make_cgroup(str(self._launch.get("cgroup") or ""))
        runtime = open_runtime(
            self._config, self._launch, directory=self._path, cgroup=self._cgroup, hierarchy=self._hierarchy
        )
        started = self._create(runtime)
        started_at = time.time_ns()
        state = {
            "pid": started.pid,
            "startTime": process.read_stat(started.pid).start_time,
            "startedAt": started_at,
            "monitorPid": os.getppid(),
            "cgroup": self._launch.get("cgroup") or "",
        }
        records.write(self._directory, records.STATE, state)
        self._undo.append(lambda: records.remove(self._directory, records.STATE))
        facts = {
            "state": state,
            "terminal": bool(self._launch.get("terminal")),
            "stdinOnce": bool(self._launch.get("stdinOnce")),
            "log": self._launch.get("log") or {},
            "releases": runtime.releases,
        }
        try:
            send_result(self._channel, facts, self._descriptors)
        except OSError as error:
            raise LaunchFailure("monitor", f"the monitor has gone: {error}", error.errno or 0) from None
        # The container is the monitor's now, whether or not a client is still there to be told.
        self._undo.clear()
        with contextlib.suppress(OSError):
            self._control.sendall(encode({"event": "started", "pid": started.pid, "startedAt": started_at}))

    def _take_directory(self) -> None:
        directory = records.open_directory(self._path)
        if not records.try_lock(directory):
            raise LaunchFailure("lock", "the container has a monitor already")
        self._directory = self._descriptors["directory"] = directory
        self._undo.append(lambda: records.unlock(directory))
        if select.select([self._control], [], [], 0)[0]:
            # The client never speaks first: it has gone. The next daemon may have judged this launch as one that never
            # was.
            raise LaunchFailure("control", "nobody waits for this container any more")

    def _read_documents(self) -> None:
        self._launch, self._config = read_documents(self._path, self._directory)
        for stale in (records.EXIT, records.STATE):
            records.remove(self._directory, stale)

    def _check_log(self, log: dict[str, Any]) -> None:
        """Open the log once: what is wrong with it is said now, and what a killed writer left is repaired.

        The monitor opens it when there is something to write.
        """
        try:
            open_log(log).close()
        except (WindlassError, OSError) as error:
            raise LaunchFailure("log", str(error), getattr(error, "errno", None) or 0) from None

    def _make_cgroup(self, path: str) -> None:
        if not path:
            return
        cgroup = open_cgroup(path, self._hierarchy)
        try:
            cgroup.create()
            self._undo.append(lambda: _remove_cgroup(cgroup))
            if not self._launch.get("runtime"):  # another runtime sets the limits itself
                cgroup.apply(container_resources((self._config.get("linux") or {}).get("resources") or {}))
        except CgroupError as error:
            raise LaunchFailure("cgroup", str(error), error.errno or 0) from None
        self._cgroup = cgroup
        descriptor = cgroup.oom_event_fd()
        if descriptor is not None:
            self._descriptors["oom"] = descriptor

    def _create(self, runtime: Runtime) -> Started:
        launch = self._launch
        pipes = None
        if not launch.get("terminal"):
            owner = runtime.owner(self._config.get("process") or {})
            pipes = Pipes(stdin=bool(launch.get("openStdin")), output=True, owner=owner)
        size = launch.get("consoleSize")
        started = runtime.create(
            pipes.child if pipes is not None else None,
            (int(size[0]), int(size[1])) if size and any(size) else None,
        )
        self._undo.append(lambda: runtime.release())
        self._descriptors["init"] = os.pidfd_open(started.pid)
        self._descriptors |= _stdio_descriptors(pipes, started)
        return started

    def _fail(self, failure: LaunchFailure) -> None:
        for step in reversed(self._undo):
            try:
                step()
            except OSError as error:
                failure = LaunchFailure(failure.stage, f"{failure.message} (and while undoing: {error})", failure.errno)
        try:
            self._channel.send(marshal.dumps({"error": failure.to_json()}), MSG_NOSIGNAL)
        except OSError:
            pass  # the monitor has gone; the client sees that


def warm_up(hierarchy: Hierarchy) -> None:
    """Go once through what the next build will do, without effect.

    The first touch of a page after a fork copies it, and there are hundreds; a launch should not wait for that. It
    makes a build's Python some times faster.
    """
    config = json.loads(json.dumps(_EXAMPLE))
    open_runtime(config, {"id": "", "rootfs": []}, directory="/", cgroup=None, hierarchy=hierarchy).warm_up()
    container_resources(config["linux"]["resources"])
    cgroup = open_cgroup("/windlass-none/none", hierarchy)
    if not cgroup.exists():
        try:
            cgroup.apply({"pids": {"limit": 1}})
        except CgroupError:
            pass
    pipes = Pipes(stdin=True, output=True, owner=(0, 0))
    pipes.close_child_ends()
    pipes.close()
    ours, theirs = sockets.pair(packets=True)
    send_result(theirs, {"pid": 1}, {"init": theirs.fileno()})
    result = receive_result(ours)
    if result is not None:
        result.close()
    ours.close()
    theirs.close()
    process.read_stat(os.getpid())
    open_log({}).close()


def build_exec(
    channel: Socket,
    path: str,
    spec: dict[str, Any],
    *,
    init: int,
    attach: bool,
    hierarchy: Hierarchy,
) -> None:
    """Build an exec: see `ContainerBuilder`.

    Args:
        path: the container's directory.
        spec: as `client.ExecSpec.to_json` makes it.
        init: pid of the container's init.
        attach: its stdio is wanted, else it goes nowhere.
    """
    try:
        directory = records.open_directory(path)
        launch, config = read_documents(path, directory)
        cgroup_path = str(launch.get("cgroup") or "")
        cgroup = open_cgroup(cgroup_path, hierarchy) if cgroup_path else None
        runtime = open_runtime(config, launch, directory=path, cgroup=cgroup, hierarchy=hierarchy)
        pipes = None
        if not spec.get("terminal"):
            stdin = attach and bool(spec.get("attachStdin"))
            pipes = Pipes(stdin=stdin, output=attach, owner=runtime.owner(spec["process"]))
        size = spec.get("consoleSize")
        started = runtime.execute(
            init,
            spec,
            pipes.child if pipes is not None else None,
            (int(size[0]), int(size[1])) if size and any(size) else None,
        )
        send_result(channel, {"pid": started.pid}, _stdio_descriptors(pipes, started))
        return
    except LaunchFailure as failure:
        problem = failure
    except OSError as error:
        problem = LaunchFailure("kernel", str(error), error.errno or 0)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        problem = LaunchFailure("exec", f"malformed request: {type(error).__name__}: {error}")
    channel.send(marshal.dumps({"error": problem.to_json()}), MSG_NOSIGNAL)


def read_documents(path: str, directory: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """launch.json and config.json.

    Raises:
        LaunchFailure: one is missing or no JSON object.
    """
    try:
        launch = records.read(directory, records.LAUNCH)
        config = records.read(directory, records.CONFIG)
    except (ValueError, OSError) as error:
        raise LaunchFailure("config", f"{path}: {error}", getattr(error, "errno", None) or 0) from None
    if launch is None or config is None:
        missing = records.LAUNCH if launch is None else records.CONFIG
        raise LaunchFailure("config", f"{path}/{missing}: no such file")
    return launch, config


def open_log(log: dict[str, Any], spawn: Any = None) -> Any:
    """The writer that the `log` of launch.json describes.

    Raises:
        InvalidParameter, OSError: as `logs.driver.open_writer`.
    """
    return open_writer(
        str(log.get("driver") or "none"),
        log.get("options") or {},
        str(log.get("path") or ""),
        attrs=log.get("attrs") or {},
        spawn=spawn,
    )


def _stdio_descriptors(pipes: Pipes | None, started: Started) -> dict[str, int]:
    if pipes is None:
        return {"master": started.master}
    found = {name: descriptor for descriptor, name in pipes.outputs.items()}
    if pipes.stdin >= 0:
        found["stdin"] = pipes.stdin
    return found


def _remove_cgroup(cgroup: Cgroup) -> None:
    cgroup.kill()
    cgroup.remove()
