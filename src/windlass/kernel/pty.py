"""Pseudoterminals: a pair from a devpts instance, its size, and taking control of it (pty(7), ioctl_tty(2))."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import Final

TIOCGPTPEER: Final = 0x5441


def open_pair(devpts: str = "/dev/pts") -> tuple[int, int, str]:
    """(master, slave, name of the slave) from the devpts instance mounted at `devpts`.

    The slave is opened through the master (TIOCGPTPEER), not by its path, which another mount could redirect.
    """
    master = os.open(f"{devpts}/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        unlock(master)
        slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        return master, slave, f"{devpts}/{number(master)}"
    except BaseException:
        os.close(master)
        raise


def unlock(master: int) -> None:
    """Let the slave be opened (TIOCSPTLCK)."""
    fcntl.ioctl(master, 0x40045431, struct.pack("i", 0))


def number(master: int) -> int:
    """The slave's number in its devpts (TIOCGPTN)."""
    answer: bytes = fcntl.ioctl(master, 0x80045430, bytes(4))
    return int(struct.unpack("I", answer)[0])


def set_size(terminal: int, height: int, width: int) -> None:
    """Rows and columns in characters; the foreground processes get SIGWINCH."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def get_size(terminal: int) -> tuple[int, int]:
    """(rows, columns)."""
    height, width, _, _ = struct.unpack("HHHH", fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))
    return height, width


def make_controlling(slave: int) -> None:
    """Make it the controlling terminal of this session; the caller has just called setsid."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
