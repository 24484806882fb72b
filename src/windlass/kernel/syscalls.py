"""System calls that Python's `os` does not have, through the C library's `syscall` and ctypes.

One foreign function serves all of them: its prototype is seven machine words, so that numbers pass as 64 bits (a bare
ctypes call would cut them to a C `int`), and a word may also be `bytes` or a ctypes buffer, whose address is passed.
A call costs about half a microsecond over the kernel's own time. The GIL is released meanwhile, except where
`call_holding_gil` says so.

Errors are `OSError`s that name the call and, where there is one, the object:

    OSError: [Errno 22] move_mount: Invalid argument: '/proc'

Since Linux 5.1 new calls have the same number on all machines; the few older ones used here are in `_NUMBERS`.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final, TypeAlias

# The same everywhere (Linux: include/uapi/asm-generic/unistd.h).
OPEN_TREE: Final = 428
MOVE_MOUNT: Final = 429
FSOPEN: Final = 430
FSCONFIG: Final = 431
FSMOUNT: Final = 432
CLONE3: Final = 435
CLOSE_RANGE: Final = 436
OPENAT2: Final = 437
PIDFD_GETFD: Final = 438
FACCESSAT2: Final = 439
MOUNT_SETATTR: Final = 442

_NAMES: Final = (
    "mount", "umount2", "pivot_root", "unshare", "setns", "prctl", "personality", "sethostname", "setdomainname",
    "capset", "capget", "seccomp", "keyctl", "ioprio_set", "sched_setattr", "setfsuid", "setfsgid", "rt_sigaction",
    "rt_sigprocmask",
)  # fmt: skip
_GENERIC: Final = (40, 39, 41, 97, 268, 167, 92, 161, 162, 91, 90, 277, 219, 30, 274, 151, 152, 134, 135)
_NUMBERS: Final = {
    "x86_64": (165, 166, 155, 272, 308, 157, 135, 170, 171, 126, 125, 317, 250, 251, 314, 122, 123, 13, 14),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}
_NUMBER_OF: Final = dict(zip(_NAMES, _NUMBERS.get(os.uname().machine, ()), strict=False))

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EACCESS: Final = 0x200
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000

Word: TypeAlias = "int | bytes | ctypes.Array[ctypes.c_char] | None"

_library = ctypes.CDLL(None, use_errno=True)
_words = (ctypes.c_long, *(ctypes.c_void_p,) * 6)
_syscall = _library.syscall
_syscall.argtypes = _words
_syscall.restype = ctypes.c_long

_holding = ctypes.PyDLL(None, use_errno=True).syscall
_holding.argtypes = _words
_holding.restype = ctypes.c_long


def number_of(name: str) -> int:
    """The number of one of the older calls on this machine. ENOSYS for a machine type that is not in the table."""
    try:
        return _NUMBER_OF[name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"{name}: the number of this call on {os.uname().machine} is not known") from None


def call(
    name: str,
    number: int,
    a: Word = 0,
    b: Word = 0,
    c: Word = 0,
    d: Word = 0,
    e: Word = 0,
    f: Word = 0,
    *,
    about: str | None = None,
) -> int:
    """Make system call `number`; `name` and `about` (a path or object) are for the error.

    Signed numbers may be negative; a `bytes` argument must be NUL-terminated where the kernel reads a string (`text`).
    """
    result: int = _syscall(number, a, b, c, d, e, f)
    if result == -1:
        raise failure(name, about)
    return result


def attempt(number: int, a: Word = 0, b: Word = 0, c: Word = 0, d: Word = 0, e: Word = 0, f: Word = 0) -> int:
    """As `call`, but a failure is the result -errno: for calls that are expected to fail now and then."""
    result: int = _syscall(number, a, b, c, d, e, f)
    return -ctypes.get_errno() if result == -1 else result


def call_holding_gil(name: str, number: int, *words: Word) -> int:
    """As `call`, with the GIL held throughout: for calls that return twice. The child then owns a GIL that no thread,
    of which the child has but one, can have taken in between."""
    result: int = _holding(number, *words, *[0] * (6 - len(words)))
    if result == -1:
        raise failure(name, None)
    return result


def failure(name: str, about: str | None) -> OSError:
    """The error of the call that has just failed."""
    code = ctypes.get_errno()
    message = f"{name}: {os.strerror(code)}"
    return OSError(code, message) if about is None else OSError(code, message, about)


def text(value: str | bytes) -> bytes:
    """A path or string as the kernel reads it. EINVAL for one with a NUL inside, which the kernel would cut there."""
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise OSError(errno.EINVAL, "a NUL inside a path or option", os.fsdecode(encoded))
    return encoded
