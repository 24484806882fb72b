"""A loop over epoll(7): descriptors, timers, nothing else."""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[int], None]
    """Called with the epoll events of the descriptor."""

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANGUP = select.EPOLLHUP | select.EPOLLERR


class Timer:
    """A call that is due later, unless it is cancelled."""

    __slots__ = ("_callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self._callback: Callable[[], None] | None = callback

    def __lt__(self, other: Timer) -> bool:
        return self.deadline < other.deadline

    @property
    def cancelled(self) -> bool:
        """Whether it has been called off or has run."""
        return self._callback is None

    def cancel(self) -> None:
        """Forget it."""
        self._callback = None

    def run(self) -> None:
        """Call it, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Loop:
    """Watches descriptors (level-triggered) and runs timers, in one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[int, Handler]] = {}
        self._timers: list[Timer] = []

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call `handler` on `events` of `descriptor`, instead of what was asked for it before. Hang-up always wakes."""
        known = self._handlers.get(descriptor)
        if known is None:
            self._epoll.register(descriptor, events)
        elif known[0] != events:
            self._epoll.modify(descriptor, events)
        self._handlers[descriptor] = (events, handler)

    def forget(self, descriptor: int) -> None:
        """Watch no longer; to be called before the descriptor is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once, `seconds` from now."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def run_once(self) -> None:
        """Wait for one round of events and handle it."""
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        timeout = max(0.0, self._timers[0].deadline - time.monotonic()) if self._timers else -1
        for descriptor, events in self._epoll.poll(timeout, 64):
            known = self._handlers.get(descriptor)
            if known is not None:  # else an earlier handler of this round has forgotten it
                known[1](events)
        while self._timers and self._timers[0].deadline <= time.monotonic():
            heapq.heappop(self._timers).run()
