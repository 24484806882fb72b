"""Namespaces: their flags and names, entering and making them (namespaces(7), clone(2), setns(2))."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final, NamedTuple

from windlass.kernel import syscalls
from windlass.kernel.syscalls import LIBC, check, syscall

CLONE_NEWTIME: Final = 0x00000080
CLONE_PIDFD: Final = 0x00001000
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CLONE_INTO_CGROUP: Final = 0x200000000


class Namespace(NamedTuple):
    """A kind of namespace: its name in OCI documents, its file in /proc/<pid>/ns, and its clone flag."""

    name: str
    file: str
    flag: int


NAMESPACES: Final = {
    namespace.name: namespace
    for namespace in (
        Namespace("user", "user", CLONE_NEWUSER),
        Namespace("pid", "pid", CLONE_NEWPID),
        Namespace("network", "net", CLONE_NEWNET),
        Namespace("ipc", "ipc", CLONE_NEWIPC),
        Namespace("uts", "uts", CLONE_NEWUTS),
        Namespace("cgroup", "cgroup", CLONE_NEWCGROUP),
        Namespace("time", "time", CLONE_NEWTIME),
        Namespace("mount", "mnt", CLONE_NEWNS),
    )
}


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    check(LIBC.unshare(flags), f"unshare {flags:#x}")


def setns(descriptor: int, flags: int = 0) -> None:
    """setns(2): enter the namespace of a descriptor, or those that `flags` name of a pidfd's process."""
    check(LIBC.setns(descriptor, flags), f"setns {flags:#x}")


def clone3(flags: int, *, cgroup: int | None = None, exit_signal: int = 17) -> tuple[int, int]:
    """clone3(2) as fork does it: (0, -1) in the child, (pid, pidfd) in the parent.

    The interpreter knows nothing of this child: it must be single-threaded, do little, and end in execve or os._exit.
    """
    pidfd = ctypes.c_int(-1)
    flags |= CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup is not None else 0)
    arguments = struct.pack(
        "11Q",
        flags,
        ctypes.addressof(pidfd),
        0,  # child_tid
        0,  # parent_tid
        exit_signal,
        0,  # stack
        0,  # stack_size
        0,  # tls
        0,  # set_tid
        0,  # set_tid_size
        cgroup if cgroup is not None else 0,
    )
    pid = syscall(syscalls.CLONE3, arguments, len(arguments), name="clone3")
    return (0, -1) if pid == 0 else (pid, pidfd.value)


def identity(pid: int | str, kind: str) -> tuple[int, int]:
    """Device and inode of a process's namespace of a kind (OCI name): equal for two in the same one."""
    found = os.stat(f"/proc/{pid}/ns/{NAMESPACES[kind].file}")
    return found.st_dev, found.st_ino
