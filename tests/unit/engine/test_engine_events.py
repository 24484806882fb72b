"""The ring of events and its streams."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from windlass.engine.events import KEPT, LONGEST_QUEUE, Events, matches
from windlass.engine.timestamps import SECOND


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def events(clock: Clock) -> Events:
    return Events(clock=clock)


def publish(events: Events, clock: Clock, *actions: str) -> None:
    for action in actions:
        clock.now += SECOND
        events.publish("container", action, "abc123", {"name": "web", "image": "busybox:latest", "tier": "front"})


async def test_an_event_has_the_shape_of_the_api(events: Events, clock: Clock) -> None:
    publish(events, clock, "create")
    assert events.past(since=0, until=None) == [
        {
            "Type": "container",
            "Action": "create",
            "Actor": {"ID": "abc123", "Attributes": {"name": "web", "image": "busybox:latest", "tier": "front"}},
            "scope": "local",
            "time": 1001,
            "timeNano": 1001 * SECOND,
            "status": "create",
            "id": "abc123",
            "from": "busybox:latest",
        }
    ]


async def test_only_the_last_events_are_kept(events: Events, clock: Clock) -> None:
    publish(events, clock, *(str(number) for number in range(KEPT + 3)))
    past = events.past(since=0, until=None)
    assert [past[0]["Action"], past[-1]["Action"], len(past)] == ["3", str(KEPT + 2), KEPT]


async def test_the_past_is_told_only_to_who_asks(events: Events, clock: Clock) -> None:
    publish(events, clock, "create", "start", "die")
    assert events.past(since=None, until=None) == []
    assert [event["Action"] for event in events.past(since=1002 * SECOND, until=1002 * SECOND)] == ["start"]


async def test_a_stream_misses_nothing_between_past_and_future(events: Events, clock: Clock) -> None:
    publish(events, clock, "create")
    stream = events.stream(since=0, until=None)
    publish(events, clock, "start")
    assert [(await anext(stream))["Action"] for _ in range(2)] == ["create", "start"]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    publish(events, clock, "die")
    assert (await waiting)["Action"] == "die"
    assert events.listeners == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert events.listeners == 0


async def test_an_end_in_the_past_ends_the_stream(events: Events, clock: Clock) -> None:
    publish(events, clock, "create", "start")
    stream = events.stream(since=0, until=1001 * SECOND)
    assert [event["Action"] async for event in stream] == ["create"]
    assert events.listeners == 0


async def test_an_end_soon_ends_the_stream_then(events: Events, clock: Clock) -> None:
    stream = events.stream(since=None, until=clock.now + 20_000_000)
    assert [event async for event in stream] == []


async def test_closing_ends_all_streams(events: Events) -> None:
    stream = events.stream(since=None, until=None)
    waiting = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    events.close()
    assert await waiting is None


async def test_who_does_not_read_loses_the_stream_and_delays_nobody(events: Events, clock: Clock) -> None:
    stream = events.stream(since=None, until=None)
    publish(events, clock, *("x" for _ in range(LONGEST_QUEUE + 10)))
    assert len([event async for event in stream]) == LONGEST_QUEUE


def event(kind: str = "container", action: str = "start", actor: str = "abc123", **attributes: str) -> dict[str, Any]:
    return {"Type": kind, "Action": action, "Actor": {"ID": actor, "Attributes": attributes}, "scope": "local"}


@pytest.mark.parametrize(
    ("filters", "given", "wanted"),
    [
        ({}, event(), True),
        ({"type": ["container"]}, event(), True),
        ({"type": ["cont"]}, event(), False),
        ({"container": ["abc"]}, event(), True),
        ({"container": ["we"]}, event(name="web"), True),
        ({"container": ["b"]}, event(name="web"), False),
        ({"event": ["start"]}, event(), True),
        ({"event": ["exec_create"]}, event(action="exec_create: sh -c x"), True),
        ({"event": ["health_status"]}, event(action="health_status: healthy"), True),
        ({"event": ["sta"]}, event(), False),
        ({"label": ["tier=front"]}, event(tier="front"), True),
        ({"label": ["tier=back"]}, event(tier="front"), False),
        ({"image": ["busybox"]}, event(image="busybox:1.36"), True),
        ({"image": ["busybox:1.36"]}, event(image="busybox:1.36"), True),
        ({"image": ["busy"]}, event(image="busybox:1.36"), False),
        ({"image": ["busybox"]}, event("image", "pull", "busybox:latest", name="busybox:latest"), True),
        ({"volume": ["data"]}, event("volume", "mount", "data"), True),
        ({"scope": ["swarm"]}, event(), False),
        ({"type": ["image", "container"], "event": ["stop", "start"]}, event(), True),
    ],
)
def test_filters(filters: dict[str, list[str]], given: dict[str, Any], wanted: bool) -> None:
    assert matches(given, filters) is wanted
