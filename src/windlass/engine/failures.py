"""Failed launches in dockerd's words: clients look for them, and the docker CLI makes its exit code of them. Pure.

126   the command cannot be invoked      "permission denied", "is a directory"
127   the command is not there           "executable file not found in $PATH", "no such file or directory"
128   anything else
"""

from __future__ import annotations

import errno
from typing import Final

from windlass.errors import InvalidParameter, SystemFailure, WindlassError

NOT_INVOKABLE: Final = 126
NOT_FOUND: Final = 127
UNKNOWN: Final = 128

_MISSING: Final = (
    "executable file not found",
    "no such file or directory",
    "system cannot find the file specified",
    "failed to run runc create/exec call",
)
_START: Final = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)
_EXEC: Final = "OCI runtime exec failed: exec failed: unable to start container process: "


def classify(message: str) -> tuple[int, WindlassError]:
    """The exit code of a launch that failed with `message`, and the error for the client."""
    lowered = message.lower()
    if "permission denied" in lowered:
        return NOT_INVOKABLE, InvalidParameter(message)
    if "is a directory" in lowered:
        # The CLI looks for these words.
        return NOT_INVOKABLE, InvalidParameter(f"{message}: permission denied")
    if "not a directory" in lowered:
        return NOT_FOUND, InvalidParameter(
            f"{message}: Are you trying to mount a directory onto a file (or vice-versa)? "
            "Check if the specified host path exists and is the expected type"
        )
    if any(words in lowered for words in _MISSING):
        return NOT_FOUND, InvalidParameter(message)
    return UNKNOWN, SystemFailure(message)


def _reason(message: str, number: int, program: str) -> str:
    """Why a program could not be executed, as Go's exec package says it."""
    if number == errno.ENOENT and "/" not in program:
        return f'exec: "{program}": executable file not found in $PATH'
    if message.startswith("exec: "):
        return message
    if number == errno.ENOENT:
        return f'exec: "{program}": stat {program}: no such file or directory'
    if number == errno.EACCES:
        return f'exec: "{program}": permission denied'
    if number == errno.EISDIR:
        return f'exec: "{program}": is a directory'
    if number == errno.ENOEXEC:
        return f"exec {program}: exec format error"
    return message


def start_failure(stage: str, message: str, number: int, program: str) -> tuple[int, WindlassError]:
    """A container's failed launch, from the monitor's report."""
    reason = _reason(message, number, program) if stage == "exec" else message
    return classify(f"{_START}{reason}: unknown")


def exec_failure(stage: str, message: str, number: int, program: str) -> tuple[int, WindlassError]:
    """An exec's failed launch, from the monitor's report."""
    reason = _reason(message, number, program) if stage == "exec" else message
    code, error = classify(f"{_EXEC}{reason}: unknown")
    return (NOT_INVOKABLE if code == UNKNOWN else code), error
