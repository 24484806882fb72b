"""What must hold before the daemon touches anything: it is root, the kernel can do it, and its roots are its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import signal
from pathlib import Path
from typing import Final

from windlass.errors import SystemFailure

# openat2 5.6, close_range 5.9, epoll_pwait2 5.11, mount_setattr and idmapped mounts 5.12; Debian 12 has 6.1.
OLDEST_KERNEL: Final = (5, 12)


def check_host() -> None:
    """Raises `SystemFailure` saying what is missing and what helps."""
    if os.geteuid() != 0:
        raise SystemFailure("windlass daemon needs to be started as root: containers are made of namespaces and mounts")
    check_kernel(platform.release())
    if not os.path.exists("/proc/self/mountinfo"):
        raise SystemFailure("/proc is not mounted")
    if not os.path.ismount("/sys/fs/cgroup") and not os.path.isdir("/sys/fs/cgroup/unified"):
        raise SystemFailure("no control groups are mounted at /sys/fs/cgroup (mount -t cgroup2 none /sys/fs/cgroup)")


def check_kernel(release: str) -> None:
    """Raises `SystemFailure` for a kernel that is too old."""
    match = re.match(r"(\d+)\.(\d+)", release)
    if match and (int(match[1]), int(match[2])) < OLDEST_KERNEL:
        raise SystemFailure(f"kernel {release} is too old: {'.'.join(map(str, OLDEST_KERNEL))} or newer is needed")


class RootLock:
    """Holds a root directory against a second daemon; the kernel lets go when we end, however that is."""

    def __init__(self, root: Path) -> None:
        self._path = root / "daemon.lock"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise SystemFailure(
                f"{root} is in use by another daemon (process {holder}); give this one a root of its own"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would race with the next daemon's lock."""
        os.close(self._fd)


def make_root(path: Path, mode: int) -> None:
    """Make a root directory for us only, with its parents. Raises `SystemFailure`."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        path.chmod(mode)
    except OSError as error:
        raise SystemFailure(f"cannot make {path}: {error.strerror}") from error


class PidFile:
    """The file with our process number, for scripts that want to signal us."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with contextlib.suppress(OSError, ValueError):
            other = int(path.read_text())
            if other != os.getpid() and _is_daemon(other):
                raise SystemFailure(f"process with PID {other} is still running, {path} is its file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_text(f"{os.getpid()}\n")
            temporary.rename(path)
        except OSError as error:
            raise SystemFailure(f"cannot write the PID file {path}: {error.strerror}") from error

    def remove(self) -> None:
        """Remove it, if it is still ours."""
        with contextlib.suppress(OSError, ValueError):
            if int(self._path.read_text()) == os.getpid():
                self._path.unlink()


def _is_daemon(pid: int) -> bool:
    """Whether a process is a daemon of ours; numbers are used again."""
    try:
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"daemon" in command and any(b"windlass" in word or word.endswith(b"/wl") for word in command)


def raise_file_limit() -> None:
    """As many descriptors as the hard limit allows: each client, monitor and log takes some."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def ignore_broken_pipes() -> None:
    """A log reader that goes away must not end the daemon."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
