"""What authentication and authorization read of the cluster: the objects in memory, without waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Object = dict[str, Any]
Listener = Callable[[str, Object], None]
"""Called with "ADDED", "MODIFIED" or "DELETED" and the object."""


class Reader(Protocol):
    """The API server's cache as this room sees it. Objects are shared: nobody changes them."""

    def get(self, group: str, resource: str, namespace: str, name: str) -> Object | None:
        """One object, `None` where there is none."""

    def list(self, group: str, resource: str, namespace: str = "") -> Sequence[Object]:
        """All objects of a resource, of one namespace or of all."""

    def subscribe(self, group: str, resource: str, listener: Listener) -> None:
        """Hear of every change from now on, in order, after it shows in `get` and `list`."""
