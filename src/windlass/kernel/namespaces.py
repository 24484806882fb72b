"""Namespaces (namespaces(7)): new ones, existing ones, and processes made in them."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from typing import Final, NamedTuple

from windlass.kernel.syscalls import CLONE3, call, call_holding_gil, number_of

CLONE_NEWTIME: Final = 0x00000080
CLONE_PIDFD: Final = 0x00001000
CLONE_PARENT: Final = 0x00008000
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CLONE_INTO_CGROUP: Final = 0x200000000

FLAGS: Final = {
    "user": CLONE_NEWUSER,
    "mount": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}
"""The OCI name of each kind and its clone(2) flag."""

FILES: Final = {
    "user": "user",
    "mount": "mnt",
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
}
"""The OCI name of each kind and its file in /proc/PID/ns."""

_ARGUMENTS: Final = struct.Struct("=11Q")


class Clone(NamedTuple):
    """What clone3 returned: `pid` 0 in the child; `pidfd` is -1 in the child and where none was asked for."""

    pid: int
    pidfd: int


def unshare(flags: int) -> None:
    """unshare(2)."""
    call("unshare", number_of("unshare"), flags)


def setns(fd: int, flags: int = 0, *, about: str | None = None) -> None:
    """setns(2): `fd` is a namespace file, or a pidfd with the CLONE_NEW* flags of the namespaces to join at once."""
    call("setns", number_of("setns"), fd, flags, about=about)


def clone3(flags: int = 0, *, pidfd: bool = True, cgroup: int | None = None, parent_is_ours: bool = False) -> Clone:
    """clone3(2) as fork: the child is a copy of this process, in the namespaces that `flags` ask for.

    Args:
        flags: CLONE_NEW*.
        pidfd: return a pidfd (close-on-exec).
        cgroup: descriptor of a v2 group in which the child begins its life.
        parent_is_ours: the child becomes our sibling (CLONE_PARENT): our parent reaps it.

    Python's after-fork handlers do not run: the caller has one thread, and the child goes on to execve or `_exit`.
    """
    place = ctypes.c_int(-1)
    if pidfd:
        flags |= CLONE_PIDFD
    if cgroup is not None:
        flags |= CLONE_INTO_CGROUP
    if parent_is_ours:
        flags |= CLONE_PARENT
    exit_signal = 0 if parent_is_ours else signal.SIGCHLD
    arguments = _ARGUMENTS.pack(
        flags, ctypes.addressof(place) if pidfd else 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup or 0
    )
    pid = call_holding_gil("clone3", CLONE3, arguments, len(arguments))
    if pid == 0:
        return Clone(0, -1)
    return Clone(pid, place.value)


def open_namespace(kind: str, pid: int | str = "self") -> int:
    """A descriptor of a process's namespace of the OCI kind `kind`."""
    return os.open(f"/proc/{pid}/ns/{FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC)


def identity(kind: str, pid: int | str = "self") -> str:
    """What `readlink /proc/PID/ns/…` says, such as `net:[4026531840]`: equal for equal namespaces."""
    return os.readlink(f"/proc/{pid}/ns/{FILES[kind]}")


def supported(kind: str) -> bool:
    """Does this kernel have namespaces of this kind?"""
    return os.path.exists(f"/proc/self/ns/{FILES[kind]}")
