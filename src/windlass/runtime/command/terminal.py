"""Terminals of the command line: handing a master over, or being the terminal's other side ourselves."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import termios
import tty
from collections.abc import Callable, Mapping
from typing import Any

from windlass.kernel import pty
from windlass.runtime.command.store import CommandError

_CHUNK = 65536
_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def check_socket(wants_terminal: bool, path: str, *, detached: bool) -> None:
    """Whether a console socket is given exactly where somebody must take the terminal over.

    Raises:
        CommandError: it is not.
    """
    if detached and wants_terminal and not path:
        raise CommandError("cannot allocate tty if the container will be detached without setting console socket")
    if (not detached or not wants_terminal) and path:
        raise CommandError("cannot use console socket if the container will not detach or allocate tty")


def console_size(document: Mapping[str, Any]) -> tuple[int, int] | None:
    """`consoleSize` of a process document: (height, width)."""
    size = document.get("consoleSize")
    return (int(size["height"]), int(size["width"])) if size else None


def send_master(path: str, master: int) -> None:
    """Send a terminal's master over the unix socket at `path`, as runc does, and close it.

    Raises:
        CommandError: nobody takes it.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(path)
            except OSError as error:
                if "too long" not in str(error):
                    raise
                # sockaddr_un has room for 108 bytes: go by the directory's descriptor.
                directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
                finally:
                    os.close(directory)
            socket.send_fds(connection, [b"/dev/ptmx"], [master])
    except OSError as error:
        raise CommandError(f"console socket {path}: {error}") from None
    finally:
        os.close(master)


def follow(pid: int, pidfd: int, master: int) -> int:
    """Be there while a process runs in the foreground: pass signals, and copy between its terminal and ours.

    Args:
        pid: a child of this process.
        pidfd: of the same; closed.
        master: its terminal's master, -1 if it has our own stdio.

    Returns:
        Its exit code, 128 + signal if one ended it.
    """

    def forward(number: int, frame: object) -> None:
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    restore = _take_terminal(master) if master >= 0 else None
    try:
        _copy_until_end(pidfd, master)
    finally:
        if restore is not None:
            restore()
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(pidfd)
    while True:
        ended, status = os.waitpid(-1, 0)  # as its subreaper we also get its orphans
        if ended == pid:
            break
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _take_terminal(master: int) -> Callable[[], None]:
    """Make our terminal raw and pass its size on -> what undoes that."""

    def pass_size(number: int = 0, frame: object = None) -> None:
        try:
            pty.set_size(master, *pty.get_size(0))
        except OSError:
            pass

    if not os.isatty(0):
        return lambda: None
    attributes = termios.tcgetattr(0)
    handler = signal.signal(signal.SIGWINCH, pass_size)
    pass_size()
    tty.setraw(0)

    def restore() -> None:
        termios.tcsetattr(0, termios.TCSADRAIN, attributes)
        signal.signal(signal.SIGWINCH, handler)

    return restore


def _copy_until_end(pidfd: int, master: int) -> None:
    """Our input to the master, the master's output to ours, until the process has ended and all is read."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if master >= 0:
        poll.register(master, select.POLLIN)
        poll.register(0, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if master in ready and not _copy(master, 1):
            poll.unregister(master)
            master = -1
        if 0 in ready and not _copy(0, master):
            poll.unregister(0)
        if pidfd in ready:
            while master >= 0 and select.select([master], [], [], 0)[0] and _copy(master, 1):
                pass
            return


def _copy(source: int, target: int) -> bool:
    """Copy what can be read; False at the end."""
    try:
        data = os.read(source, _CHUNK)
    except OSError as error:
        if error.errno != errno.EIO:  # a master's way to say that nobody has the terminal open
            raise
        return False
    if target >= 0:
        while data:
            data = data[os.write(target, data) :]
        return True
    return False
