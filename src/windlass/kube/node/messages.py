"""What containers say at their end: the file that is mounted at terminationMessagePath, or the end of the log.

Source: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from windlass.kube.node.runtime import Found

Object = dict[str, Any]

_LONGEST = 4096
_LONGEST_FROM_LOG = 2048
_EVERYBODY = 0o666


def prepare(directory: str, name: str, attempt: int) -> str:
    """An empty file for a container that is about to be made; its path. Blocking. Raises OSError."""
    parent = f"{directory}/containers/{name}"
    os.makedirs(parent, mode=0o750, exist_ok=True)
    path = f"{parent}/{attempt}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Whoever the container runs as.
        os.fchmod(descriptor, _EVERYBODY)
    finally:
        os.close(descriptor)
    return path


async def read(found: Found, container: Object, tail: Callable[[Found, int], Awaitable[str]]) -> str:
    """What a container that has ended left; `tail` gives the end of its log."""
    text = await asyncio.to_thread(_read_file, found.message_file) if found.message_file else ""
    policy = container.get("terminationMessagePolicy")
    if not text and policy == "FallbackToLogsOnError" and found.exit_code != 0:
        text = (await tail(found, 80))[-_LONGEST_FROM_LOG:]
    return text


def _read_file(path: str) -> str:
    try:
        # The container may have put anything there; only a regular file is read, and not much of it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:
        return file.read(_LONGEST).decode(errors="replace")
