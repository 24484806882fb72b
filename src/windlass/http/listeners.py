"""Sockets to listen on: unix (with their mode from the first moment), tcp, and those that systemd hands over."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_FIRST_INHERITED = 3  # sd_listen_fds(3)
_PATH_LIMIT = 107  # sun_path of unix(7), without the final NUL


class UnixListener(NamedTuple):
    """A bound unix socket and the name that is ours to remove."""

    sock: socket.socket
    path: str
    made: tuple[int, int, int]  # device, inode, time of birth (inode numbers come again)

    def unlink(self) -> None:
        """Remove the name, unless somebody else has taken it meanwhile."""
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino, found.st_mtime_ns) == self.made:
                os.unlink(self.path)


def bind_unix(path: str, *, mode: int = 0o600, gid: int = -1) -> UnixListener:
    """Bind a stream socket at `path`, replacing one that nobody listens on.

    It is born with mode 0600 and only then given its group and wider mode, so that nobody can connect who may not. Sets
    the umask for a moment: call it before there are threads. Raises `OSError`: EADDRINUSE when somebody listens there,
    EEXIST when `path` is no socket.
    """
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    with _directory(folder) as short:
        address = f"{short}/{name}"
        _clear(address, path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            sock.bind(address)
            if gid >= 0:
                os.chown(address, -1, gid)
            os.chmod(address, mode)
            sock.listen(1024)
            made = os.lstat(address)
        except BaseException:
            sock.close()
            raise
        finally:
            os.umask(before)
    return UnixListener(sock, path, (made.st_dev, made.st_ino, made.st_mtime_ns))


@contextlib.contextmanager
def _directory(path: str) -> Iterator[str]:
    """A name of the directory that leaves room for a file name within the limit of a socket address."""
    if len(os.fsencode(path)) + 60 <= _PATH_LIMIT:
        yield path
        return
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _clear(address: str, path: str) -> None:
    """Remove a socket that nobody listens on; refuse everything else that has the name."""
    try:
        found = os.lstat(address)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "exists and is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            os.unlink(address)
            return
        except BlockingIOError:
            pass  # its queue is full: somebody does listen
    raise OSError(errno.EADDRINUSE, "address already in use", path)


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Bind on every address that `host` means. Raises `OSError`."""
    sockets: list[socket.socket] = []
    try:
        infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            port = port or sock.getsockname()[1]
            sock.listen(1024)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


class Inherited(NamedTuple):
    """A listening socket that the service manager opened for us."""

    name: str  # FileDescriptorName= of the socket unit
    fd: int
    sock: socket.socket


def inherited(environ: Mapping[str, str]) -> list[Inherited]:
    """The sockets of systemd's socket activation (sd_listen_fds(3)); empty without it.

    Raises `OSError` when the environment promises a descriptor that is not there.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environ.get("LISTEN_FDS", "0") or 0)
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: list[Inherited] = []
    for index in range(count):
        fd = _FIRST_INHERITED + index
        os.set_inheritable(fd, False)
        name = names[index] if index < len(names) and names[index] else "unknown"
        found.append(Inherited(name, fd, socket.socket(fileno=fd)))
    return found
