"""From method and path to an operation.

Paths hold at most one variable, and it may contain slashes (image names do), so a pattern is a prefix and a suffix
around it. Routes are found by looking up, not by trying: the exact path first, then the first segment with the last
ones, then the first alone. With a version in front (`/v1.51/…`) or without, a path means the same.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from windlass.api.docker.call import Answer, Call

Operation = Callable[[Call], Awaitable[Answer]]

_VERSIONED: Final = re.compile(r"/v([0-9.]+)(/.*)")
_VARIABLE: Final = "{name}"


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `cancellable`: it ends when its client goes away; what changes state runs to its end."""

    method: str
    path: str
    operation: Operation
    cancellable: bool


def get(path: str, operation: Operation) -> Route:
    """A route that reads."""
    return Route("GET", path, operation, cancellable=True)


def head(path: str, operation: Operation) -> Route:
    """A route that reads only the header."""
    return Route("HEAD", path, operation, cancellable=True)


def post(path: str, operation: Operation, *, cancellable: bool = False) -> Route:
    """A route that acts."""
    return Route("POST", path, operation, cancellable)


def put(path: str, operation: Operation) -> Route:
    """A route that replaces."""
    return Route("PUT", path, operation, cancellable=False)


def delete(path: str, operation: Operation) -> Route:
    """A route that removes."""
    return Route("DELETE", path, operation, cancellable=False)


class Router:
    """Finds routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[tuple[str, str], Route] = {}
        # by method, first segment with its slashes, and what stands behind the variable
        self._around: dict[tuple[str, str, str], Route] = {}
        for route in routes:
            before, variable, after = route.path.partition(_VARIABLE)
            if not variable:
                self._exact[route.method, route.path] = route
            else:
                self._around[route.method, before, after] = route
        self._longest = max((after.count("/") for _, _, after in self._around), default=0)

    def find(self, method: str, path: str) -> tuple[Route, str, str] | None:
        """The route, the variable part of the path, and the version asked for (`""`: none)."""
        version = ""
        if path.startswith("/v"):
            match = _VERSIONED.fullmatch(path)
            if match:
                version, path = match[1], match[2]
        route = self._exact.get((method, path))
        if route is not None:
            return route, "", version
        before = path[: path.find("/", 1) + 1]
        if not before:
            return None
        # The longest suffix wins: /containers/x/attach/ws before /containers/x/… with a shorter end.
        for segments in range(self._longest, -1, -1):
            parts = path[len(before) :].rsplit("/", segments)
            if segments and len(parts) <= segments:
                continue
            after = "".join("/" + part for part in parts[1:])
            route = self._around.get((method, before, after))
            if route is not None:
                return route, parts[0], version
        return None
