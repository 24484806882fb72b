"""Pipes between a monitor and a process, and who may open them again."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Pipes:
    """Both ends of a process's stdio without a terminal.

    Args:
        stdin: a pipe, or else /dev/null.
        output: pipes for stdout and stderr, or else /dev/null.
        owner: (uid, gid) on the host of the process's user, who must be able to open /dev/stdout again.

    Attributes:
        child: what the process gets as 0, 1 and 2.
        outputs: our ends, descriptor -> stream.
        stdin: our end of stdin, -1 if there is none.
    """

    def __init__(self, *, stdin: bool, output: bool, owner: tuple[int, int]) -> None:
        self.outputs: dict[int, str] = {}
        self.stdin = -1
        null = -1
        if not (stdin and output):
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        ends = [null, null, null]
        if stdin:
            ends[0], self.stdin = os.pipe2(os.O_CLOEXEC)
        if output:
            for number, name in ((1, "stdout"), (2, "stderr")):
                ours, ends[number] = os.pipe2(os.O_CLOEXEC)
                self.outputs[ours] = name
        if owner != (0, 0):
            for end in ends:
                if end != null:
                    os.fchown(end, *owner)
        self.child = (ends[0], ends[1], ends[2])

    def close_child_ends(self) -> None:
        """When the process has its own copies."""
        for descriptor in set(self.child):
            os.close(descriptor)

    def close(self) -> None:
        """Our ends; for a process that did not come to be."""
        for descriptor in (*self.outputs, self.stdin):
            if descriptor >= 0:
                os.close(descriptor)


def owner_of(process: dict[str, Any], linux: dict[str, Any]) -> tuple[int, int]:
    """The host's (uid, gid) for the user of an OCI process document, through the container's id mappings."""
    user = process.get("user") or {}
    return (
        _on_host(int(user.get("uid") or 0), linux.get("uidMappings") or []),
        _on_host(int(user.get("gid") or 0), linux.get("gidMappings") or []),
    )


def _on_host(identity: int, mappings: list[dict[str, Any]]) -> int:
    for mapping in mappings:
        offset = identity - int(mapping["containerID"])
        if 0 <= offset < int(mapping["size"]):
            return int(mapping["hostID"]) + offset
    return identity if not mappings else 65534
