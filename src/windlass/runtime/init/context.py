"""What the forked child carries through the plan, and how it speaks to its parent.

channel (SOCK_SEQPACKET, close-on-exec)
  child  -> parent   {"pid": n}                      an intermediate has made the init
                     {"user": true}                  a user namespace waits for its maps
                     {"hooks": "createRuntime"}      run these now
                     {"terminal": true} + descriptor the master of the container's terminal
                     {"cgroup": n}                   move me beside process n
                     {"warning": text}               a default that this host cannot grant
                     {"created": true}               standing before the start
                     {"listener": n}                 the next descriptor, n, will be that of seccomp's notifications
                     {"error": {stage, message, errno}}
  parent -> child    one byte: go on
  end of the channel: the program runs (execve closed it), if the container was complete (see `mark_ready`)
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from windlass.kernel.paths import open_beneath
from windlass.kernel.seccomp import Filter
from windlass.runtime.wire import LaunchFailure

if TYPE_CHECKING:
    from windlass.kernel.cgroups import Cgroup, Hierarchy
    from windlass.runtime.trees import Trees


class Context:
    """State of one child while it becomes a container.

    Attributes:
        trees: detached mounts that the parent has prepared, with rights that the child may not have.
        root: descriptor of the container's root once it is attached, -1 before and after the pivot.
        proc: the host's procfs, which no image can have replaced.
        null: the host's null device.
        devpts: the container's own devpts, -1 if it has none.
        program: the path of what is to be executed.
    """

    def __init__(
        self,
        *,
        channel: socket.socket,
        trees: Trees,
        stdio: tuple[int, int, int] | None,
        console_size: tuple[int, int] | None = None,
        seccomp: bytes | None = None,
        cgroup: Cgroup | None = None,
        hierarchy: Hierarchy | None = None,
        gate: int | None = None,
        state: Mapping[str, Any] | None = None,
        hooks: Mapping[str, Any] | None = None,
        uid: int = 0,
        last_capability: int = 40,
    ) -> None:
        self.channel = channel
        self.trees = trees
        self.stdio = stdio
        self.console_size = console_size
        self.filter = None if seccomp is None else Filter(seccomp)
        self.cgroup = cgroup
        self.hierarchy = hierarchy
        self.gate = gate
        self.state = dict(state or {})
        self.hooks = hooks or {}
        self.uid = uid
        self.last_capability = last_capability
        self.in_cgroup = False
        # One byte that parent and child share. A message would wake the parent for nothing.
        self._ready = mmap.mmap(-1, 1)
        self.born_in_cgroup = False  # in its v2 part, by clone3: entering that by a write waits 2 to 12 ms
        self.entered_directory = False
        self.written_sysctls: set[str] = set()  # by an intermediate that had the right to
        self.program = ""
        self.root = -1
        self.proc = -1
        self.null = -1
        self.devpts = -1
        self.empty = -1  # an empty read-only tmpfs, of which masks are clones

    def mark_ready(self) -> None:
        """The container is complete: what comes now is the program's own life."""
        self._ready[0] = 1

    def is_ready(self) -> bool:
        """For the parent: did the child get that far?"""
        return self._ready[0] == 1

    def close(self) -> None:
        """The parent needs it no more."""
        self._ready.close()

    def open_proc(self) -> None:
        """Hold the host's procfs, while it can be found by its name."""
        self.proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_null(self) -> None:
        """Hold the host's null device, as it is mounted in our own namespace: only that can be cloned."""
        self.null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
        if os.fstat(self.null).st_rdev != os.makedev(1, 3):
            raise LaunchFailure("mount", "/dev/null is not the null device", errno.ENODEV)

    def own_directory(self) -> str:
        """Our directory in the host's procfs. `self` is a link, and links are not followed there."""
        return os.readlink("self", dir_fd=self.proc)

    def write_proc(self, path: str, value: str) -> None:
        """Write a file below /proc of the host, no link followed (CVE-2019-16884, CVE-2025-52881)."""
        fd = open_beneath(self.proc, path, os.O_WRONLY)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)

    def tell(self, **message: Any) -> None:
        """Send a message to the parent."""
        self.channel.send(json.dumps(message).encode())

    def await_go(self) -> None:
        """Wait for the parent. Raises LaunchFailure when it has gone."""
        if not self.channel.recv(16):
            raise LaunchFailure("parent", "the parent has gone")

    def send_terminal(self, master: int) -> None:
        """Hand the master over; our copy is closed."""
        socket.send_fds(self.channel, [b'{"terminal": true}'], [master])
        os.close(master)
