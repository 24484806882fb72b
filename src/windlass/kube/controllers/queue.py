"""A work queue: three structures and one invariant.

    queue        keys in the order in which they wait
    dirty        keys that have to be worked on
    processing   keys that are being worked on

A key is in `queue` if and only if it is dirty and not being worked on. So one worker at a time has it, a key that
changes meanwhile is not lost, and one that changes twice is worked on once. Failures wait longer each time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FIRST_DELAY = 0.005
_LONGEST_DELAY = 300.0


class WorkQueue(Generic[K]):
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._queue: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._failures: dict[K, int] = {}
        self._delayed: dict[K, asyncio.TimerHandle] = {}
        self._waiter: asyncio.Event = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is worked on (delayed keys may still come)."""
        return not self._queue and not self._processing

    def add(self, key: K) -> None:
        """A key has to be worked on."""
        if self._closed or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._queue.append(key)
            self._waiter.set()

    def add_after(self, key: K, seconds: float) -> None:
        """The same, later; the earlier of two moments counts."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        known = self._delayed.get(key)
        if known is not None:
            if known.when() <= loop.time() + seconds:
                return
            known.cancel()
        self._delayed[key] = loop.call_later(seconds, self._come_due, key)

    def _come_due(self, key: K) -> None:
        self._delayed.pop(key, None)
        self.add(key)

    def retry(self, key: K) -> float:
        """Work on a key again after its back-off (seconds, returned)."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay: float = min(_FIRST_DELAY * 2.0 ** min(failures, 30), _LONGEST_DELAY)
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """A key was worked on well: its next failure is its first."""
        self._failures.pop(key, None)

    async def get(self) -> K | None:
        """The next key, which `done` must give back; None when the queue is closed."""
        while not self._queue:
            if self._closed:
                return None
            self._waiter.clear()
            await self._waiter.wait()
        key = self._queue.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        """The worker has finished with a key."""
        self._processing.discard(key)
        if key in self._dirty:
            self._queue.append(key)
            self._waiter.set()

    def close(self) -> None:
        """No more keys; whoever waits gets None."""
        self._closed = True
        self._queue.clear()
        for timer in self._delayed.values():
            timer.cancel()
        self._delayed.clear()
        self._waiter.set()
