"""Leases: keys that go when nobody keeps them. Pure: the clock's value is passed in.

    grant ─▶ lease ─ attach(key) ─ keep_alive … ─▶ due(now): the leases whose time is over, with their keys

A store that starts again begins every lease's time anew, so that nothing expires because nobody was there.

Source: https://etcd.io/docs/v3.6/learning/api/#lease-api
"""

from __future__ import annotations

import heapq


class Leases:
    """The leases of a store."""

    def __init__(self) -> None:
        self._ttl: dict[int, float] = {}
        self._ends: dict[int, float] = {}
        self._keys: dict[int, set[bytes]] = {}
        self._heap: list[tuple[float, int]] = []
        self._last = 0

    def grant(self, ttl: float, now: float, lease: int = 0) -> int:
        """A new lease of `ttl` seconds (or one with a known number, after a restart)."""
        lease = lease or self._last + 1
        self._last = max(self._last, lease)
        self._ttl[lease] = ttl
        self._keys[lease] = set()
        self._set_end(lease, now + ttl)
        return lease

    def _set_end(self, lease: int, end: float) -> None:
        self._ends[lease] = end
        heapq.heappush(self._heap, (end, lease))

    def __contains__(self, lease: int) -> bool:
        return lease in self._ttl

    def attach(self, lease: int, key: bytes) -> None:
        """A key hangs on a lease. Raises KeyError: the lease has ended."""
        self._keys[lease].add(key)

    def detach(self, lease: int, key: bytes) -> None:
        """A key does so no longer."""
        if lease in self._keys:
            self._keys[lease].discard(key)

    def keep_alive(self, lease: int, now: float) -> None:
        """Begin its time anew. Raises KeyError: it has ended."""
        self._set_end(lease, now + self._ttl[lease])

    def drop(self, lease: int) -> list[bytes]:
        """End a lease; the keys that hang on it."""
        self._ttl.pop(lease, None)
        self._ends.pop(lease, None)
        return sorted(self._keys.pop(lease, ()))

    def next_end(self) -> float | None:
        """When the next lease ends, as far as is known."""
        while self._heap and self._ends.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[int]:
        """The leases whose time is over."""
        found = []
        while (end := self.next_end()) is not None and end <= now:
            found.append(heapq.heappop(self._heap)[1])
        return found
