"""Things that take milliseconds to make, made before they are wanted.

```
 take() ──▶ one is ready ──▶ at once                     a thread of the pool's own:
        └─▶ none is ─▶ a place in the queue ◀──────────── 1. serve the queue   2. refill up to `target`   3. wait
```

`target` is 0 until the first use, doubles whenever somebody had to wait (up to `limit`), and halves after each quiet
period, down to nothing: an idle daemon holds nothing, a busy one is never waited for. The thread alone makes things, so
making may change what belongs to a thread, its network namespace.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")

QUIET_SECONDS = 60.0
# Who has just taken one is about to use it, and would share the interpreter with us.
REFILL_DELAY_SECONDS = 0.005
_FIRST_TARGET = 2

log = logging.getLogger(__name__)


class WarmPool(Generic[T]):
    """A pool of prepared things; each is handed out once and never comes back used."""

    def __init__(
        self,
        name: str,
        make: Callable[[], T],
        dispose: Callable[[T], None],
        *,
        limit: int,
        quiet_seconds: float = QUIET_SECONDS,
        refill_delay: float = REFILL_DELAY_SECONDS,
    ) -> None:
        """`make` and `dispose` run in the pool's thread; `limit` bounds how many things wait, 0 prepares none."""
        self._refill_delay = refill_delay
        self._make, self._dispose = make, dispose
        self._name, self.limit, self._quiet_seconds = name, limit, quiet_seconds
        self._changed = threading.Condition()
        self._ready: deque[T] = deque()
        self._waiting: deque[Future[T]] = deque()
        self._target = 0
        self._last_take = 0.0
        self.closed = False
        self._failed = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """How many wait prepared."""
        return len(self._ready)

    @property
    def target(self) -> int:
        return self._target

    def take(self) -> Future[T]:
        """One thing; the future is done already where one was ready. It raises what `make` raised."""
        future: Future[T] = Future()
        with self._changed:
            if self.closed:
                raise RuntimeError(f"pool {self._name} is closed")
            if self._thread is None:
                # A thread inherits its maker's network namespace, so it starts with the first use, not at import.
                self._thread = threading.Thread(target=self._run, name=f"pool-{self._name}", daemon=True)
                self._thread.start()
            self._failed = False
            self._last_take = time.monotonic()
            if self._ready:
                future.set_running_or_notify_cancel()
                future.set_result(self._ready.popleft())
            else:
                self._waiting.append(future)
                self._target = min(self.limit, max(_FIRST_TARGET, self._target * 2))
            self._changed.notify()
        return future

    def give_back(self, thing: T) -> None:
        """Return a thing that was taken and not used."""
        with self._changed:
            self._ready.appendleft(thing)
            self._changed.notify()

    def close(self) -> list[T]:
        """End the thread; what waited prepared, for its owner to dispose of. Blocks until the thread has ended."""
        with self._changed:
            self.closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        for future in self._waiting:
            future.cancel()
        left, self._ready = list(self._ready), deque()
        return left

    def _run(self) -> None:
        while True:
            with self._changed:
                job = self._next_job()
            if job is None:
                return
            job()

    def _next_job(self) -> Callable[[], None] | None:
        """What to do next, None at the end; waits while there is nothing. Called with the lock held."""
        while not self.closed:
            if self._waiting:
                return partial(self._serve, self._waiting.popleft())
            if len(self._ready) < self._target and not self._failed:
                if (pause := self._last_take + self._refill_delay - time.monotonic()) <= 0:
                    return self._refill
                self._changed.wait(pause)
                continue
            if len(self._ready) > self._target:
                return partial(self._discard, self._ready.pop())
            if not self._changed.wait(self._quiet_seconds if self._target else None):
                self._target //= 2
        return None

    def _serve(self, future: Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(self._make())
        except Exception as error:
            future.set_exception(error)

    def _refill(self) -> None:
        last_take = self._last_take
        try:
            thing = self._make()
        except Exception as error:
            # Whoever takes next will see the error himself; until then there is no point in trying again and again.
            log.warning("cannot prepare a %s: %s", self._name, error)
            with self._changed:
                self._failed = self._last_take == last_take
            return
        with self._changed:
            if not self.closed and self._waiting:
                while self._waiting:
                    future = self._waiting.popleft()
                    if future.set_running_or_notify_cancel():
                        future.set_result(thing)
                        return
            self._ready.append(thing)

    def _discard(self, thing: T) -> None:
        try:
            self._dispose(thing)
        except Exception as error:
            log.warning("cannot dispose of a %s: %s", self._name, error)
