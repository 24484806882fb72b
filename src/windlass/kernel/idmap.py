"""User namespaces as what they are to an idmapped mount (mount_setattr(2)): a table of identities."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from windlass.kernel.namespaces import CLONE_NEWUSER, clone3, open_namespace

Lines = Iterable[tuple[int, int, int]]
"""(inside, outside, size)."""


def write_maps(pid: int, users: Lines, groups: Lines) -> None:
    """Give the new user namespace of the process `pid` its maps (user_namespaces(7)). `OSError` names the file."""
    for name, lines in (("uid_map", users), ("gid_map", groups)):
        text = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in lines)
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            # The kernel takes a map in one write only.
            os.write(fd, text.encode())
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), name) from None
        finally:
            os.close(fd)


def make_table(users: Lines, groups: Lines) -> int:
    """A descriptor of a user namespace with these maps, in which nobody lives. The caller has one thread."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        child = clone3(CLONE_NEWUSER)
        if child.pid == 0:
            try:
                os.close(writing)
                os.read(reading, 1)  # until the parent is done, or gone
            finally:
                os._exit(0)
        try:
            write_maps(child.pid, users, groups)
            return open_namespace("user", child.pid)
        finally:
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(child.pidfd)
    finally:
        os.close(reading)
        os.close(writing)
