"""The store's data: records, events, and what a transaction is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Record:
    """A key at one revision. Never changed, apart from `attrs`.

    Attributes:
        create_revision: of the write that made the key.
        mod_revision: of the write that gave it this value.
        version: how many writes it has had since it was made.
        lease: the lease that it hangs on, 0 for none.
        attrs: a free place for who reads it: what was computed of the value once.
    """

    __slots__ = ("attrs", "create_revision", "key", "lease", "mod_revision", "value", "version")

    def __init__(
        self, key: bytes, value: bytes, create_revision: int, mod_revision: int, version: int, lease: int = 0
    ) -> None:
        self.key = key
        self.value = value
        self.create_revision = create_revision
        self.mod_revision = mod_revision
        self.version = version
        self.lease = lease
        self.attrs: Any = None

    def __repr__(self) -> str:
        return f"<Record {self.key.decode(errors='replace')} at {self.mod_revision}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self.key, self.mod_revision))

    def _identity(self) -> tuple[Any, ...]:
        return (self.key, self.value, self.create_revision, self.mod_revision, self.version, self.lease)


class Event:
    """A change that became visible; one object for all who hear of it.

    Attributes:
        record: the new state; of a deletion only the key and its revision, with an empty value.
        previous: the state before, None where the key did not exist.
        cache: a free place for who encodes it: the bytes that all watchers share.
    """

    __slots__ = ("cache", "is_delete", "previous", "record")

    def __init__(self, record: Record, previous: Record | None, is_delete: bool) -> None:
        self.record = record
        self.previous = previous
        self.is_delete = is_delete
        self.cache: Any = None

    @property
    def key(self) -> bytes:
        """The key that changed."""
        return self.record.key

    @property
    def revision(self) -> int:
        """The write's revision."""
        return self.record.mod_revision

    def __repr__(self) -> str:
        return f"<Event {'delete' if self.is_delete else 'put'} {self.key.decode(errors='replace')} at {self.revision}>"


class Put(NamedTuple):
    """One write of a transaction; `value` None deletes."""

    key: bytes
    value: bytes | None
    lease: int = 0


class Compare(NamedTuple):
    """One condition of a transaction: the key's mod_revision, 0 where it must not exist."""

    key: bytes
    mod_revision: int


class TxnResult(NamedTuple):
    """Whether the conditions held, the revision, and the records after the writes (None for the deleted)."""

    succeeded: bool
    revision: int
    records: Sequence[Record | None]


def stamped(value: bytes, revision: int) -> bytes:
    """A value as readers see it: its NUL byte, if it has one, is the revision of its write in decimal."""
    return value.replace(b"\0", b"%d" % revision, 1)
