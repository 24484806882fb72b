"""What a store refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.errors import WindlassError

if TYPE_CHECKING:
    from windlass.store.records import Record


class StoreError(WindlassError):
    """The store cannot do what was asked."""


class Mismatch(StoreError):
    """The key is not as the writer expects. `current`: how it is, None where it does not exist."""

    def __init__(self, current: Record | None) -> None:
        super().__init__("the key was changed meanwhile" if current else "the key does not exist")
        self.current = current


class Compacted(StoreError):
    """The revision asked for is no longer kept. `revision`: the oldest that is."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"the requested revision has been compacted (oldest kept: {revision})")
        self.revision = revision


class FutureRevision(StoreError):
    """The revision asked for has not been written."""


class Unavailable(StoreError):
    """The backend fails; the message says how."""
