"""System calls through ctypes: one C library handle, errno as `OSError`, numbers for calls that libc does not wrap.

A ctypes call releases the interpreter's lock while the kernel works. Pointers to Python bytes are passed as they are;
a path is encoded with the file system's encoding. Every function here is a thin `check`; the rooms beside this one give
the calls their meaning.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any, Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)
_syscall: Final = LIBC.syscall
_syscall.restype = ctypes.c_long

# Numbers from 424 (pidfd_send_signal) on are the same on every architecture.
PIDFD_SEND_SIGNAL: Final = 424
OPEN_TREE: Final = 428
MOVE_MOUNT: Final = 429
FSOPEN: Final = 430
FSCONFIG: Final = 431
FSMOUNT: Final = 432
FSPICK: Final = 433
PIDFD_OPEN: Final = 434
CLONE3: Final = 435
CLOSE_RANGE: Final = 436
OPENAT2: Final = 437
PIDFD_GETFD: Final = 438
MOUNT_SETATTR: Final = 442

_BY_MACHINE: Final[dict[str, dict[str, int]]] = {
    "x86_64": {
        "pivot_root": 155, "seccomp": 317, "capset": 126, "keyctl": 250, "ioprio_set": 251, "sched_setattr": 314,
        "personality": 135, "set_mempolicy": 238,
    },
    "aarch64": {
        "pivot_root": 41, "seccomp": 277, "capset": 91, "keyctl": 219, "ioprio_set": 30, "sched_setattr": 274,
        "personality": 92, "set_mempolicy": 237,
    },
}  # fmt: skip

NUMBERS: Final = _BY_MACHINE.get(os.uname().machine, {})


def number(name: str) -> int:
    """The number of a call on this machine. Raises OSError(ENOSYS) where it is not known."""
    try:
        return NUMBERS[name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"{name}: unknown on {os.uname().machine}") from None


def fail(name: str, path: str | os.PathLike[str] | None = None) -> OSError:
    """The error that the last failed call left, with what it was about."""
    code = ctypes.get_errno()
    if path is None:
        return OSError(code, f"{name}: {os.strerror(code)}")
    return OSError(code, f"{name}: {os.strerror(code)}", os.fspath(path))


def syscall(call: int, *arguments: Any, name: str = "", path: str | os.PathLike[str] | None = None) -> int:
    """Make a system call by number; integers are passed as longs. Raises OSError naming `name` and `path`."""
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(_syscall(ctypes.c_long(call), *converted))
    if result < 0:
        raise fail(name or f"system call {call}", path)
    return result


def check(result: int, name: str, path: str | os.PathLike[str] | None = None) -> int:
    """A libc function's result, or its error."""
    if result < 0:
        raise fail(name, path)
    return result
