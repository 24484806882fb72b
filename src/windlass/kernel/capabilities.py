"""Capabilities: names, sets, and giving them up (capabilities(7), capset(2))."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from typing import Final

from windlass.kernel import syscalls
from windlass.kernel.syscalls import LIBC, check, syscall

NAMES: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
NUMBERS: Final = {name: number for number, name in enumerate(NAMES)}

_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4


def normalise(name: str) -> str:
    """`net_admin`, `NET_ADMIN` or `CAP_NET_ADMIN`: the last. Raises ValueError for what no kernel knows."""
    upper = name.upper()
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NUMBERS:
        raise ValueError(f"unknown capability: {name}")
    return full


def mask(names: Iterable[str]) -> int:
    """A set as the kernel's bit mask."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[normalise(name)]
    return bits


def names(bits: int) -> list[str]:
    """A bit mask as names, lowest first."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def last_capability() -> int:
    """The highest number that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


def bounding_set(pid: int | str = "self") -> int:
    """A process's bounding set as a mask: what it can ever give."""
    with open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    raise ValueError("no CapBnd in /proc/self/status")


def drop_bounding(keep: int, last: int) -> None:
    """Drop every capability up to `last` from the bounding set that `keep` does not have."""
    for number in range(last + 1):
        if not keep >> number & 1:
            check(
                LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0),
                f"drop {NAMES[number] if number < len(NAMES) else number}",
            )


def set_capabilities(*, effective: int, permitted: int, inheritable: int = 0) -> None:
    """capset(2) on this thread."""
    header = struct.pack("Ii", _VERSION_3, 0)
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "6I",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    syscall(syscalls.number("capset"), header, data, name="capset")


def set_ambient(names_or_mask: Collection[str] | int) -> None:
    """Make the ambient set exactly this. Each must be permitted and inheritable (prctl(2), PR_CAP_AMBIENT)."""
    bits = names_or_mask if isinstance(names_or_mask, int) else mask(names_or_mask)
    check(LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "clear ambient capabilities")
    for number in range(64):
        if bits >> number & 1:
            check(LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0), "raise ambient capability")
