"""Putting a compiled filter on the calling thread (seccomp(2)), for ever."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from typing import Final

from windlass.kernel.syscalls import call, number_of

_SET_MODE_FILTER: Final = 1
_FLAG_NEW_LISTENER: Final = 0x08
FLAGS: Final = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0x00,  # this process has one thread
    "SECCOMP_FILTER_FLAG_LOG": 0x02,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 0x04,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0x20,
}


def flag_bits(names: Iterable[str]) -> int:
    """OCI's `flags` as bits. `ValueError` for one that does not exist."""
    bits = 0
    for name in names:
        if name not in FLAGS:
            raise ValueError(f"unknown seccomp flag: {name!r}")
        bits |= FLAGS[name]
    return bits


class Filter:
    """A compiled filter, laid out in memory as the kernel wants it, so that a child need only point to it.

    Args:
        instructions: what `compile_filter` returned.
    """

    def __init__(self, instructions: bytes) -> None:
        self._code = ctypes.create_string_buffer(instructions, len(instructions))
        self._program = struct.pack("@HxxxxxxQ", len(instructions) // 8, ctypes.addressof(self._code))

    def install(self, *, flags: int = 0, listener: bool = False) -> int:
        """Put it on the calling thread, for ever; needs no_new_privs or CAP_SYS_ADMIN.

        Args:
            flags: from `flag_bits`.
            listener: make a descriptor (close-on-exec) on which calls with SCMP_ACT_NOTIFY arrive.

        Returns:
            That descriptor, else 0.
        """
        if listener:
            flags |= _FLAG_NEW_LISTENER
        return call("seccomp", number_of("seccomp"), _SET_MODE_FILTER, flags, self._program)


def install(instructions: bytes, *, flags: int = 0, listener: bool = False) -> int:
    """`Filter.install` for a filter that is used once."""
    return Filter(instructions).install(flags=flags, listener=listener)


def is_notification_descriptor(link: str) -> bool:
    """Whether `readlink /proc/PID/fd/N` says that N is such a descriptor."""
    return link == "anon_inode:seccomp notify"
