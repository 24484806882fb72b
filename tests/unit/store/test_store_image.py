"""The image: reads at any revision, and watches, told as scripts and checked against a naive model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.store import Compacted, Event, FutureRevision, Image, Record
from windlass.store.image import bucket_name


@dataclass
class World:
    """An image, written as a store writes it, beside the whole history in plain dictionaries."""

    image: Image = field(default_factory=Image)
    history: dict[int, dict[bytes, bytes]] = field(default_factory=lambda: {0: {}})

    def write(self, key: bytes, value: bytes | None) -> None:
        revision = self.image.revision + 1
        previous = self.image.records.get(key)
        if value is None and previous is None:
            return
        created = previous.create_revision if previous else revision
        version = previous.version + 1 if previous else 1
        record = Record(key, value or b"", created, revision, version)
        self.image.apply([Event(record, previous, value is None)])
        state = dict(self.history[revision - 1])
        if value is None:
            del state[key]
        else:
            state[key] = value
        self.history[revision] = state


KEYS = [b"/registry/pods/a/1", b"/registry/pods/a/2", b"/registry/pods/b/1", b"/registry/nodes/n", b"/x", b"odd"]
writes = st.lists(st.tuples(st.sampled_from(KEYS), st.one_of(st.none(), st.binary(max_size=3))), max_size=40)
ranges = st.sampled_from(
    [
        (b"/registry/pods/", b"/registry/pods0"),
        (b"/registry/pods/a/", b"/registry/pods/a0"),
        (b"/registry/pods/a/2", b"/registry/pods0"),
        (b"/registry/", b"/registry0"),
        (b"", b"\xff"),
    ]
)


@given(writes, ranges, st.integers(0, 40), st.integers(0, 4))
def test_every_revision_reads_as_it_was(
    script: list[tuple[bytes, bytes | None]], bounds: tuple[bytes, bytes], back: int, limit: int
) -> None:
    world = World()
    for key, value in script:
        world.write(key, value)
    revision = max(world.image.revision - back, 1)
    if world.image.revision == 0:
        return
    start, end = bounds
    expected = sorted((key, value) for key, value in world.history[revision].items() if start <= key < end)
    found = world.image.range(start, end, revision=revision, limit=limit)
    shown = [(record.key, record.value) for record in found.records]
    assert shown == (expected[:limit] if limit else expected)
    assert found.total == len(expected)
    assert found.more == (0 < limit < len(expected))
    for key in KEYS:
        record = world.image.get(key, revision)
        assert (record.value if record else None) == world.history[revision].get(key)
    assert world.image.count(start, end) == len(
        [key for key in world.history[world.image.revision] if start <= key < end]
    )


@given(writes, ranges, st.integers(0, 40))
async def test_a_watch_tells_each_step_from_any_revision(
    script: list[tuple[bytes, bytes | None]], bounds: tuple[bytes, bytes], cut: int
) -> None:
    world = World()
    for key, value in script[:cut]:
        world.write(key, value)
    start, end = bounds
    after = world.image.revision // 2
    watch = world.image.watch(start, end, after_revision=after)
    for key, value in script[cut:]:
        world.write(key, value)
    state = {key: value for key, value in world.history[after].items() if start <= key < end}
    last = after
    due = [e for e in world.image.log.events if e.revision > after and start <= e.key < end]
    last, heard = after, 0
    while heard < len(due):
        for event in await watch.next():
            assert event.revision > last
            last, heard = event.revision, heard + 1
            if event.is_delete:
                del state[event.key]
            else:
                state[event.key] = event.record.value
    assert state == {k: v for k, v in world.history[world.image.revision].items() if start <= k < end}


def test_reads_outside_of_the_history_are_refused() -> None:
    world = World()
    for number in range(10):
        world.write(b"/registry/pods/a/1", b"%d" % number)
    world.image.compact(5)
    with pytest.raises(Compacted):
        world.image.get(b"/registry/pods/a/1", 4)
    with pytest.raises(Compacted):
        world.image.range(b"/registry/pods/", b"/registry/pods0", revision=4)
    with pytest.raises(Compacted):
        world.image.watch(b"/registry/pods/", b"/registry/pods0", after_revision=4)
    with pytest.raises(FutureRevision):
        world.image.get(b"/registry/pods/a/1", 11)
    record = world.image.get(b"/registry/pods/a/1", 5)
    assert record is not None and record.value == b"4"


async def test_a_watcher_that_falls_out_of_the_history_is_told() -> None:
    world = World()
    world.write(KEYS[0], b"1")
    behind = world.image.watch(b"/registry/pods/", b"/registry/pods0", after_revision=0)
    current = world.image.watch(b"/registry/pods/", b"/registry/pods0", after_revision=1)
    waiting = asyncio.ensure_future(current.next())
    await asyncio.sleep(0)
    world.image.compact(1)
    with pytest.raises(Compacted):
        await behind.next()
    assert not waiting.done()  # it had seen everything
    world.write(KEYS[0], b"2")
    assert [event.revision for event in await waiting] == [2]


async def test_a_cancelled_wait_loses_nothing() -> None:
    world = World()
    watch = world.image.watch(b"/registry/pods/", b"/registry/pods0", after_revision=0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await watch.next()
    world.write(KEYS[0], b"1")
    assert [event.key for event in await watch.next()] == [KEYS[0]]
    waiting = asyncio.ensure_future(watch.next())
    await asyncio.sleep(0)
    world.write(b"/registry/nodes/n", b"not of this range")
    await asyncio.sleep(0)
    assert not waiting.done()
    watch.close()
    assert await waiting == []


async def test_one_event_object_serves_all_watchers() -> None:
    world = World()
    watches = [world.image.watch(b"/registry/pods/", b"/registry/pods0", after_revision=0) for _ in range(3)]
    heard: list[int] = []
    stop = world.image.subscribe(b"/registry/pods/", lambda events: heard.extend(e.revision for e in events))
    world.write(KEYS[0], b"1")
    world.write(b"/registry/nodes/n", b"2")
    stop()
    world.write(KEYS[0], b"3")
    first = [(await watch.next())[0] for watch in watches]
    assert first[0] is first[1] is first[2]
    assert heard == [1]


def test_buckets_are_the_first_two_segments() -> None:
    assert bucket_name(b"/registry/pods/a/1") == b"/registry/pods/"
    assert bucket_name(b"/registry/pods/") == b"/registry/pods/"
    assert bucket_name(b"/x") == b""
    assert bucket_name(b"") == b""
