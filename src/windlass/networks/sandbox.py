"""Network sandboxes: network namespaces with a name in the file system.

```
 <exec root>/netns/<12 hex>   an empty file, over it a bind mount of nsfs: the namespace lives as long as the mount,
                              whoever has left it; `nsenter --net=<path>` and foreign runtimes enter it by this path
```

unshare(2) and setns(2) move one thread. Whoever calls `make` or `enter` must therefore be a thread that nobody else
uses meanwhile; it is back in the host's namespace afterwards. What is configured inside goes through a netlink socket
that was opened there, and so needs no second visit. See network_namespaces(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from windlass.kernel.mounts import MNT_DETACH, move_mount, open_tree_clone, umount2
from windlass.kernel.namespaces import CLONE_NEWNET, setns, unshare
from windlass.kernel.netlink import link
from windlass.kernel.netlink.connection import NetlinkSocket

# The calling thread's own namespace; /proc/self would be the main thread's.
_OWN = "/proc/thread-self/ns/net"


class Sandbox:
    """A network namespace that we made, with the means to configure it from outside until it is handed over."""

    def __init__(self, identity: str, path: str, namespace: int, netlink: NetlinkSocket) -> None:
        self.id = identity
        self.path = path
        self.namespace = namespace
        self.netlink = netlink

    def close(self) -> None:
        """Let go of descriptor and socket; the namespace stays."""
        if self.namespace >= 0:
            os.close(self.namespace)
            self.namespace = -1
            self.netlink.close()


def _bind(source: str, place: int, about: str) -> None:
    tree = open_tree_clone(source)
    try:
        move_mount(tree, place, about=about)
    finally:
        os.close(tree)


def _set_ipv6(allowed: bool) -> None:
    """Whether interfaces that come into the thread's namespace from now on have IPv6; those that are there stay."""
    with contextlib.suppress(FileNotFoundError):  # a host without IPv6
        write_sysctl("net/ipv6/conf/default/disable_ipv6", "0" if allowed else "1")
        if allowed:
            # A neighbour could announce itself as everybody's router.
            write_sysctl("net/ipv6/conf/default/accept_ra", "0")


def write_sysctl(name: str, value: str) -> None:
    """Set `net/ipv4/ip_forward` and the like for the calling thread's network namespace. Raises OSError."""
    with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
        file.write(value)


def read_sysctl(name: str) -> str:
    with open(f"/proc/sys/{name}", encoding="ascii") as file:
        return file.read().strip()


def has_ipv6() -> bool:
    """Whether this kernel has IPv6 at all."""
    return os.path.exists("/proc/sys/net/ipv6")


class Sandboxes:
    """The directory of one daemon's sandboxes. Made in a thread that stands in the host's network namespace."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError."""
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._directory = str(directory)
        self._host = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._host)

    def make(self, *, ipv6: bool = False) -> Sandbox:
        """A new namespace with loopback up. Without `ipv6`, interfaces that come into it have IPv6 switched off.

        Raises OSError; then nothing is left.
        """
        identity = secrets.token_hex(32)
        path = f"{self._directory}/{identity[:12]}"
        unshare(CLONE_NEWNET)
        try:
            # Loopback came with the namespace, so it keeps ::1 in any case.
            _set_ipv6(ipv6)
            with contextlib.ExitStack() as undo:
                netlink = undo.enter_context(NetlinkSocket())
                netlink.request(link.set_link("lo", up=True))
                namespace = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
                undo.callback(os.close, namespace)
                place = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
                undo.callback(os.unlink, path)
                try:
                    _bind(_OWN, place, path)
                finally:
                    os.close(place)
                undo.pop_all()
            return Sandbox(identity, path, namespace, netlink)
        finally:
            setns(self._host, CLONE_NEWNET)

    @contextlib.contextmanager
    def enter(self, path: str) -> Iterator[NetlinkSocket]:
        """Stand in the sandbox at `path` with a netlink socket there. Raises OSError."""
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(namespace, CLONE_NEWNET)
        finally:
            os.close(namespace)
        try:
            with NetlinkSocket() as netlink:
                yield netlink
        finally:
            setns(self._host, CLONE_NEWNET)

    @contextlib.contextmanager
    def open(self, path: str, *, ipv6: bool) -> Iterator[Sandbox]:
        """A sandbox that is in use, to get one more interface, with or without IPv6. Raises OSError."""
        with self.enter(path) as netlink:
            _set_ipv6(ipv6)
            namespace = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield Sandbox(os.path.basename(path), path, namespace, netlink)
            finally:
                os.close(namespace)

    def remove(self, path: str) -> None:
        """Take the name away; the kernel frees the namespace and its links when the last process has left.

        What is gone already is no error. Raises OSError, and ValueError for a path that is none of ours.
        """
        if os.path.dirname(path) != self._directory:
            raise ValueError(f"{path} is no sandbox of {self._directory}")
        # EINVAL: the file is there and the mount is not, as after a reboot.
        with contextlib.suppress(FileNotFoundError):
            try:
                umount2(path, MNT_DETACH)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            os.unlink(path)

    def paths(self) -> list[str]:
        """The sandboxes that have a name now, ours and those of a daemon that died."""
        with os.scandir(self._directory) as entries:
            return [entry.path for entry in entries if not entry.is_dir(follow_symlinks=False)]
