"""What a storage driver does: ten verbs, those of containerd's snapshotters.

    prepare   a writable snapshot on a layer (or on nothing): the root of a container, or a layer that is being made
    commit    a writable snapshot becomes a layer: it gets its name by one rename and is not written to any more
    mounts    how a snapshot is mounted          view     how a layer is mounted, read-only
    remove    a snapshot that nothing stands on  stat     what a name stands for
    walk      all of them                        usage    what a snapshot takes itself, without what is below
    changes   what it has that its parent has not, and the other way round     pack   the same as a layer archive

(and three for layers that are unpacked before it is known what they stand on: stand, imply, settle)

    layer A ◀─ layer B ◀─ B's mount points ◀┬─ container 1
                                            └─ container 2        ◀─ : stands on (parent)

Layers of an overlay do not need each other on disk, so those of one image are unpacked at the same time; the other
drivers keep whole trees and need the layer below first (`needs_parent`). Names of layers are the hexadecimal digits of
their chain IDs; names of containers' roots are the containers' IDs; a name with a leading dot is a layer being made,
which does not outlive the process. Drivers block and may be called from any thread; they raise `OSError` where the
host fails, `NotFound` for unknown names, `Conflict` where something stands on what shall go.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from windlass.images.trees import Usage
from windlass.kernel.mounts import Mount
from windlass.oci.digest import Digest, encoded_of


class Info(NamedTuple):
    """A snapshot: its name, the layer it stands on, and whether it is a layer itself (else it is writable)."""

    name: str
    parent: str | None
    is_layer: bool


class ChangeKind(enum.IntEnum):
    """Docker's numbers."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


class Change(NamedTuple):
    """One path (from the root, without a leading slash) that differs from the parent."""

    path: bytes
    kind: ChangeKind


class Driver(Protocol):
    """A storage driver; one class each, and one suite of tests for all."""

    name: str
    """Docker's name of it."""
    needs_parent: bool
    """Whether a layer is unpacked onto the tree of its parent (and whiteouts are carried out)."""

    def open(self) -> None:
        """Make what is missing, give up what a crash left. Raises NotImplementedByEngine where it cannot work."""
        ...

    def close(self) -> None:
        """Finish what goes on in the background."""
        ...

    def prepare(self, name: str, parent: str | None) -> None:
        """A new writable snapshot on a layer. One that a crash left half-made is replaced."""
        ...

    def directory(self, name: str) -> str:
        """Where a snapshot that is being made a layer is unpacked into."""
        ...

    def stand(self, name: str, parent: str | None) -> None:
        """The writable snapshot `name`, made on nothing, stands on a layer after all. Only if not `needs_parent`."""
        ...

    def imply(self, name: str, directories: Sequence[bytes]) -> None:
        """In the snapshot `name`, these directories (paths; empty: the root) are there only because something is in
        them. What they look like is the parent's matter, and settled when all parents are there."""
        ...

    def settle(self, layer: str) -> None:
        """Let the implied directories of a layer look as those of the layers below, which are there now."""
        ...

    def commit(self, layer: str, name: str) -> None:
        """The snapshot `name` becomes the layer `layer`; if that is there already, the snapshot just goes."""
        ...

    def mounts(self, name: str, *, read_only: bool = False) -> list[Mount]:
        """How a writable snapshot is mounted. Raises NotFound."""
        ...

    def view(self, layer: str) -> list[Mount]:
        """How a layer with all below it is mounted, read-only. Raises NotFound."""
        ...

    def remove(self, name: str) -> None:
        """Remove a snapshot or layer; one that is not there is no error. Its files may be deleted later, but without
        fail: after a crash by the next start."""
        ...

    def stat(self, name: str) -> Info | None:
        """What a name stands for, if anything."""
        ...

    def walk(self) -> Iterator[Info]:
        """All snapshots."""
        ...

    def usage(self, name: str) -> Usage:
        """Bytes and inodes of what is different from the parent. Raises NotFound."""
        ...

    def changes(self, name: str) -> list[Change]:
        """The differences from the parent, sorted by path; directories above a change are among them."""
        ...

    def pack(self, name: str) -> Iterator[bytes]:
        """The differences as a layer archive."""
        ...

    def check_options(self, options: Mapping[str, str]) -> None:
        """Whether a root with these storage options can be made. Raises InvalidParameter."""
        ...

    def status(self) -> list[tuple[str, str]]:
        """Names and values that `info` shows."""
        ...


def layer_name(chain_id: Digest) -> str:
    """The name of the layer with a chain ID."""
    return encoded_of(chain_id)
