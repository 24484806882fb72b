"""What all kinds of volumes share: what they are made for, what they become, and how they fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
EVERYBODY = 0o777
"""The permissions of a volume's directory: who runs in the container is not known beforehand."""
Find = Callable[[str, str], Awaitable[Object | None]]
"""Finds an object of the pod's namespace: resource, name."""
Token = Callable[[str, Object], Awaitable[Object]]
"""Issues a token for a service account of the pod's namespace: name, spec of a TokenRequest; its status."""


class VolumeError(Exception):
    """A volume cannot be made now; it is tried again. The message is for the event."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a volume is made for.

    Attributes:
        directory: where it is to be; its parents exist.
        fs_group: who owns it as a group, None if that is not said.
        allocatable: what the node has, for the downward API.
        find: objects of the pod's namespace; `find_any` those without a namespace.
        authority: the cluster's CA in PEM.
    """

    pod: Object
    directory: str
    fs_group: int | None
    allocatable: Mapping[str, str]
    find: Find
    find_any: Find
    token: Token


@dataclass(frozen=True, kw_only=True)
class Mounted:
    """A volume that is there.

    Attributes:
        path: the directory or file of the host; "" for an image.
        image: an image's reference.
        read_only: whether containers may write to it in no case.
        refresh: seconds after which to look at it again, None for never.
    """

    path: str = ""
    image: str = ""
    read_only: bool = False
    refresh: float | None = None
