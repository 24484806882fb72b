"""What every store offers, whatever keeps it: the reads of its image, and writes."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

from windlass.store.image import Image, Listener, RangeResult, Watch
from windlass.store.records import Compare, Put, Record, TxnResult

Expected = int | None
"""The mod_revision that a key must have; 0: it must not exist; None: whatever it is."""


class Store(abc.ABC):
    """A versioned key-value space. Get one with `open_store`; it belongs to one event loop."""

    def __init__(self) -> None:
        self._image = Image()

    # -- reads: never wait

    @property
    def revision(self) -> int:
        """The latest visible revision."""
        return self._image.revision

    @property
    def compacted_revision(self) -> int:
        """The oldest revision that can be read."""
        return self._image.compacted_revision

    @property
    def is_current(self) -> bool:
        """Whether reads see every write that was acknowledged, by whatever server."""
        return True

    async def sync(self) -> None:
        """Wait until reads see everything that was written before the call.

        Raises:
            Unavailable
        """
        return  # what is alone sees everything it wrote

    def get(self, key: bytes, revision: int = 0) -> Record | None:
        """A key's record at a revision (0: the present). Raises Compacted, FutureRevision."""
        return self._image.get(key, revision)

    def range(self, start: bytes, end: bytes, *, revision: int = 0, limit: int = 0) -> RangeResult:
        """The records with `start` <= key < `end`. Raises Compacted, FutureRevision."""
        return self._image.range(start, end, revision=revision, limit=limit)

    def count(self, start: bytes, end: bytes) -> int:
        """How many keys a range has now."""
        return self._image.count(start, end)

    def watch(self, start: bytes, end: bytes, *, after_revision: int) -> Watch:
        """Follow the events of a range. Raises Compacted."""
        return self._image.watch(start, end, after_revision=after_revision)

    def subscribe(self, prefix: bytes, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each batch of visible events below a prefix; how to end that."""
        return self._image.subscribe(prefix, listener)

    # -- writes

    async def commit(self, key: bytes, value: bytes | None, *, expect: Expected = None, lease: int = 0) -> Record:
        """Write a key (None deletes it), visible and durable on return.

        Returns:
            The new record; of a deletion the key with its revision and an empty value.

        Raises:
            Mismatch: the key is not as expected, or to be deleted and absent.
            Unavailable: the backend fails. Whether the write happened is unknown only where the backend is remote.
        """
        compares = [] if expect is None else [Compare(key, expect)]
        return (await self._write(compares, [Put(key, value, lease)], must_exist=value is None))[0]

    @abc.abstractmethod
    async def settle(self) -> None:
        """Wait until what is being written now is visible: who lost a race sees then what won it."""

    @abc.abstractmethod
    async def _write(
        self, compares: Sequence[Compare], puts: Sequence[Put], *, must_exist: bool = False
    ) -> list[Record]:
        """Write if all conditions hold. Raises Mismatch (of the first that does not), Unavailable."""

    @abc.abstractmethod
    async def txn(self, compares: Sequence[Compare], then: Sequence[Put], otherwise: Sequence[Put] = ()) -> TxnResult:
        """Several writes under one revision. Deleting what is absent is no error here. Raises Unavailable."""

    # -- leases

    @abc.abstractmethod
    async def grant(self, ttl: float) -> int:
        """A new lease: keys that hang on it go after `ttl` seconds. Raises Unavailable."""

    @abc.abstractmethod
    async def keep_alive(self, lease: int) -> None:
        """Begin a lease's time anew. Raises KeyError (it has ended), Unavailable."""

    @abc.abstractmethod
    async def revoke(self, lease: int) -> None:
        """End a lease and delete its keys. Raises Unavailable."""

    # -- upkeep

    @abc.abstractmethod
    async def compact(self, revision: int) -> None:
        """Forget the history up to a revision. Raises Unavailable."""

    @abc.abstractmethod
    async def snapshot(self, path: str) -> None:
        """Write a consistent copy to a new file. Raises Unavailable, OSError."""

    @abc.abstractmethod
    async def defragment(self) -> None:
        """Give space that is free inside the database back to the disk. Raises Unavailable."""

    @abc.abstractmethod
    async def size(self) -> int:
        """Bytes on disk."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Finish what is under way and let go."""
