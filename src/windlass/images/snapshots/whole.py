"""Drivers that keep whole trees: each snapshot is a complete copy of its parent, made by some means, and changed.

vfs copies files, btrfs shares them. The rest is the same: a mount is a bind of the directory, whiteouts are carried out
while unpacking, and what a container wrote is found by comparing two trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from windlass.errors import Conflict, InvalidParameter, NotFound, NotImplementedByEngine
from windlass.images import trees
from windlass.images.snapshots import changes
from windlass.images.snapshots.directories import Directories, opened
from windlass.images.snapshots.driver import Change, Info
from windlass.images.snapshots.overlay import backing_filesystem
from windlass.kernel.mounts import Mount


class WholeTreeDriver:
    """What such drivers share; a driver says how a tree is made and how it is destroyed."""

    name = ""
    needs_parent = True

    def __init__(self, root: str) -> None:
        self.root = root
        self._directories = Directories(root, self.destroy)

    def make(self, place: str, parent: str | None) -> None:
        """Make the directory `place`, with all that is in the directory `parent` (None: empty)."""
        raise NotImplementedError

    def destroy(self, place: str) -> None:
        """Delete a snapshot's directory with the tree in it."""
        trees.remove(place)

    def probe(self) -> None:
        """`OSError` where this driver cannot work."""

    def open(self) -> None:
        """Make what is missing, give up what a crash left."""
        try:
            self._directories.open()
            self.probe()
        except OSError as error:
            raise NotImplementedByEngine(
                f"the {self.name} storage driver does not work at {self.root}: {error}"
            ) from error

    def close(self) -> None:
        """Finish deleting."""
        self._directories.close()

    def prepare(self, name: str, parent: str | None) -> None:
        """A copy of the parent."""
        below = None if parent is None else self._files(self._layer(parent))
        place = self._directories.add(name)
        try:
            self.make(f"{place}/fs", below)
            self._directories.complete(name, parent)
        except BaseException:
            self._directories.abandon(name)
            raise

    def _layer(self, name: str) -> Info:
        info = self._directories.find(name)
        if not info.is_layer:
            raise NotFound(f"no such layer: {name}")
        return info

    def _files(self, info: Info) -> str:
        return f"{self._directories.path(info)}/fs"

    def directory(self, name: str) -> str:
        """The whole tree."""
        return self._files(self._directories.find(name))

    def stand(self, name: str, parent: str | None) -> None:
        """What a tree stands on is in it."""
        raise Conflict(f"snapshot {name} cannot be put on another one")

    def imply(self, name: str, directories: Sequence[bytes]) -> None:
        """They were there, and are as they were."""

    def settle(self, layer: str) -> None:
        """Nothing is open."""

    def commit(self, layer: str, name: str) -> None:
        """A rename."""
        self._directories.commit(layer, name)

    def mounts(self, name: str, *, read_only: bool = False) -> list[Mount]:
        """A bind of the tree."""
        return [Mount("bind", self.directory(name), ("rbind", "ro" if read_only else "rw"))]

    def view(self, layer: str) -> list[Mount]:
        """A read-only bind of the tree."""
        return self.mounts(layer, read_only=True)

    def remove(self, name: str) -> None:
        """A rename, and the deleting."""
        self._directories.remove(name)

    def stat(self, name: str) -> Info | None:
        """From memory."""
        return self._directories.get(name)

    def walk(self) -> Iterator[Info]:
        """From memory."""
        return self._directories.walk()

    def usage(self, name: str) -> trees.Usage:
        """What the changed files take: the rest belongs to the parent."""
        found = self.changes(name)
        with opened(self.directory(name)) as tree:
            return changes.size_of_changes(tree, found)

    def changes(self, name: str) -> list[Change]:
        """The tree against its parent's."""
        info = self._directories.find(name)
        with opened(self._files(info)) as new:
            if info.parent is None:
                return changes.of_trees(new, -1)
            with opened(self.directory(info.parent)) as old:
                return changes.of_trees(new, old)

    def pack(self, name: str) -> Iterator[bytes]:
        """The changes, as a layer."""
        found = self.changes(name)
        with opened(self.directory(name)) as tree:
            yield from changes.pack_changes(tree, found)

    def check_options(self, options: Mapping[str, str]) -> None:
        """No quotas."""
        for key in options:
            raise InvalidParameter(f"--storage-opt {key} is not supported by the {self.name} storage driver")

    def status(self) -> list[tuple[str, str]]:
        """The file system below."""
        return [("Backing Filesystem", backing_filesystem(self.root))]
