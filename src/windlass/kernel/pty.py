"""Pseudoterminals (pty(7)) without a path: the master from a devpts that we hold, the slave from the master.

A container's /dev/pts, and what /dev/console is bound to, must be the kernel's own and not what an image put there
(CVE-2025-52565). `open_pty` takes a descriptor of the root of a devpts instance, checks that it is one, and gets the
slave with TIOCGPTPEER, which looks up no name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from typing import Final, NamedTuple

_TIOCSPTLCK: Final = 0x40045431
_TIOCGPTPEER: Final = 0x5441
_TIOCGPTN: Final = 0x80045430
_PTMX: Final = os.makedev(5, 2)
_SLAVE_MAJORS: Final = range(136, 144)


class Pty(NamedTuple):
    """Both ends (close-on-exec) and the number: the slave is `number` in the devpts instance."""

    master: int
    slave: int
    number: int


def open_pty(devpts: int | None = None) -> Pty:
    """A new pseudoterminal in the devpts instance whose root is the descriptor `devpts` (None: the host's /dev/pts).

    ENODEV if that is not a devpts or the ends are not what they should be.
    """
    if devpts is None:
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    else:
        master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=devpts)
    try:
        _check_device(os.fstat(master).st_rdev == _PTMX, "ptmx")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("=i", 0))
        (number,) = struct.unpack("=I", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    return Pty(master, slave, number)


def is_slave(status: os.stat_result) -> bool:
    """Is it a pty slave's device (majors 136 to 143, Documentation/admin-guide/devices.txt)?"""
    return os.major(status.st_rdev) in _SLAVE_MAJORS


def set_size(fd: int, height: int, width: int) -> None:
    """The terminal's size in characters (TIOCSWINSZ); its foreground processes get SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("=HHHH", min(height, 0xFFFF), min(width, 0xFFFF), 0, 0))


def get_size(fd: int) -> tuple[int, int]:
    """Height and width in characters (TIOCGWINSZ)."""
    height, width, _, _ = struct.unpack("=HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return height, width


def make_controlling(fd: int) -> None:
    """The terminal becomes that of this process, which is a session leader without one (TIOCSCTTY)."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def _check_device(expected: bool, name: str) -> None:
    if not expected:
        raise OSError(errno.ENODEV, "not the kernel's device", name)
