"""Containers made directly by `windlass.runtime.container`, without daemon, launcher or monitor, for tests."""

from __future__ import annotations

import contextlib
import copy
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from windlass.kernel.cgroups import Cgroup, Hierarchy, detect, open_cgroup
from windlass.kernel.mounts import Mount
from windlass.kernel.seccomp import default_profile
from windlass.runtime.container import Process, create_process, exec_process

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    )
]  # fmt: skip
MOUNTS = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777")),
)
MASKED = [
    *(f"/proc/{name}" for name in ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug")),
    *(f"/proc/{name}" for name in ("scsi", "timer_list", "timer_stats")),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
]
READONLY = [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TIMEOUT = 20.0


class Result(NamedTuple):
    """How a program ended (negative for a signal), and what it said."""

    code: int
    stdout: str
    stderr: str


def busybox_root(path: Path) -> Path:
    """A root file system of Debian's static busybox."""
    for folder in ("bin", "proc", "sys", "dev", "tmp", "etc", "root", "var"):
        (path / folder).mkdir(parents=True)
    (path / "tmp").chmod(0o1777)
    shutil.copy("/bin/busybox", path / "bin" / "busybox")
    for applet in subprocess.check_output(["/bin/busybox", "--list"], text=True).split():
        name = path / "bin" / applet
        if not name.exists():
            name.symlink_to("busybox")
    (path / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home:/bin/sh\n")
    (path / "etc" / "group").write_text("root:x:0:\nweb:x:1000:\n")
    return path


def docker_config(args: Sequence[str], *, terminal: bool = False) -> dict[str, Any]:
    """The configuration that the engine makes for a container without flags, but for its network: the host's."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0, "additionalGids": [0]},
            "args": list(args),
            "env": [f"PATH={PATH}", "HOSTNAME=box"],
            "cwd": "/",
            "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")},
            "oomScoreAdj": 0,
            "noNewPrivileges": False,
        },
        "root": {"path": "/nowhere", "readonly": False},
        "hostname": "box",
        "mounts": [
            {"destination": target, "type": kind, "source": source, "options": list(options)}
            for target, kind, source, options in MOUNTS
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("mount", "uts", "pid", "ipc", "cgroup")],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
            "devices": [],
            "resources": {},
            "seccomp": default_profile(CAPABILITIES),
        },
    }


class Workshop:
    """Makes containers over one image, and takes them away again."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder = folder
        self.image = image
        self.hierarchy: Hierarchy = detect()
        self._count = 0
        self._running: list[Process] = []
        self._groups: list[Cgroup] = []

    def rootfs(self) -> list[Mount]:
        """A fresh overlay over the image."""
        self._count += 1
        place = self.folder / f"c{self._count}"
        for name in ("upper", "work"):
            (place / name).mkdir(parents=True)
        options = (f"upperdir={place}/upper", f"workdir={place}/work")
        return [Mount("overlay", "overlay", options, (str(self.image),))]

    @property
    def upper(self) -> Path:
        """What the last container has written."""
        return self.folder / f"c{self._count}" / "upper"

    def cgroup(self) -> Cgroup:
        """A group of its own."""
        group = open_cgroup(f"/windlass-test-{os.getpid()}/x{len(self._groups)}", self.hierarchy)
        group.create()
        self._groups.append(group)
        return group

    def start(self, config: dict[str, Any], *, rootfs: list[Mount] | None = None, **more: Any) -> Running:
        """Start a container with pipes (or a terminal, as the configuration says)."""
        pipes = _Pipes(terminal=config["process"]["terminal"])
        try:
            process = create_process(
                config,
                rootfs=self.rootfs() if rootfs is None else rootfs,
                stdio=pipes.stdio,
                hierarchy=self.hierarchy,
                **more,
            )
        except BaseException:
            pipes.close()
            raise
        self._running.append(process)
        return Running(self, process, pipes, config)

    def run(
        self,
        script: str | Sequence[str],
        change: Callable[[dict[str, Any]], None] | None = None,
        **more: Any,
    ) -> Result:
        """Run a shell script, or a command, in a container to its end."""
        args = ["/bin/sh", "-c", script] if isinstance(script, str) else list(script)
        config = docker_config(args)
        if change is not None:
            change(config)
        return self.start(copy.deepcopy(config), **more).finish()

    def ended(self, process: Process) -> None:
        self._running.remove(process)

    def close(self) -> None:
        for process in self._running:
            try:
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.waitpid(process.pid, 0)
            os.close(process.pidfd)
        for group in self._groups:
            group.kill()
            group.remove()
        if self._groups:
            open_cgroup(f"/windlass-test-{os.getpid()}", self.hierarchy).discard()
        self.hierarchy.close()


class _Pipes:
    def __init__(self, *, terminal: bool) -> None:
        self.ours: list[int] = []
        self.theirs: list[int] = []
        self.stdio: tuple[int, int, int] | None = None
        if terminal:
            return
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.theirs.append(null)
        for _ in range(2):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            os.fchmod(writing, 0o622)
            self.ours.append(reading)
            self.theirs.append(writing)
        self.stdio = (null, self.theirs[1], self.theirs[2])

    def close_theirs(self) -> None:
        for fd in self.theirs:
            os.close(fd)
        self.theirs = []

    def close(self) -> None:
        self.close_theirs()
        for fd in self.ours:
            os.close(fd)
        self.ours = []


class Running:
    """A process in a container."""

    def __init__(self, workshop: Workshop, process: Process, pipes: _Pipes, config: dict[str, Any]) -> None:
        self.process = process
        self.config = config
        self._workshop = workshop
        self._pipes = pipes
        pipes.close_theirs()

    @property
    def pid(self) -> int:
        return self.process.pid

    def execute(
        self, args: Sequence[str], change: Callable[[dict[str, Any]], None] | None = None, **more: Any
    ) -> Running:
        """A further process in the container."""
        document = docker_config(args)["process"]
        if change is not None:
            change(document)
        pipes = _Pipes(terminal=document["terminal"])
        try:
            process = exec_process(self.pid, document, self.config, stdio=pipes.stdio, **more)
        except BaseException:
            pipes.close()
            raise
        self._workshop._running.append(process)
        return Running(self._workshop, process, pipes, self.config)

    def read(self, stream: int = 0) -> str:
        """What stdout (or 1: stderr) has now; waits for something."""
        fd = self.process.master if self.process.master is not None else self._pipes.ours[stream]
        ready, _, _ = select.select([fd], [], [], TIMEOUT)
        assert ready, "no output"
        return os.read(fd, 1 << 16).decode(errors="replace")

    def read_until(self, words: str) -> str:
        text = ""
        while words not in text:
            more = self.read()
            assert more, f"{words!r} never came: {text!r}"
            text += more
        return text

    def signal(self, number: int) -> None:
        signal.pidfd_send_signal(self.process.pidfd, number)

    def finish(self) -> Result:
        """Wait for its end."""
        out: dict[int, bytes] = dict.fromkeys(self._pipes.ours, b"")
        open_ends = set(self._pipes.ours)
        while open_ends:
            ready, _, _ = select.select(list(open_ends), [], [], TIMEOUT)
            if not ready:
                self.signal(signal.SIGKILL)
                raise AssertionError(f"it does not end; so far {out}")
            for fd in ready:
                data = os.read(fd, 1 << 16)
                out[fd] += data
                if not data:
                    open_ends.remove(fd)
        poll = select.poll()
        poll.register(self.process.pidfd, select.POLLIN)
        if not poll.poll(TIMEOUT * 1000):
            self.signal(signal.SIGKILL)
            raise AssertionError("it does not end")
        _, status = os.waitpid(self.process.pid, 0)
        self._workshop.ended(self.process)
        texts = [out[fd].decode(errors="replace") for fd in self._pipes.ours] or ["", ""]
        self._pipes.close()
        os.close(self.process.pidfd)
        if self.process.master is not None:
            os.close(self.process.master)
        return Result(os.waitstatus_to_exitcode(status), *texts)


@contextlib.contextmanager
def temporary_workshop(image: Path) -> Iterator[Workshop]:
    """A workshop in a directory of its own, removed with everything in it."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-containers-"))
    workshop = Workshop(folder, image)
    try:
        yield workshop
    finally:
        workshop.close()
        shutil.rmtree(folder)


@contextlib.contextmanager
def temporary_image() -> Iterator[Path]:
    """A root file system of busybox in a directory of its own."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-image-"))
    try:
        yield busybox_root(folder / "image")
    finally:
        shutil.rmtree(folder)
