"""Namespace modes: `""`, `private`, `host`, `none`, `shareable`, `container:<name or ID>`, a network's name. Pure."""

from __future__ import annotations

from typing import Final

from windlass.errors import InvalidParameter

DEFAULT_NETWORK: Final = "bridge"
_PREFIX: Final = "container:"


def shared_container(mode: str) -> str | None:
    """The container that a `container:<x>` mode names (maybe ""), or None."""
    return mode.removeprefix(_PREFIX) if mode.startswith(_PREFIX) else None


def sharing(container_id: str) -> str:
    """The mode that shares this container's namespace."""
    return _PREFIX + container_id


def is_user_network(mode: str) -> bool:
    """Whether a network mode names a network that somebody created."""
    return mode not in {"default", "bridge", "host", "none", ""} and shared_container(mode) is None


def check_ipc(mode: str) -> None:
    """Raises `InvalidParameter`."""
    if mode not in {"", "none", "private", "host", "shareable"} and shared_container(mode) is None:
        raise InvalidParameter(f"invalid IPC mode: {mode}")


def check_pid(mode: str) -> None:
    """Raises `InvalidParameter`."""
    if mode not in {"", "host"} and not shared_container(mode):
        raise InvalidParameter(f"invalid PID mode: {mode}")


def check_uts(mode: str) -> None:
    """Raises `InvalidParameter`."""
    if mode not in {"", "host"}:
        raise InvalidParameter(f"invalid UTS mode: {mode}")


def check_user(mode: str) -> None:
    """Raises `InvalidParameter`."""
    if mode not in {"", "host"}:
        raise InvalidParameter(f"invalid user namespace mode: {mode}")


def check_cgroup(mode: str) -> None:
    """Raises `InvalidParameter`."""
    if mode not in {"", "private", "host"}:
        raise InvalidParameter(f"invalid cgroup namespace mode: {mode}")
