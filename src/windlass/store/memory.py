"""A backend that keeps nothing: for tests and for clusters that live as long as their process."""

from __future__ import annotations

from collections.abc import Sequence

from windlass.store.backend import Loaded, Row


class MemoryBackend:
    """Durable for as long as nobody looks."""

    def load(self) -> Loaded:
        """Nothing, always."""
        return Loaded((), 0, 0, {})

    def append(self, rows: Sequence[Row]) -> None:
        """Rows are in the image; that is all."""

    def forget(self, rows: Sequence[tuple[int, int]]) -> None:
        """Nothing is kept."""

    def set_compacted(self, revision: int) -> None:
        """Nothing is kept."""

    def set_lease(self, lease: int, ttl: float | None) -> None:
        """Nothing is kept."""

    def snapshot(self, path: str) -> None:
        """A copy of memory would be no backup.

        Raises:
            OSError: always.
        """
        raise OSError("a store in memory has no file to copy")

    def defragment(self) -> None:
        """Nothing is kept."""

    def size(self) -> int:
        """Nothing on disk."""
        return 0

    def close(self) -> None:
        """Nothing is held."""
