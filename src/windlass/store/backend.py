"""What a local store needs of its backend: a durable log. A driver is these few methods.

The log is written by one thread. Rows carry values as they were given (a NUL where the revision belongs).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Row(NamedTuple):
    """One write in the log. `value` None: the key was deleted. `order` counts the writes of one revision."""

    revision: int
    order: int
    key: bytes
    value: bytes | None
    create_revision: int
    version: int
    lease: int


class Loaded(NamedTuple):
    """What a log holds: all rows in their order; those up to `compacted` are the state then, not its history."""

    rows: Iterable[Row]
    compacted: int
    revision: int
    leases: dict[int, float]


class Backend(Protocol):
    """Blocking; every method but `load` is called in the store's writer thread. Raises OSError-like errors."""

    def load(self) -> Loaded:
        """Read everything."""

    def append(self, rows: Sequence[Row]) -> None:
        """Make rows durable, all or none."""

    def forget(self, rows: Sequence[tuple[int, int]]) -> None:
        """Remove superseded rows, named by revision and order."""

    def set_compacted(self, revision: int) -> None:
        """Note the revision up to which history may be missing, before rows are forgotten."""

    def set_lease(self, lease: int, ttl: float | None) -> None:
        """Remember a lease's time in seconds, or forget it."""

    def snapshot(self, path: str) -> None:
        """A consistent copy in a new file."""

    def defragment(self) -> None:
        """Give free space back."""

    def size(self) -> int:
        """Bytes on disk."""

    def close(self) -> None:
        """Let go."""
