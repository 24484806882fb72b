"""SCMP_ACT_NOTIFY: the descriptor on which a container's filtered calls arrive goes to the agent that answers them.

The agent listens on a unix stream socket (`linux.seccomp.listenerPath`) and gets the OCI container process state as
JSON, with the descriptor beside it (runtime-spec, config-linux.md, "The container process state").
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

from windlass.kernel import pidfd as pidfds
from windlass.kernel.seccomp.install import is_notification_descriptor
from windlass.runtime.wire import LaunchFailure

_PATIENCE: Final = 10.0
_PAUSE: Final = 0.0005


def hand_over_listener(pid: int, pidfd: int, number: int, profile: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Wait for descriptor `number` of the process to become its listener, and send that to the agent.

    Nobody tells us when: the process may be forbidden to speak as soon as it has it. Raises LaunchFailure.
    """
    deadline = time.monotonic() + _PATIENCE
    while not _is_listener(pid, number):
        if time.monotonic() > deadline or pidfds.has_ended(pidfd):
            raise LaunchFailure("seccomp", "the process has made no listener for seccomp's notifications")
        time.sleep(_PAUSE)
    try:
        descriptor = pidfds.get_fd(pidfd, number)
    except OSError as error:
        raise LaunchFailure("seccomp", f"cannot get the seccomp listener: {error.strerror}", error.errno or 0) from None
    try:
        _send(str(profile.get("listenerPath")), _message(pid, profile, state), descriptor)
    finally:
        os.close(descriptor)


def _is_listener(pid: int, number: int) -> bool:
    try:
        return is_notification_descriptor(os.readlink(f"/proc/{pid}/fd/{number}"))
    except OSError:
        return False


def _message(pid: int, profile: Mapping[str, Any], state: Mapping[str, Any]) -> bytes:
    document = {
        "ociVersion": state.get("ociVersion", ""),
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": profile.get("listenerMetadata") or "",
        "state": dict(state),
    }
    return json.dumps(document).encode()


def _send(path: str, data: bytes, descriptor: int) -> None:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(_PATIENCE)
            agent.connect(path)
            sent = socket.send_fds(agent, [data], [descriptor])
            agent.sendall(data[sent:])
    except OSError as error:
        message = f"cannot send the seccomp listener to {path}: {error.strerror or error}"
        raise LaunchFailure("seccomp", message, error.errno or 0) from None
