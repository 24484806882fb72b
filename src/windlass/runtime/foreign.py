"""Containers made by another OCI runtime: crun, runc, or whatever has their command line.

The runtime is run in a mount namespace of its own, so that the root file system is mounted where only the runtime and
the container see it, and is gone with them:

    monitor ──fork──> helper: new mount namespace, nothing propagates to the host
                        mount the rootfs at <bundle>/<root.path>
                        hide the v2 hierarchy of a hybrid host (crun refuses such hosts otherwise)
                        exec `crun --root R run --detach --bundle B --pid-file P ID`
    the container's init, orphaned by the runtime, becomes the monitor's child (it is a subreaper)

The runtime's complaints are read from its `--log` file, because its stderr is the container's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import time

from windlass.kernel import mounts as kernel_mounts
from windlass.kernel import namespaces, pty
from windlass.kernel.mount_options import MS_SLAVE
from windlass.runtime.monitor.runtimes import Started
from windlass.runtime.monitor.stdio import owner_of
from windlass.runtime.own import to_mount
from windlass.runtime.wire import LaunchFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from windlass.kernel.cgroups import Cgroup
    from windlass.runtime.monitor.runtimes import Size, Stdio

_PATIENCE = 120.0
_CONSOLE = "console.sock"
_LOG = "runtime.log"
_PID_FILE = "runtime.pid"
_NOT_FOUND = ("no such file or directory", "not found")
_NOT_ALLOWED = ("permission denied",)


class ForeignRuntime:
    """One container of another runtime; implements `monitor.runtimes.Runtime`.

    Args:
        config: the bundle's config.json; the runtime reads the file itself.
        launch: `runtime` is {"name", "path", "args", "root"}: the executable, arguments before the verb, state
            directory.
        directory: the bundle.
        cgroup: where the config's cgroupsPath points; made by us, limited by the runtime.
    """

    def __init__(
        self, config: dict[str, Any], launch: dict[str, Any], *, directory: str, cgroup: Cgroup | None
    ) -> None:
        runtime = launch["runtime"]
        self._name = str(runtime.get("name") or runtime["path"])
        self._path = str(runtime.get("path") or self._name)
        self._arguments = [str(argument) for argument in runtime.get("args") or []]
        self._root = str(runtime.get("root") or os.path.join(directory, "runtime"))
        self._id = str(launch["id"])
        self._directory = directory
        self._cgroup = cgroup
        # Set by the runtime before the process runs; a size set by us afterwards would come as a change.
        self._has_size = bool((config.get("process") or {}).get("consoleSize"))
        self._linux = config.get("linux") or {}
        self._rootfs = os.path.join(directory, str((config.get("root") or {}).get("path") or "rootfs"))
        mounts = launch.get("rootfs")
        self._mounts = None if mounts is None else [to_mount(entry) for entry in mounts]

    def create(self, stdio: Stdio | None, size: Size | None) -> Started:
        """`run --detach`."""
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        if self._mounts is not None:
            os.makedirs(self._rootfs, mode=0o700, exist_ok=True)
        try:
            started = self._start("run", ["--detach", "--bundle", self._directory], stdio, mount=True)
        except LaunchFailure:
            with contextlib.suppress(OSError):
                self.release()
            raise
        if started.master >= 0 and size is not None and not self._has_size:
            pty.set_size(started.master, *size)
        return started

    def execute(self, init: int, spec: dict[str, Any], stdio: Stdio | None, size: Size | None) -> Started:
        """`exec --detach`."""
        document = os.path.join(self._directory, f"process-{os.getpid()}.json")
        process = {**spec["process"], "terminal": bool(spec.get("terminal"))}
        if size is not None:
            process["consoleSize"] = {"height": size[0], "width": size[1]}
        with open(document, "w", encoding="utf-8") as file:
            json.dump(process, file)
        try:
            options = ["--detach", "--process", document]
            started = self._start("exec", options, stdio, mount=False)
        finally:
            os.unlink(document)
        if started.master >= 0 and size is not None:
            pty.set_size(started.master, *size)  # crun does it late, or not at all
        return started

    def warm_up(self) -> None:
        """See `Runtime`: the work is another program's."""

    def owner(self, process: dict[str, Any]) -> tuple[int, int]:
        """See `Runtime`."""
        return owner_of(process, self._linux)

    @property
    def releases(self) -> bool:
        """See `Runtime`."""
        return True

    def release(self) -> None:
        """`delete --force`."""
        code, message = self._invoke(["delete", "--force", self._id], None, mount=False)
        for name in (_LOG, _PID_FILE, _CONSOLE):
            _remove(os.path.join(self._directory, name))
        if code != 0:
            raise OSError(errno.EIO, f"{self._name} delete: {message or f'exit code {code}'}")

    def _start(self, verb: str, options: list[str], stdio: Stdio | None, *, mount: bool) -> Started:
        pid_file = os.path.join(self._directory, _PID_FILE)
        _remove(pid_file)
        console = _Console(self._directory) if stdio is None else None
        try:
            if console is not None:
                # Relative, because a socket's path may have 108 bytes at most: the helper is in our directory.
                options = [*options, "--console-socket", _CONSOLE]
            arguments = [verb, *options, "--pid-file", pid_file, self._id]
            code, message = self._invoke(arguments, stdio, mount=mount)
            if code != 0:
                raise _failure(self._name, verb, code, message)
            with open(pid_file) as file:
                pid = int(file.read())
            master = console.receive() if console is not None else -1
        except (OSError, ValueError) as error:
            raise LaunchFailure(verb, f"{self._name} {verb}: {error}", getattr(error, "errno", None) or 0) from None
        finally:
            if console is not None:
                console.close()
            _remove(pid_file)
        return Started(pid, master)

    def _invoke(self, arguments: list[str], stdio: Stdio | None, *, mount: bool) -> tuple[int, str]:
        """Run the runtime -> (exit code, its last complaint)."""
        log = os.path.join(self._directory, _LOG)
        _remove(log)
        command = [self._path, "--root", self._root, "--log", log, "--log-format", "json", *self._arguments, *arguments]
        problem_reading, problem_writing = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _run_helper(self, command, stdio, problem_writing, mount=mount)
        os.close(problem_writing)
        try:
            code = _wait(pid)
            problem = os.read(problem_reading, 4096).decode(errors="replace")
        finally:
            os.close(problem_reading)
        return code, problem or _last_complaint(log)

    def prepare_namespace(self, *, mount: bool) -> None:
        """In the helper: a mount namespace as the runtime needs it."""
        namespaces.unshare(namespaces.CLONE_NEWNS)
        top = kernel_mounts.open_tree("/")
        kernel_mounts.set_attributes(top, propagation=MS_SLAVE, recursive=True)
        os.close(top)
        if mount and self._mounts is not None:
            kernel_mounts.mount_all(self._mounts, self._rootfs)
        if self._cgroup is None:
            return
        paths = self._cgroup.paths
        unified = paths.get("")
        if unified is None or len(paths) == 1:
            return
        # Hybrid: the runtime will only know v1. Put it, and so all that it starts, into the v2 group ourselves.
        if mount:
            with open(os.path.join(unified, "cgroup.procs"), "w") as file:
                file.write("0")
        hidden = unified[: len(unified) - len(self._cgroup.path)].rstrip("/")
        for entry in kernel_mounts.mountinfo():
            if entry.type == "cgroup2" and (entry.target == hidden or unified.startswith(entry.target + "/")):
                kernel_mounts.umount2(entry.target, kernel_mounts.MNT_DETACH)


