"""Snapshots as directories: what all drivers have in common on disk and in memory.

    <root>/
      layers/<name>/            complete: made by one rename, never written to again
      roots/<name>/             writable; a name with a leading dot is a layer being made
        parent                  a symbolic link that names the layer below ("-" for none); made last: without it the
                                snapshot is not complete
        fs/ …                   the files, as the driver has them
      trash/<random>            renamed away, being deleted

The disk is the truth and is read once, when the store opens; after that every question is answered from memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Final

from windlass.errors import Conflict, InvalidParameter, NotFound
from windlass.images import trees
from windlass.images.snapshots.driver import Info
from windlass.images.snapshots.trash import Trash

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
_PARENT: Final = "parent"
_NONE: Final = "-"


class Directories:
    """The directories of one driver.

    Args:
        root: the driver's own directory.
        destroy: deletes one snapshot's directory; blocking.
    """

    def __init__(self, root: str, destroy: Callable[[str], None] = trees.remove) -> None:
        self.root = root
        self._layers = f"{root}/layers"
        self._roots = f"{root}/roots"
        self._trash = Trash(f"{root}/trash", destroy)
        self._parents: dict[str, Info] = {}
        self._lock = threading.Lock()
        """Held for changes of the table that depend on other entries; reading needs none."""

    def open(self) -> None:
        """Read what is there; give up what is not complete."""
        for directory in (self._layers, self._roots):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        os.chmod(self.root, 0o700)
        self._trash.open()
        for directory, is_layer in ((self._layers, True), (self._roots, False)):
            for name in os.listdir(directory):
                try:
                    parent = os.readlink(f"{directory}/{name}/{_PARENT}")
                except (FileNotFoundError, NotADirectoryError):
                    parent = ""
                if not parent or name.startswith("."):
                    self._trash.throw(f"{directory}/{name}")
                else:
                    self._parents[name] = Info(name, None if parent == _NONE else parent, is_layer)

    def close(self) -> None:
        """Wait for the trash to be empty."""
        self._trash.drain()

    def get(self, name: str) -> Info | None:
        """What is known of a name."""
        return self._parents.get(name)

    def find(self, name: str) -> Info:
        """The same; raises NotFound."""
        info = self._parents.get(name)
        if info is None:
            raise NotFound(f"no such snapshot: {name}")
        return info

    def walk(self) -> Iterator[Info]:
        """All that are complete."""
        yield from list(self._parents.values())

    def path(self, info: Info) -> str:
        """A snapshot's directory."""
        return f"{self._layers if info.is_layer else self._roots}/{info.name}"

    def chain(self, name: str | None) -> list[Info]:
        """A layer and those below it, topmost first. Raises NotFound."""
        found = []
        while name is not None:
            found.append(self.find(name))
            name = found[-1].parent
        return found

    def add(self, name: str) -> str:
        """Begin a writable snapshot: its directory, empty. Raises Conflict if it exists."""
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise InvalidParameter(f"invalid snapshot name: {name!r}")
        if name in self._parents:
            raise Conflict(f"snapshot {name} exists already")
        path = f"{self._roots}/{name}"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:  # of somebody who was interrupted in this process
            self._trash.throw(path)
            os.mkdir(path, 0o700)
        return path

    def complete(self, name: str, parent: str | None) -> None:
        """The snapshot is ready to be used. Raises NotFound if what it stands on has gone meanwhile (a layer that is
        being made may be ahead of its parents)."""
        os.symlink(parent or _NONE, f"{self._roots}/{name}/{_PARENT}")
        with self._lock:
            if parent is not None and not name.startswith("."):
                self.find(parent)
            self._parents[name] = Info(name, parent, False)

    def stand(self, name: str, parent: str | None) -> None:
        """A writable snapshot stands on something else."""
        link = f"{self._roots}/{name}/{_PARENT}"
        os.symlink(parent or _NONE, f"{link}.new")
        os.rename(f"{link}.new", link)
        self._parents[name] = Info(name, parent, False)

    def abandon(self, name: str) -> None:
        """The snapshot could not be made."""
        self._parents.pop(name, None)
        self._trash.throw(f"{self._roots}/{name}")

    def commit(self, layer: str, name: str) -> None:
        """Rename a writable snapshot to a layer. If the layer is there, the snapshot goes."""
        with self._lock:
            info = self.find(name)
            if layer not in self._parents:
                os.rename(f"{self._roots}/{name}", f"{self._layers}/{layer}")
                self._parents[layer] = Info(layer, info.parent, True)
                del self._parents[name]
                return
        self.abandon(name)

    def remove(self, name: str) -> None:
        """Throw a snapshot away. Raises Conflict if another one stands on it."""
        with self._lock:
            info = self._parents.get(name)
            if info is None:
                return
            if info.is_layer and any(other.parent == name for other in self._parents.values()):
                raise Conflict(f"something stands on layer {name}")
            # First out of the table, so that nobody finds it half-gone.
            del self._parents[name]
        try:
            self._trash.throw(self.path(info))
        except OSError:
            self._parents[name] = info
            raise


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of a directory, for reading."""
    fd = os.open(path, trees.DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
