"""What a storage driver does: ten verbs, as containerd's snapshotters have them.

    begin, publish, discard   a layer is unpacked into a directory and then appears under its chain ID, by one rename
    has, remove               of layers
    prepare, mounts, release  the writable root of a container: made over layers, described as mounts, thrown away
    changes                   the directory that holds what a container wrote, where the driver keeps it apart
    usage                     bytes

Layers of an overlay are independent of each other, so those of one image can be unpacked at the same time; other
drivers need the layer below first (`needs_parent`), and apply whiteouts instead of keeping them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from windlass.kernel.mounts import Mount
from windlass.oci.digest import Digest


@dataclass(frozen=True)
class Staging:
    """A layer that is being unpacked: its future name, and the directory to unpack into."""

    chain_id: Digest
    path: Path
    holder: Path


class Driver(Protocol):
    """A storage driver. Its methods block; they may be called from any thread."""

    name: str
    needs_parent: bool

    def open(self) -> None:
        """Make what is missing, undo what a crash left. Raises NotImplementedByEngine where it cannot work."""
        ...

    def begin(self, chain_id: Digest, parent: Digest | None) -> Staging:
        """A place to unpack a layer on its parent."""
        ...

    def publish(self, staging: Staging) -> None:
        """The layer is complete. One that appeared meanwhile stays, and this one is discarded."""
        ...

    def discard(self, staging: Staging) -> None:
        """The layer is not wanted any more."""
        ...

    def has(self, chain_id: Digest) -> bool:
        """Whether a layer is here, complete."""
        ...

    def layers(self) -> list[Digest]:
        """The chain IDs of all complete layers."""
        ...

    def remove(self, chain_id: Digest) -> None:
        """Remove a layer that nothing stands on."""
        ...

    def prepare(self, name: str, chain: Sequence[Digest], base: Path | None) -> None:
        """A writable root `name` over the layers `chain` (lowest first) and `base`, a directory on top of them."""
        ...

    def mounts(self, name: str, *, read_only: bool = False) -> list[Mount]:
        """How to mount the root `name`. Raises NotFound."""
        ...

    def view(self, chain: Sequence[Digest]) -> list[Mount]:
        """How to mount layers alone, read-only."""
        ...

    def release(self, name: str) -> None:
        """Throw a writable root away; nothing to throw away is no error."""
        ...

    def names(self) -> list[str]:
        """All writable roots."""
        ...

    def status(self) -> list[tuple[str, str]]:
        """Names and values that `info` shows."""
        ...

    def chain_of(self, name: str) -> list[Digest]:
        """The layers that the root `name` stands on, lowest first; none where there is no such root."""
        ...

    def changes(self, name: str) -> Path | None:
        """The directory of what `name` wrote, in the driver's own form, or None where it must be compared."""
        ...
