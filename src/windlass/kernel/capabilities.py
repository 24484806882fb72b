"""Capabilities (capabilities(7)): names, masks, and setting them on the calling thread.

A set is an `int` with bit N for capability N. Names are `CAP_…`; short or lower-case forms are read, too.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from windlass.kernel.syscalls import call, number_of

NAMES: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""By number (Linux: include/uapi/linux/capability.h)."""
NUMBERS: Final = {name: number for number, name in enumerate(NAMES)}
SETPCAP: Final = NUMBERS["CAP_SETPCAP"]
SYS_ADMIN: Final = NUMBERS["CAP_SYS_ADMIN"]

_VERSION_3: Final = 0x20080522
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT = 23, 24, 8, 47
_AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 2, 4


class Sets(NamedTuple):
    """The sets of a process, as masks."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int


def canonical_name(name: str) -> str:
    """`net_raw`, `CAP_NET_RAW` → `CAP_NET_RAW`. `ValueError` if there is no such capability."""
    upper = name.upper()
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NUMBERS:
        raise ValueError(f"unknown capability: {name!r}")
    return full


def parse_caps(names: Iterable[str]) -> int:
    """The mask of the named capabilities. `ValueError` if one does not exist."""
    mask = 0
    for name in names:
        mask |= 1 << NUMBERS[canonical_name(name)]
    return mask


def names_of(mask: int) -> list[str]:
    """The names in a mask, by number; one that is newer than this table is `CAP_N`."""
    return [NAMES[bit] if bit < len(NAMES) else f"CAP_{bit}" for bit in range(mask.bit_length()) if mask >> bit & 1]


def last_capability() -> int:
    """The highest capability that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())


def of_process(pid: int | str = "self") -> Sets:
    """A process's sets, from /proc/PID/status."""
    found = {}
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Cap"):
                name, _, value = line.partition(":")
                found[name] = int(value, 16)
    return Sets(found["CapInh"], found["CapPrm"], found["CapEff"], found["CapBnd"], found.get("CapAmb", 0))


def drop_bounding(keep: int, last: int) -> None:
    """Drop from the bounding set all capabilities up to number `last` that are not in the mask `keep`. Irrevocable;
    needs CAP_SETPCAP."""
    prctl = number_of("prctl")
    for bit in range(last + 1):
        if not keep >> bit & 1:
            call("prctl(PR_CAPBSET_DROP)", prctl, _PR_CAPBSET_DROP, bit)


def set_sets(*, effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) on the calling thread."""
    low, high = 0xFFFFFFFF, 32
    header = struct.pack("=Ii", _VERSION_3, 0)
    data = struct.pack(
        "=6I",
        effective & low, permitted & low, inheritable & low,
        effective >> high, permitted >> high, inheritable >> high,
    )  # fmt: skip
    call("capset", number_of("capset"), header, data)


def get_sets() -> Sets:
    """capget(2) of the calling thread; bounding and ambient, which it does not tell, are 0."""
    header = struct.pack("=Ii", _VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    call("capget", number_of("capget"), header, data)
    words = struct.unpack("=6I", data.raw)
    effective, permitted, inheritable = (words[i] | words[i + 3] << 32 for i in range(3))
    return Sets(inheritable, permitted, effective, 0, 0)


def set_ambient(mask: int) -> None:
    """Make `mask` the ambient set. Each must be permitted and inheritable (which see the caller's comment)."""
    prctl = number_of("prctl")
    call("prctl(PR_CAP_AMBIENT)", prctl, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            call("prctl(PR_CAP_AMBIENT)", prctl, _PR_CAP_AMBIENT, _AMBIENT_RAISE, bit, about=NAMES[bit])


def keep_over_setuid(keep: bool) -> None:
    """PR_SET_KEEPCAPS: whether the permitted set survives the change from uid 0 to another. Cleared by execve."""
    call("prctl(PR_SET_KEEPCAPS)", number_of("prctl"), _PR_SET_KEEPCAPS, int(keep))
