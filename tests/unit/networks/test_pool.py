"""A pool of prepared things: ready when wanted, bounded, never handed out twice."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait

import pytest

from windlass.networks.pool import WarmPool


class Workshop:
    """Makes numbers, one at a time when told to, and remembers what became of them."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.disposed: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Semaphore(0)
        self.open = threading.Event()
        self.begun = threading.Event()
        self.problem: Exception | None = None
        self._numbers = itertools.count()
        self.changed = threading.Condition()

    def make(self) -> int:
        self.begun.set()
        if not self.open.is_set():
            self.gate.acquire()
        self.threads.add(threading.get_ident())
        if self.problem is not None:
            raise self.problem
        with self.changed:
            self.made.append(next(self._numbers))
            self.changed.notify_all()
            return self.made[-1]

    def dispose(self, thing: int) -> None:
        with self.changed:
            self.disposed.append(thing)
            self.changed.notify_all()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout=30)


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def make_pool(workshop: Workshop) -> Iterator[Callable[..., WarmPool[int]]]:
    pools: list[WarmPool[int]] = []

    def make(limit: int = 4, **options: float) -> WarmPool[int]:
        pools.append(WarmPool("number", workshop.make, workshop.dispose, limit=limit, **options))
        return pools[-1]

    yield make
    workshop.open.set()
    workshop.gate.release(100)
    for pool in pools:
        pool.close()


def eventually_ready(pool: WarmPool[int], workshop: Workshop, count: int) -> None:
    workshop.wait_until(lambda: len(workshop.made) >= count)
    for _ in range(3000):
        if len(pool) == pool.target:
            return
        time.sleep(0.01)
    raise AssertionError(f"{len(pool)} are ready, {pool.target} are wanted")


def test_nothing_is_made_before_the_first_use(workshop: Workshop, make_pool: Callable[..., WarmPool[int]]) -> None:
    workshop.open.set()
    pool = make_pool()
    assert (len(pool), pool.target, workshop.made) == (0, 0, [])


def test_after_the_first_use_some_are_ready(workshop: Workshop, make_pool: Callable[..., WarmPool[int]]) -> None:
    workshop.open.set()
    pool = make_pool(refill_delay=0)
    assert pool.take().result(30) == 0
    eventually_ready(pool, workshop, 3)
    future = pool.take()
    assert future.done() and future.result() == 1
    assert len(workshop.threads) == 1


def test_those_who_wait_are_served_in_turn_and_first(
    workshop: Workshop, make_pool: Callable[..., WarmPool[int]]
) -> None:
    pool = make_pool(limit=4, refill_delay=0)
    futures = [pool.take() for _ in range(6)]
    workshop.open.set()
    workshop.gate.release(10)
    wait(futures, timeout=30)
    assert [future.result() for future in futures] == [0, 1, 2, 3, 4, 5]
    eventually_ready(pool, workshop, 10)
    assert (pool.target, len(pool)) == (4, 4)


def test_nothing_is_handed_out_twice(workshop: Workshop, make_pool: Callable[..., WarmPool[int]]) -> None:
    workshop.open.set()
    pool = make_pool(limit=3, refill_delay=0)
    taken = [pool.take().result(30) for _ in range(60)]
    assert len(set(taken)) == 60


def test_an_error_reaches_who_waits_and_stops_refilling(
    workshop: Workshop, make_pool: Callable[..., WarmPool[int]]
) -> None:
    workshop.open.set()
    pool = make_pool(refill_delay=0)
    workshop.problem = OSError("no more")
    for _ in range(2):
        with pytest.raises(OSError, match="no more"):
            pool.take().result(30)
    workshop.problem = None
    assert pool.take().result(30) == 0
    eventually_ready(pool, workshop, 2)


def test_one_that_was_not_used_may_be_given_back(workshop: Workshop, make_pool: Callable[..., WarmPool[int]]) -> None:
    workshop.open.set()
    pool = make_pool(limit=0)
    thing = pool.take().result(30)
    pool.give_back(thing)
    workshop.wait_until(lambda: workshop.disposed == [thing])  # nobody wants it, so it is not kept


def test_a_quiet_pool_empties_itself(workshop: Workshop, make_pool: Callable[..., WarmPool[int]]) -> None:
    workshop.open.set()
    pool = make_pool(refill_delay=0, quiet_seconds=0.02)
    pool.take().result(30)
    workshop.wait_until(lambda: len(workshop.made) >= 3 and len(workshop.disposed) == len(workshop.made) - 1)
    assert (len(pool), pool.target) == (0, 0)


def test_a_taker_who_gives_up_costs_nothing(workshop: Workshop, make_pool: Callable[..., WarmPool[int]]) -> None:
    pool = make_pool(refill_delay=0)
    first, second, third = (pool.take() for _ in range(3))
    assert second.cancel()
    workshop.open.set()
    workshop.gate.release(10)
    assert (first.result(30), third.result(30)) == (0, 1)


def test_closing_gives_back_what_waited(workshop: Workshop, make_pool: Callable[..., WarmPool[int]]) -> None:
    workshop.open.set()
    pool = make_pool(refill_delay=0)
    pool.take().result(30)
    eventually_ready(pool, workshop, 3)
    assert sorted(pool.close()) == [1, 2] and pool.close() == []
    with pytest.raises(RuntimeError, match="closed"):
        pool.take()


def test_closing_disappoints_those_who_wait(workshop: Workshop, make_pool: Callable[..., WarmPool[int]]) -> None:
    pool = make_pool()
    first = pool.take()
    assert workshop.begun.wait(30)
    second = pool.take()
    closing = threading.Thread(target=pool.close)
    closing.start()
    while not pool.closed:
        time.sleep(0.001)
    workshop.gate.release()
    closing.join(30)
    assert first.result(30) == 0
    with pytest.raises(CancelledError):
        second.result(30)
