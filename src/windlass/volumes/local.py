"""Mounting a volume's own file system on its directory, and taking it away again. Blocking."""

from __future__ import annotations

import os
import socket

from windlass.errors import InvalidParameter, SystemFailure
from windlass.kernel.mounts import Mount, mount_all, mountinfo, unmount_all
from windlass.volumes.options import LocalMount


def reason(error: OSError) -> str:
    """The system's text as engines print it, without a leading capital."""
    text = os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def is_mounted(path: str) -> bool:
    """Is something mounted on `path`?"""
    return any(point.target == path for point in mountinfo())


def mounts_below(path: str) -> list[str]:
    """Mount points at `path` or below it."""
    return [point.target for point in mountinfo() if point.target == path or point.target.startswith(path + "/")]


def mount(what: LocalMount, target: str) -> None:
    """Mount it. Raises `SystemFailure` with the call, as dockerd words it, and the kernel's reason."""
    if name := what.address_name():
        what = what.with_address(_resolve(name))
    try:
        mount_all([Mount(what.type, what.device, what.options)], target)
    except OSError as error:
        raise SystemFailure(f"failed to mount local volume: {what.describe(target)}: {reason(error)}") from error


def unmount(target: str) -> None:
    """Take it away, also while somebody still uses it (it then goes with its last user). Raises `SystemFailure`."""
    try:
        unmount_all(target)
    except OSError as error:
        raise SystemFailure(f"failed to unmount local volume: unmount {target}: {reason(error)}") from error


def _resolve(name: str) -> str:
    """The kernel wants a server's number. Raises `InvalidParameter` if the name has none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InvalidParameter(f"error resolving passed in network volume address: lookup {name}: {error}") from None
    return str(found[0][4][0])