def _run_helper(
    runtime: ForeignRuntime, command: list[str], stdio: Stdio | None, problem: int, *, mount: bool
) -> NoReturn:
    """The child: prepare, become the runtime."""
    try:
        os.chdir(runtime._directory)
        runtime.prepare_namespace(mount=mount)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number, descriptor in enumerate(stdio or (0, 1, 2)):
            os.dup2(descriptor, number)
        os.execvp(command[0], command)  # noqa: S606
    except BaseException as error:
        os.write(problem, f"{command[0]}: {error}".encode()[:4096])
    finally:
        os._exit(127)


class _Console:
    """The socket on which the runtime hands over the terminal's master."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, _CONSOLE)
        _remove(self._path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.bind(f"/proc/self/fd/{descriptor}/{_CONSOLE}")
        finally:
            os.close(descriptor)
        self._socket.listen(1)
        self._socket.settimeout(_PATIENCE)

    def receive(self) -> int:
        """The master; the runtime has connected already, or never will."""
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(_PATIENCE)
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        if not descriptors:
            raise OSError(errno.ENOTTY, "the runtime sent no terminal")
        return descriptors[0]

    def close(self) -> None:
        self._socket.close()
        _remove(self._path)


def _wait(pid: int) -> int:
    """The exit code of the helper; killed if it takes too long."""
    descriptor = os.pidfd_open(pid)
    try:
        deadline = time.monotonic() + _PATIENCE
        if not select.select([descriptor], [], [], deadline - time.monotonic())[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(status)


def _last_complaint(log: str) -> str:
    """The last message in the runtime's log (a JSON object a line: "msg")."""
    try:
        with open(log, "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            record = json.loads(line)
            if record.get("level", "error") in ("error", "fatal"):
                return str(record["msg"])
        except (ValueError, LookupError, AttributeError):
            continue
    return ""


def _failure(name: str, verb: str, code: int, message: str) -> LaunchFailure:
    """With the errno that the message speaks of, where it speaks of the user's program."""
    lowered = message.lower()
    number = 0
    if "exec" in lowered:
        if any(words in lowered for words in _NOT_FOUND):
            number = errno.ENOENT
        elif any(words in lowered for words in _NOT_ALLOWED):
            number = errno.EACCES
    return LaunchFailure("exec" if number else verb, f"{name} {verb}: {message or f'exit code {code}'}", number)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
