"""What is passed to launcher and monitors, and what they raise."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from windlass.errors import WindlassError


class LaunchError(WindlassError):
    """A container or an exec could not be started, or a request to its monitor failed.

    Attributes:
        stage: which step failed: "config", "log", "cgroup", "mount", "exec", …; "launcher" or "monitor" if that died.
        message: why.
        errno: the kernel's reason, 0 if it was not the kernel.
    """

    def __init__(self, stage: str, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.stage = stage
        self.message = message
        self.errno = errno

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LaunchError:
        """As it came over the wire."""
        return cls(str(value["stage"]), str(value["message"]), int(value.get("errno") or 0))


class NoMonitor(WindlassError):
    """There is no monitor for this container any more; `read_exit` says how it ended, if it ever ran."""


class Attachment(NamedTuple):
    """A stream that is attached at the launch; the monitor gets a copy of the socket.

    Attributes:
        connection: one end of a stream socket pair.
        stdin: what is written to the other end is the container's input.
        stdout, stderr: which output is wanted.
    """

    connection: socket.socket
    stdin: bool = True
    stdout: bool = True
    stderr: bool = True


class ExecSpec(NamedTuple):
    """A process to be executed in a running container.

    Attributes:
        id: names it, and its exit record.
        process: OCI process document (`args`, `env`, `cwd`, `user`, `capabilities`, …).
        terminal: give it a pty.
        console_size: (height, width) of the pty.
        attach_stdin: its stdin is the attached stream, else /dev/null.
        seccomp_filter: path of a compiled filter, None for no filter.
    """

    id: str
    process: dict[str, Any]
    terminal: bool = False
    console_size: tuple[int, int] | None = None
    attach_stdin: bool = False
    seccomp_filter: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For the wire."""
        return {
            "id": self.id,
            "process": self.process,
            "terminal": self.terminal,
            "consoleSize": self.console_size,
            "attachStdin": self.attach_stdin,
            "seccompFilter": self.seccomp_filter,
        }
