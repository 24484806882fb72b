"""A process's own attributes: prctl(2), descriptors, limits, OOM score."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

from windlass.kernel import syscalls
from windlass.kernel.syscalls import LIBC, check, syscall

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_SET_NAME: Final = 15
PR_SET_SECUREBITS: Final = 28
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38

CLOSE_RANGE_CLOEXEC: Final = 4

# getrlimit(2)'s names as OCI and Docker write them.
RLIMITS: Final = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")} | {
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
RLIM_INFINITY: Final = 2**64 - 1


def prctl(option: int, value: int | bytes = 0, name: str = "prctl") -> None:
    """prctl(2) with one argument."""
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    check(LIBC.prctl(option, argument, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)), name)


def set_name(name: str) -> None:
    """The name in /proc/self/comm, 15 bytes at most."""
    prctl(PR_SET_NAME, name.encode()[:15], "set name")


def set_parent_death_signal(number: int) -> None:
    """Be sent this signal when the parent thread ends; 0 clears."""
    prctl(PR_SET_PDEATHSIG, number, "set parent death signal")


def set_child_subreaper() -> None:
    """Orphaned descendants become our children."""
    prctl(PR_SET_CHILD_SUBREAPER, 1, "set child subreaper")


def set_no_new_privileges() -> None:
    """execve(2) gives no privileges from now on; cannot be undone."""
    prctl(PR_SET_NO_NEW_PRIVS, 1, "set no_new_privs")


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` on close-on-exec (close_range(2))."""
    syscall(syscalls.CLOSE_RANGE, first, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC, name="close_range")


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close every descriptor from `first` to `last`."""
    syscall(syscalls.CLOSE_RANGE, first, last, 0, name="close_range")


def set_rlimit(name: str, soft: int, hard: int) -> None:
    """setrlimit(2) by name; -1 and 2**64-1 mean unlimited. Raises OSError naming it, ValueError for no such name."""
    if name not in RLIMITS:
        raise ValueError(f"invalid rlimit type: {name}")

    def bounded(value: int) -> int:
        return resource.RLIM_INFINITY if value in {-1, RLIM_INFINITY} else value

    try:
        resource.setrlimit(RLIMITS[name], (bounded(soft), bounded(hard)))
    except ValueError as error:
        raise PermissionError(1, f"{error}", name) from None
    except OSError as error:
        raise OSError(error.errno, f"error setting rlimit type {name}: {error.strerror}") from None


def set_oom_score_adjustment(value: int, pid: int | str = "self") -> None:
    """oom_score_adj, -1000 to 1000 (proc(5)); lowering it needs CAP_SYS_RESOURCE."""
    with open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write(str(value))


def set_identity(uid: int, gid: int, groups: list[int]) -> None:
    """Become a user: supplementary groups, then all group ids, then all user ids."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
