"""What launcher, monitor and client say to each other.

Client to launcher: one SOCK_SEQPACKET message for each launch, JSON with the descriptors beside it.

    {"directory": "/run/windlass/containers/ID", "attach": [{"stdin": true, "stdout": true, "stderr": true}, …]}
    descriptors: [control connection of the monitor, one stream for each attacher …]

Client to monitor (the control connection, or one to monitor.sock): lines of JSON.

    -> {"id": 1, "op": "subscribe" | "attach" | "exec" | "resize" | "signal", …}
    <- {"id": 1, "result": {…}}   or   {"id": 1, "error": {"stage": "…", "message": "…", "errno": 2}}
    <- {"event": "started" | "failed" | "oom" | "exec-exit" | "exit", …}           to subscribers

After the answer to `attach`, or to `exec` with a stream, the connection carries Docker's stream and nothing else.
"""

from __future__ import annotations

import json
from typing import Any

from windlass.runtime import sockets
from windlass.runtime.sockets import Socket

MAX_LINE = 4 << 20
"""A longer request is an attack or a mistake (an OCI process document is some kilobytes)."""
MAX_ATTACHERS = 64
_MAX_DESCRIPTORS = 1 + MAX_ATTACHERS


def encode(message: dict[str, Any]) -> bytes:
    """One message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def receive_launch(connection: Socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message to the launcher and its descriptors (close-on-exec); None at the end of the connection."""
    data, descriptors = sockets.receive(connection, 1 << 16, _MAX_DESCRIPTORS)
    if not data:
        return None
    message = json.loads(data)
    return message, descriptors


class Lines:
    """Cuts a byte stream into lines; `rest` is what no line has been taken from yet."""

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> None:
        """Add what was read.

        Raises:
            ValueError: a line longer than `MAX_LINE`.
        """
        self.rest += data
        if len(self.rest) > MAX_LINE and b"\n" not in self.rest:
            raise ValueError("the request is too long")

    def next(self) -> bytes | None:
        """Take the first whole line."""
        line, newline, rest = self.rest.partition(b"\n")
        if not newline:
            return None
        self.rest = rest
        return line


class LaunchFailure(Exception):
    """Why a container or an exec could not be started.

    Attributes:
        stage: which step failed ("config", "log", "cgroup", "mount", "exec", …).
        errno: the kernel's reason, 0 if it was not the kernel.
    """

    def __init__(self, stage: str, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.stage = stage
        self.message = message
        self.errno = errno

    def to_json(self) -> dict[str, Any]:
        """For the wire."""
        return {"stage": self.stage, "message": self.message, "errno": self.errno}
