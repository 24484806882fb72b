"""A store of this process alone: the image in memory, a durable log behind it, group commit between.

    commit ─ judge against staged state ─ next revision ─▶ staged ─┐
    commit ─ …                                                     ├─▶ writer thread: one transaction ─▶ visible
    commit ─ …                                                     ┘      (meanwhile the next group gathers)

A write is judged against what is staged, so two racing ones cannot both win; it is seen by reads and watches when it
is durable, so nobody ever saw what a crash took back. Revisions become visible in their order. When the backend fails,
what is staged fails, and the store takes no more writes: what is on disk is known again only after a new start.

Compaction forgets in memory at once and on disk in slices between groups, so it never keeps a writer waiting for long.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from windlass.store.backend import Backend, Row
from windlass.store.errors import Mismatch, StoreError, Unavailable
from windlass.store.history import History
from windlass.store.leases import Leases
from windlass.store.records import Compare, Event, Put, Record, TxnResult, stamped
from windlass.store.store import Store

T = TypeVar("T")
_SLICE = 2000  # rows forgotten in one transaction
_LARGEST_GROUP = 2000  # writes in one transaction
_COMPACT_SECONDS = 30.0
_ABSENT: Any = object()

log = logging.getLogger("windlass.store")


class _Write(NamedTuple):
    """A staged transaction: what is to be durable, what becomes visible, and who waits."""

    rows: list[Row]
    events: list[Event]
    done: asyncio.Future[None]


class LocalStore(Store):
    """See the module's drawing. Make it with `open`."""

    def __init__(self, backend: Backend, *, history: History | None = None, now: Callable[[], float] = time.monotonic):
        super().__init__()
        self._backend = backend
        self._history = history or History()
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._leases = Leases()
        self._staged: dict[bytes, tuple[Record | None, int]] = {}
        self._next = 1
        self._pending: list[_Write] = []
        self._group: list[_Write] = []
        self._flushing: asyncio.Task[None] | None = None
        self._superseded: list[tuple[int, int]] = []
        self._orders: dict[tuple[int, bytes], int] = {}
        self._failure: str = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._lease_timer: asyncio.TimerHandle | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, backend: Backend, *, history: History | None = None, now: Callable[[], float] = time.monotonic
    ) -> LocalStore:
        """Load the backend's state and begin.

        Raises:
            Unavailable: the backend cannot be read.
        """
        self = cls(backend, history=history, now=now)
        try:
            self._load()
        except (OSError, ValueError, StoreError) as error:
            self._thread.shutdown()
            raise error if isinstance(error, StoreError) else Unavailable(str(error)) from error
        self._task(self._keep_bounded())
        return self

    def _load(self) -> None:
        loaded = self._backend.load()
        now = self._now()
        for lease, ttl in loaded.leases.items():
            self._leases.grant(ttl, now, lease)
        state: dict[bytes, Record] = {}
        places: dict[bytes, tuple[int, int]] = {}
        events: list[Event] = []
        compacted = loaded.compacted
        for revision, order, key, value, create_revision, version, lease in loaded.rows:
            previous = state.get(key)
            if revision <= compacted:
                # What an interrupted compaction left.
                if previous is not None:
                    self._superseded.append(places[key])
                if value is None:
                    self._superseded.append((revision, order))
                    state.pop(key, None)
                    continue
            if order:
                self._orders[(revision, key)] = order
            record = Record(
                key, b"" if value is None else stamped(value, revision), create_revision, revision, version, lease
            )
            places[key] = (revision, order)
            if revision > compacted:
                events.append(Event(record, previous, value is None))
            if value is None:
                state.pop(key, None)
            else:
                state[key] = record
        # The image begins at the compacted revision and lives through the history.
        begin: dict[bytes, Record] = dict(state)
        for event in reversed(events):
            if event.previous is None:
                begin.pop(event.key, None)
            else:
                begin[event.key] = event.previous
        self._image.load(begin.values(), compacted, compacted)
        self._image.apply(events)
        self._image.advance(loaded.revision)
        self._next = self._image.revision + 1
        for record in state.values():
            if record.lease in self._leases:
                self._leases.attach(record.lease, record.key)
        self._schedule_leases()

    def _task(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- writes

    async def _write(
        self, compares: Sequence[Compare], puts: Sequence[Put], *, must_exist: bool = False
    ) -> list[Record]:
        self._check_open()
        for compare in compares:
            current = self._current(compare.key)
            if (current.mod_revision if current is not None else 0) != compare.mod_revision:
                raise Mismatch(current)
        if must_exist:
            for put in puts:
                if self._current(put.key) is None:
                    raise Mismatch(None)
        records, write = self._stage(puts)
        await asyncio.shield(write.done)
        return records

    async def txn(self, compares: Sequence[Compare], then: Sequence[Put], otherwise: Sequence[Put] = ()) -> TxnResult:
        """See `Store.txn`."""
        self._check_open()
        holds = all(
            (current.mod_revision if (current := self._current(each.key)) is not None else 0) == each.mod_revision
            for each in compares
        )
        chosen = then if holds else otherwise
        puts = [put for put in chosen if put.value is not None or self._current(put.key) is not None]
        made: dict[bytes, Record] = {}
        revision = self._image.revision
        if puts:
            records, write = self._stage(puts)
            await asyncio.shield(write.done)
            made = {record.key: record for record in records}
            revision = records[0].mod_revision
        return TxnResult(holds, revision, [None if put.value is None else made[put.key] for put in chosen])

    async def settle(self) -> None:
        """See `Store.settle`."""
        last = (self._pending or self._group)[-1:]
        if last:
            await asyncio.wait([last[0].done])

    def _check_open(self) -> None:
        if self._failure:
            raise Unavailable(self._failure)
        if self._closed:
            raise Unavailable("the store is closed")

    def _current(self, key: bytes) -> Record | None:
        """A key's record with all staged writes done."""
        staged = self._staged.get(key)
        return staged[0] if staged is not None else self._image.records.get(key)

    def _stage(self, puts: Sequence[Put]) -> tuple[list[Record], _Write]:
        for put in puts:
            if put.lease and put.lease not in self._leases:
                raise StoreError(f"requested lease not found: {put.lease}")
        revision = self._next
        self._next += 1
        records: list[Record] = []
        rows: list[Row] = []
        events: list[Event] = []
        for order, (key, value, lease) in enumerate(puts):
            previous = self._current(key)
            if value is None:
                record = Record(key, b"", 0, revision, 0)
                self._staged[key] = (None, revision)
            else:
                created = revision if previous is None else previous.create_revision
                version = 1 if previous is None else previous.version + 1
                record = Record(key, stamped(value, revision), created, revision, version, lease)
                self._staged[key] = (record, revision)
            if order:
                self._orders[(revision, key)] = order
            if previous is not None and previous.lease and previous.lease != lease:
                self._leases.detach(previous.lease, key)
            if lease and value is not None:
                self._leases.attach(lease, key)
            rows.append(Row(revision, order, key, value, record.create_revision, record.version, record.lease))
            records.append(record)
            events.append(Event(record, previous, value is None))
        write = _Write(rows, events, self._loop.create_future())
        self._pending.append(write)
        if self._flushing is None:
            self._flushing = self._loop.create_task(self._flush())
        return records, write

    async def _flush(self) -> None:
        """Make groups durable and visible until nothing is pending."""
        try:
            while self._pending:
                group = self._group = self._pending[:_LARGEST_GROUP]
                del self._pending[: len(group)]
                rows = [row for write in group for row in write.rows]
                await self._in_thread(self._backend.append, rows)
                self._publish(group)
        except Exception as error:
            self._fail(error, group)
        finally:
            self._flushing = None
            self._group = []

    def _publish(self, group: Sequence[_Write]) -> None:
        events = [event for write in group for event in write.events]
        for event in events:
            # A later write may be staged on top; then that one stays the current.
            if self._staged[event.key][1] == event.revision:
                del self._staged[event.key]
        self._image.apply(events)
        for write in group:
            if not write.done.done():
                write.done.set_result(None)

    def _fail(self, error: Exception, group: Sequence[_Write]) -> None:
        self._failure = f"the store cannot be written: {error}"
        log.critical("%s; no more writes are taken", self._failure)
        for write in [*group, *self._pending]:
            if not write.done.done():
                write.done.set_exception(Unavailable(self._failure))
                write.done.exception()  # whoever was cancelled meanwhile does not fetch it
        self._pending.clear()
        self._staged.clear()

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(self._thread, partial(function, *arguments))

    # -- leases

    async def grant(self, ttl: float) -> int:
        """See `Store.grant`."""
        self._check_open()
        lease = self._leases.grant(ttl, self._now())
        await self._backed(self._backend.set_lease, lease, ttl)
        self._schedule_leases()
        return lease

    async def keep_alive(self, lease: int) -> None:
        """See `Store.keep_alive`."""
        self._leases.keep_alive(lease, self._now())
        self._schedule_leases()

    async def revoke(self, lease: int) -> None:
        """See `Store.revoke`."""
        self._check_open()
        keys = [key for key in self._leases.drop(lease) if self._current(key) is not None]
        if keys:
            _, write = self._stage([Put(key, None) for key in keys])
            await asyncio.shield(write.done)
        await self._backed(self._backend.set_lease, lease, None)

    def _schedule_leases(self) -> None:
        if self._lease_timer is not None:
            self._lease_timer.cancel()
            self._lease_timer = None
        end = self._leases.next_end()
        if end is not None and not self._closed:
            delay = max(end - self._now(), 0.0) + 0.001
            self._lease_timer = self._loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        """End the leases whose time is over."""
        self._lease_timer = None
        for lease in self._leases.due(self._now()):
            self._task(self._revoke_quietly(lease))
        self._schedule_leases()

    async def _revoke_quietly(self, lease: int) -> None:
        try:
            await self.revoke(lease)
        except StoreError as error:
            log.warning("lease %d cannot be ended: %s", lease, error)

    async def _backed(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return await self._in_thread(function, *arguments)
        except Exception as error:
            raise Unavailable(str(error)) from error

    # -- upkeep

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        self._check_open()
        dropped = self._image.compact(revision)
        for event in dropped:
            if event.previous is not None:
                self._superseded.append(self._place(event.previous))
            if event.is_delete:
                self._superseded.append(self._place(event.record))
        await self._backed(self._backend.set_compacted, self._image.compacted_revision)
        while self._superseded:
            rows = self._superseded[:_SLICE]
            del self._superseded[: len(rows)]
            await self._backed(self._backend.forget, rows)

    def _place(self, record: Record) -> tuple[int, int]:
        revision = record.mod_revision
        return revision, self._orders.pop((revision, record.key), 0)

    async def _keep_bounded(self) -> None:
        """Compact by the history policy as long as the store lives."""
        while not self._closed:
            try:
                target = self._history.compaction(self._now(), self._image.revision)
                if target > self._image.compacted_revision or self._superseded:
                    await self.compact(target)
            except Unavailable as error:
                log.warning("compaction failed: %s", error)
                if self._failure:
                    return
            await asyncio.sleep(_COMPACT_SECONDS)

    async def snapshot(self, path: str) -> None:
        """See `Store.snapshot`."""
        self._check_open()
        await self._in_thread(self._backend.snapshot, path)

    async def defragment(self) -> None:
        """See `Store.defragment`."""
        await self._backed(self._backend.defragment)

    async def size(self) -> int:
        """See `Store.size`."""
        return await self._backed(self._backend.size)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._in_thread(self._backend.close)
        self._thread.shutdown()
