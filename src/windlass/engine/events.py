"""What happened: every change of a container, image, network or volume, for `docker events`.

The last events are kept in a ring, so that `since` can look back; a subscriber gets what follows through a bounded
queue of its own, so that a slow one loses its own events (and is told so by the end of its stream) and delays nobody.

    publish ──▶ ring (newest last) ──▶ subscriber's queue ──▶ stream
                  └── since/until read here first
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from windlass.engine.filters import NO_FILTERS, Filters, exact, fuzzy, labels
from windlass.engine.timestamps import SECOND
from windlass.errors import InvalidParameter
from windlass.oci.reference import parse_reference

Event = dict[str, Any]
Clock = Callable[[], int]

KEPT: Final = 1024
LONGEST_QUEUE: Final = 4096
_NAMED_TYPES: Final = ("daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config")
_PREFIXES: Final = frozenset({"health_status", "exec_create", "exec_start"})


def _without_tag(image: str) -> str:
    try:
        return parse_reference(image)._replace(tag=None, digest=None).familiar()
    except InvalidParameter:
        return image


def _matches_image(event: Event, filters: Filters) -> bool:
    if not filters.get("image"):
        return True
    actor = event["Actor"]
    attribute = "name" if event["Type"] == "image" else "image"
    names = (actor["ID"], actor["Attributes"].get(attribute, ""))
    return any(exact(filters, "image", name) or exact(filters, "image", _without_tag(name)) for name in names)


def matches(event: Event, filters: Filters) -> bool:
    """Whether an event passes the filters: types exactly, objects by prefix of their ID or name, images by name."""
    if not filters:
        return True
    action, attributes = event["Action"], event["Actor"]["Attributes"]
    by_prefix = any(wanted in _PREFIXES for wanted in filters.get("event") or ())
    if not (fuzzy if by_prefix else exact)(filters, "event", action):
        return False
    if not exact(filters, "type", event["Type"]) or not exact(filters, "scope", event["scope"]):
        return False
    for kind in _NAMED_TYPES:
        if not fuzzy(filters, kind, event["Actor"]["ID"]) and not fuzzy(filters, kind, attributes.get("name", "")):
            return False
    return _matches_image(event, filters) and labels(filters, "label", attributes)


class _Subscriber:
    """One stream's queue."""

    def __init__(self, filters: Filters) -> None:
        self.filters = filters
        self.queue: deque[Event] = deque()
        self.arrived = asyncio.Event()
        self.closed = False

    def offer(self, event: Event) -> None:
        if not matches(event, self.filters):
            return
        if len(self.queue) >= LONGEST_QUEUE:
            self.closed = True
        else:
            self.queue.append(event)
        self.arrived.set()


class Events:
    """The ring and its subscribers. Times are nanoseconds since the epoch."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._ring: deque[Event] = deque(maxlen=KEPT)
        self._subscribers: set[_Subscriber] = set()

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return len(self._subscribers)

    def publish(self, kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        """Record an event that happens now."""
        now = self._clock()
        event: Event = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": actor, "Attributes": dict(attributes)},
            "scope": "local",
            "time": now // SECOND,
            "timeNano": now,
        }
        if kind in {"container", "image"}:
            # Fields of the first API versions, which clients still read.
            event |= {"status": action, "id": actor}
            if kind == "container":
                event["from"] = attributes.get("image", "")
        self._ring.append(event)
        for subscriber in self._subscribers:
            subscriber.offer(event)

    def past(self, *, since: int | None, until: int | None, filters: Filters = NO_FILTERS) -> list[Event]:
        """Kept events of a period; none if neither end is given."""
        if since is None and until is None:
            return []
        return [
            event
            for event in self._ring
            if (since is None or event["timeNano"] >= since)
            and (until is None or event["timeNano"] <= until)
            and matches(event, filters)
        ]

    def stream(self, *, since: int | None, until: int | None, filters: Filters = NO_FILTERS) -> AsyncIterator[Event]:
        """Kept events since `since`, then new ones, until `until` (or for ever).

        The subscription exists when this returns, so nothing is missed before the first item is asked for.
        """
        subscriber = _Subscriber(filters)
        subscriber.queue.extend(self.past(since=since, until=until, filters=filters))
        over = until is not None and until <= self._clock()
        if not over:
            self._subscribers.add(subscriber)
        return self._follow(subscriber, None if over else until, over=over)

    async def _follow(self, subscriber: _Subscriber, until: int | None, *, over: bool) -> AsyncIterator[Event]:
        try:
            while True:
                while subscriber.queue:
                    yield subscriber.queue.popleft()
                if over or subscriber.closed:
                    return
                subscriber.arrived.clear()
                timeout = None if until is None else max(0, until - self._clock()) / SECOND
                try:
                    async with asyncio.timeout(timeout):
                        await subscriber.arrived.wait()
                except TimeoutError:
                    return
        finally:
            self._subscribers.discard(subscriber)

    def close(self) -> None:
        """End every stream."""
        for subscriber in self._subscribers:
            subscriber.closed = True
            subscriber.arrived.set()
