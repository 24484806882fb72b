"""Directories below a root, found by the kernel and held open while entries are made in them.

    entry "usr/lib/x" ─▶ "usr/lib" ──openat2 below the root──▶ descriptor, kept for its neighbours

How a path is resolved is the caller's choice: within a tree of our own no link may lead out of it (RESOLVE_BENEATH), in
a container's tree links lead wherever the container itself would get (RESOLVE_IN_ROOT). Magic links never count.
"""

from __future__ import annotations

import os
from typing import Final

from windlass.kernel.paths import RESOLVE_NO_MAGICLINKS, openat2

_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_KEPT: Final = 64


class Places:
    """Directories below a root, found by the kernel and held open while they are in use.

    Args:
        resolve: how paths are resolved (openat2(2)).
    """

    def __init__(self, root: int, prefix: bytes, resolve: int) -> None:
        self.root = root
        self._prefix = prefix.strip(b"/")
        self._resolve = resolve | RESOLVE_NO_MAGICLINKS
        self._held: dict[bytes, int] = {}

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    def open(self, path: bytes) -> int:
        """A descriptor of the directory at `path`, kept for later."""
        fd = self._held.get(path)
        if fd is not None:
            return fd
        fd = self.open_new(path)
        if len(self._held) >= _KEPT:
            os.close(self._held.pop(next(iter(self._held))))
        self._held[path] = fd
        return fd

    def open_new(self, path: bytes) -> int:
        """A new descriptor of the directory at `path`."""
        full = self._prefix + b"/" + path if self._prefix and path else self._prefix or path or b"."
        return openat2(self.root, os.fsdecode(full), _OPEN_DIRECTORY, resolve=self._resolve)

    def forget(self, path: bytes) -> None:
        """The directory at `path` goes away, with all below it."""
        below = path + b"/"
        for known in [known for known in self._held if known == path or known.startswith(below)]:
            os.close(self._held.pop(known))
