"""The state and its recent history in memory: what every read and every watcher sees. Pure: no I/O, no clock.

    Image ─ records   key → record, the present
          ─ buckets   "/registry/pods/" → sorted keys, and the log of their events
          ─ log       the events of all keys, oldest first

      compacted_revision          revision
            │ e5  e6  e7  e8  e9      │
            └── log ──────────────────┘
                 ▲           ▲
              watcher      watcher      a watcher is a position in a log: a slow one costs nothing but
                                        what it has yet to read, and nobody waits for it

An earlier revision is the present with the later events undone. Keys are bucketed by their first two path segments,
which is what is listed and watched; a range over several buckets is possible and slower.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from windlass.store.errors import Compacted, FutureRevision
from windlass.store.records import Event, Record

Listener = Callable[[Sequence[Event]], None]
_BATCH = 500  # events that a watcher takes at once, so that one far behind does not hold up the loop


class RangeResult(NamedTuple):
    """Records of a range in the order of their keys.

    Attributes:
        more: the limit cut some off.
        total: how many there are without the limit.
        revision: the revision that was read.
    """

    records: Sequence[Record]
    more: bool
    total: int
    revision: int


class EventLog:
    """Events in the order of their revisions; positions go on counting when old ones are dropped."""

    __slots__ = ("base", "events", "waiting")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.base = 0
        self.waiting: dict[Watch, None] = {}

    def position_after(self, revision: int) -> int:
        """The position of the first event with a greater revision."""
        return self.base + bisect_right(self.events, revision, key=_revision)

    def drop_through(self, revision: int) -> list[Event]:
        """Forget the events up to a revision; the forgotten ones."""
        count = bisect_right(self.events, revision, key=_revision)
        dropped = self.events[:count]
        del self.events[:count]
        self.base += count
        return dropped

    def wake(self, events: Sequence[Event]) -> None:
        """Tell those who wait for one of these events."""
        for watch in list(self.waiting):
            watch.wake(events)


def _revision(event: Event) -> int:
    return event.record.mod_revision


class Bucket:
    """The keys with one prefix, and what happened to them."""

    __slots__ = ("keys", "listeners", "log")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.listeners: list[Listener] = []
        self.log = EventLog()


def bucket_name(key: bytes) -> bytes:
    """The part of a key up to its third slash: `/registry/pods/`."""
    second = key.find(b"/", 1)
    third = key.find(b"/", second + 1) if second > 0 else -1
    return key[: third + 1]


class Image:
    """See the module's drawing."""

    def __init__(self) -> None:
        self.revision = 0
        self.compacted_revision = 0
        self.records: dict[bytes, Record] = {}
        self.log = EventLog()
        self._buckets: dict[bytes, Bucket] = {}
        self._wide: list[tuple[bytes, Listener]] = []

    # -- changes

    def load(self, records: Iterable[Record], revision: int, compacted: int) -> None:
        """Begin with a state whose history is not known."""
        for record in records:
            self.records[record.key] = record
            self._bucket(record.key).keys.append(record.key)
        for bucket in self._buckets.values():
            bucket.keys.sort()
        self.revision = revision
        self.compacted_revision = compacted

    def apply(self, events: Sequence[Event]) -> None:
        """Make writes visible: they follow the present revision, in their order."""
        touched: dict[int, tuple[Bucket, list[Event]]] = {}
        for event in events:
            record = event.record
            key = record.key
            bucket = self._bucket(key)
            if event.is_delete:
                if self.records.pop(key, None) is not None:
                    del bucket.keys[bisect_left(bucket.keys, key)]
            else:
                if key not in self.records:
                    insort(bucket.keys, key)
                self.records[key] = record
            bucket.log.events.append(event)
            touched.setdefault(id(bucket), (bucket, []))[1].append(event)
        self.log.events.extend(events)
        if events:
            self.revision = max(self.revision, events[-1].revision)
        for bucket, own in touched.values():
            if bucket.log.waiting:
                bucket.log.wake(own)
        if self.log.waiting:
            self.log.wake(events)
        if self._wide:
            for prefix, listener in list(self._wide):
                found = [event for event in events if event.record.key.startswith(prefix)]
                if found:
                    listener(found)
        for bucket, own in touched.values():
            for listener in list(bucket.listeners):
                listener(own)

    def advance(self, revision: int) -> None:
        """The present is at least this revision, though nothing of ours was written."""
        self.revision = max(self.revision, revision)

    def compact(self, revision: int) -> list[Event]:
        """Forget the history up to a revision; the forgotten events."""
        revision = min(revision, self.revision)
        if revision <= self.compacted_revision:
            return []
        self.compacted_revision = revision
        for name, bucket in list(self._buckets.items()):
            bucket.log.drop_through(revision)
            if not (bucket.keys or bucket.log.events or bucket.log.waiting or bucket.listeners):
                bucket.log.base += 1  # whoever still holds a position in it finds that it fell out
                del self._buckets[name]
        dropped = self.log.drop_through(revision)
        for log in [self.log, *(bucket.log for bucket in self._buckets.values())]:
            for watch in list(log.waiting):
                watch.check()
        return dropped

    def _bucket(self, key: bytes) -> Bucket:
        name = bucket_name(key)
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket()
        return bucket

    # -- reads

    def get(self, key: bytes, revision: int = 0) -> Record | None:
        """A key's record at a revision (0: the present).

        Raises:
            Compacted, FutureRevision
        """
        if not revision or revision == self.revision:
            return self.records.get(key)
        self._check(revision)
        bucket = self._buckets.get(bucket_name(key))
        if bucket is not None:
            events = bucket.log.events
            for index in range(bucket.log.position_after(revision) - bucket.log.base, len(events)):
                if events[index].record.key == key:
                    return events[index].previous
        return self.records.get(key)

    def range(self, start: bytes, end: bytes, *, revision: int = 0, limit: int = 0) -> RangeResult:
        """The records with `start` <= key < `end` at a revision (0: the present), at most `limit` (0: all).

        Raises:
            Compacted, FutureRevision
        """
        if revision and revision != self.revision:
            return self._range_at(start, end, revision, limit)
        keys = self._keys(start, end)
        count = len(keys)
        more = 0 < limit < count
        records = self.records
        found = [records[key] for key in (keys[:limit] if more else keys)]
        return RangeResult(found, more, count, self.revision)

    def count(self, start: bytes, end: bytes) -> int:
        """How many keys a range has now."""
        bucket = self._only_bucket(start, end)
        if bucket is not None:
            return bisect_left(bucket.keys, end) - bisect_left(bucket.keys, start)
        return len(self._keys(start, end))

    def _range_at(self, start: bytes, end: bytes, revision: int, limit: int) -> RangeResult:
        self._check(revision)
        bucket = self._only_bucket(start, end)
        log = self.log if bucket is None else bucket.log
        later = log.events[log.position_after(revision) - log.base :]
        undone: dict[bytes, Record | None] = {}
        for event in later:
            key = event.record.key
            if start <= key < end:
                undone.setdefault(key, event.previous)
        records = {key: self.records[key] for key in self._keys(start, end)}
        for key, record in undone.items():
            if record is None:
                records.pop(key, None)
            else:
                records[key] = record
        keys = sorted(records)
        more = 0 < limit < len(keys)
        return RangeResult([records[key] for key in (keys[:limit] if more else keys)], more, len(keys), revision)

    def _check(self, revision: int) -> None:
        if revision > self.revision:
            raise FutureRevision(f"required revision {revision} is a future revision ({self.revision} is the latest)")
        if revision < self.compacted_revision:
            raise Compacted(self.compacted_revision)

    def _only_bucket(self, start: bytes, end: bytes) -> Bucket | None:
        """The bucket that has the whole range, if one has."""
        name = bucket_name(start)
        if name and start < end <= name[:-1] + b"0":  # "0" follows "/"
            return self._bucket(start)
        return None

    def _keys(self, start: bytes, end: bytes) -> list[bytes]:
        bucket = self._only_bucket(start, end)
        if bucket is not None:
            keys = bucket.keys
            return keys[bisect_left(keys, start) : bisect_left(keys, end)]
        found: list[bytes] = []
        for each in self._buckets.values():
            found += each.keys[bisect_left(each.keys, start) : bisect_left(each.keys, end)]
        found.sort()
        return found

    # -- watchers

    def watch(self, start: bytes, end: bytes, *, after_revision: int) -> Watch:
        """Follow a range: all events with a greater revision than `after_revision`, which may lie in the future.

        Raises:
            Compacted
        """
        if after_revision < self.compacted_revision:
            raise Compacted(self.compacted_revision)
        bucket = self._only_bucket(start, end)
        return Watch(self, self.log if bucket is None else bucket.log, start, end, after_revision)

    def subscribe(self, prefix: bytes, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each batch of events whose keys have a prefix, when it is visible; how to end that."""
        if prefix and bucket_name(prefix) == prefix:
            bucket = self._bucket(prefix)
            bucket.listeners.append(listener)
            return lambda: bucket.listeners.remove(listener)
        entry = (prefix, listener)
        self._wide.append(entry)
        return lambda: self._wide.remove(entry)


class Watch:
    """A position in a log. One task at a time reads it; a cancelled `next` loses nothing."""

    __slots__ = ("_after", "_closed", "_end", "_image", "_log", "_position", "_start", "_waiter")

    def __init__(self, image: Image, log: EventLog, start: bytes, end: bytes, after: int) -> None:
        self._image = image
        self._log = log
        self._start = start
        self._end = end
        self._after = after
        self._position = log.position_after(after)
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def progress(self) -> int:
        """The revision up to which nothing is missing in what `next` gave."""
        log = self._log
        index = self._position - log.base
        if 0 <= index < len(log.events):
            return log.events[index].revision - 1
        return max(self._image.revision, self._after)

    async def next(self) -> list[Event]:
        """The next events, at least one; an empty list when the watch is closed.

        Raises:
            Compacted: some of them are forgotten.
        """
        while not self._closed:
            events = self._take()
            if events:
                return events
            self._waiter = asyncio.get_running_loop().create_future()
            self._log.waiting[self] = None
            try:
                await self._waiter
            finally:
                self._log.waiting.pop(self, None)
                self._waiter = None
        return []

    def _take(self) -> list[Event]:
        log, start, end = self._log, self._start, self._end
        while True:
            index = self._position - log.base
            if index < 0:
                raise Compacted(self._image.compacted_revision)
            batch = log.events[index : index + _BATCH]
            if not batch:
                return []
            self._position += len(batch)
            found = [e for e in batch if start <= e.record.key < end and e.record.mod_revision > self._after]
            if found:
                return found

    def wake(self, events: Sequence[Event]) -> None:
        """Some events came: wake the reader if one is in its range."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        start, end = self._start, self._end
        if any(start <= event.record.key < end for event in events):
            waiter.set_result(None)
        elif self._log.base + len(self._log.events) - len(events) == self._position:
            self._position += len(events)  # nothing in it for us, and compaction may have it

    def check(self) -> None:
        """Old events were dropped: wake the reader if it had not read them."""
        if self._position < self._log.base and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """End it; `next` returns."""
        self._closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
