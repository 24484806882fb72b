"""Pods that wait for a node.

    active          tried now, the most important first, then the oldest
    backing off     tried again after 1 s, 2 s, 4 s … 10 s
    unschedulable   tried again when something happens that could help, or after five minutes

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from windlass.kube.scheduler.podinfo import PodInfo

_FIRST_BACKOFF, _LONGEST_BACKOFF = 1.0, 10.0
_LONGEST_WAIT = 300.0


@dataclass
class Waiting:
    """A pod that waits. `plugins` are the filters that refused it last."""

    info: PodInfo
    since: float
    attempts: int = 0
    plugins: frozenset[str] = field(default_factory=frozenset)
    parked_at: float = 0.0


class SchedulingQueue:
    """Belongs to one event loop. `first` and `longest` back-off in seconds."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        first: float = _FIRST_BACKOFF,
        longest: float = _LONGEST_BACKOFF,
    ) -> None:
        self._first, self._longest = first, longest
        self._clock = clock
        self._order = itertools.count()
        self._active: list[tuple[int, float, int, str]] = []
        self._waiting: dict[str, Waiting] = {}
        self._places: dict[str, str] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._arrived = asyncio.Event()
        self._moved_at = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def cycle(self) -> int:
        """Grows with each event that could help a pod; see `park`."""
        return self._moved_at

    def add(self, info: PodInfo) -> None:
        """A pod that waits is new or has changed: try it now."""
        known = self._waiting.get(info.uid)
        if known is not None:
            known.info = info
            if self._places.get(info.uid) == "active":
                return
        else:
            self._waiting[info.uid] = Waiting(info, self._clock())
        self._activate(info.uid)

    def remove(self, uid: str) -> None:
        """A pod waits no longer."""
        self._waiting.pop(uid, None)
        self._places.pop(uid, None)
        if (timer := self._timers.pop(uid, None)) is not None:
            timer.cancel()

    def get(self, uid: str) -> Waiting | None:
        """A pod that waits."""
        return self._waiting.get(uid)

    async def pop(self) -> Waiting:
        """The next pod to be tried."""
        while True:
            while self._active:
                uid = heapq.heappop(self._active)[3]
                if self._places.get(uid) == "active":
                    self._places[uid] = "tried"
                    found = self._waiting[uid]
                    found.attempts += 1
                    return found
            self._arrived.clear()
            await self._arrived.wait()

    def park(self, waiting: Waiting, plugins: frozenset[str], seen: int) -> None:
        """A pod fits nowhere; `seen` is the `cycle` before it was tried: what happened since may have helped."""
        uid = waiting.info.uid
        if self._waiting.get(uid) is not waiting or self._places.get(uid) == "active":
            return
        waiting.plugins, waiting.parked_at = plugins, self._clock()
        if self._moved_at != seen:
            self._back_off(waiting)
            return
        self._places[uid] = "parked"
        self._at(uid, _LONGEST_WAIT)

    def retry(self, waiting: Waiting) -> None:
        """A pod could not be bound: try it again after its back-off."""
        if self._waiting.get(waiting.info.uid) is waiting:
            self._back_off(waiting)

    def wake(self, *plugins: str) -> None:
        """Something happened that could help pods that these filters refused; without any, all pods."""
        self._moved_at += 1
        wanted = frozenset(plugins)
        for uid, waiting in self._waiting.items():
            if self._places.get(uid) == "parked" and (not wanted or not waiting.plugins or waiting.plugins & wanted):
                self._back_off(waiting)

    def _back_off(self, waiting: Waiting) -> None:
        delay = min(self._first * 2 ** max(waiting.attempts - 1, 0), self._longest)
        left = waiting.parked_at + delay - self._clock() if waiting.parked_at else delay
        uid = waiting.info.uid
        if left <= 0:
            self._activate(uid)
        else:
            self._places[uid] = "backing off"
            self._at(uid, left)

    def _at(self, uid: str, seconds: float) -> None:
        if (timer := self._timers.pop(uid, None)) is not None:
            timer.cancel()
        self._timers[uid] = asyncio.get_running_loop().call_later(seconds, self._activate, uid)

    def _activate(self, uid: str) -> None:
        if (timer := self._timers.pop(uid, None)) is not None:
            timer.cancel()
        waiting = self._waiting.get(uid)
        if waiting is None:
            return
        self._places[uid] = "active"
        heapq.heappush(self._active, (-waiting.info.priority, waiting.since, next(self._order), uid))
        self._arrived.set()

    def close(self) -> None:
        """Wait for nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        self._places.clear()
