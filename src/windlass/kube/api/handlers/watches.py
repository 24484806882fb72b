"""watch: what happens to a selection of objects, as a stream of frames.

    resourceVersion   unset, "0"            what is there now as ADDED, then changes
                      N                     changes after N; ERROR 410 where they are compacted
    sendInitialEvents with bookmarks        what is there now as ADDED, a bookmark that says so, then changes

A change seen through a selector is an ADDED where the object comes into the selection and a DELETED where it leaves it.
Frames are encoded once and shared by all watchers who want the same form.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from windlass.http import StreamResponse
from windlass.kube.api import objects, status
from windlass.kube.api.handlers import encoding
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.operations import reading
from windlass.kube.api.operations.reading import Selection
from windlass.store import Compacted, Event, Watch

_BOOKMARK_SECONDS = 60.0
_LONGEST_SECONDS = 1800
_BEFORE_END = 2.0  # seconds before a watch ends by itself that its last bookmark comes
_INITIAL_BATCH = 200


class Change(NamedTuple):
    """One event as a watcher sees it: its type, and the object's stored bytes."""

    type: str
    value: bytes


def check_options(call: Call) -> None:
    """The rules of sendInitialEvents.

    Raises:
        StatusError: 422.
    """
    options = call.options
    if not options.given("sendInitialEvents"):
        if match := options.text("resourceVersionMatch"):
            error = status.forbidden_field(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
            raise status.invalid("ListOptions", "meta.k8s.io", "", [error] if match else [])
        return
    errors = []
    match = options.text("resourceVersionMatch")
    if not match:
        errors.append(
            status.forbidden_field(
                "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
        )
    elif match != reading.NOT_OLDER:
        errors.append(status.not_supported("resourceVersionMatch", match, [reading.NOT_OLDER]))
    if errors:
        raise status.invalid("ListOptions", "meta.k8s.io", "", errors)


async def watch(call: Call, selection: Selection) -> StreamResponse:
    """The stream of a selection's events. The client is still there until the iterator is closed.

    Raises:
        StatusError: 400, 422 (options), 504 (the revision asked for does not come).
    """
    check_options(call)
    options, store = call.options, call.env.store
    version = options.text("resourceVersion")
    wants_initial = options.flag("sendInitialEvents")
    has_initial = wants_initial or (version in ("", "0") and not options.given("sendInitialEvents"))
    number = reading.revision_number(version) if version not in ("", "0") else 0
    if wants_initial or version == "":
        await reading.wait_until_fresh(call.env, version)
    begin, end = selection.bounds(call.resource)
    after = store.revision if has_initial or not number else number
    seconds = options.number("timeoutSeconds") or random.uniform(_LONGEST_SECONDS, 2 * _LONGEST_SECONDS)  # noqa: S311
    stream = _Stream(call, selection, options.flag("allowWatchBookmarks"), seconds)
    chunks = stream.run(begin, end, after, has_initial, wants_initial)
    return StreamResponse(200, [("Content-Type", encoding.stream_type(call.form)), *call.extras], chunks)


class _Stream:
    """One watch."""

    def __init__(self, call: Call, selection: Selection, bookmarks: bool, seconds: float) -> None:
        self._call = call
        self._resource = call.resource
        self._selection = selection
        self._bookmarks = bookmarks
        self._seconds = seconds
        self._encoder = encoding.StreamEncoder(call)

    async def run(
        self, begin: bytes, end: bytes, after: int, has_initial: bool, marks_initial: bool
    ) -> AsyncIterator[bytes]:
        store = self._call.env.store
        try:
            # Begun before the first await, so that nothing falls between what is there and what comes.
            watch = store.watch(begin, end, after_revision=after)
        except Compacted:
            yield await self._too_old(after)
            return
        try:
            if has_initial:
                # One range in one moment; the stream itself starts behind it.
                records = store.range(begin, end).records
                matches = self._selection.matches
                found = [each for each in records if matches(self._resource, each)]
                for start in range(0, len(found), _INITIAL_BATCH):
                    changes = [Change("ADDED", each.value) for each in found[start : start + _INITIAL_BATCH]]
                    yield await self._encoder.frames(changes)
                if marks_initial and self._bookmarks:
                    yield self._encoder.bookmark(after, initial_end=True)
            async for chunk in self._follow(watch, after):
                yield chunk
        except Compacted:
            yield await self._too_old(after)
        finally:
            watch.close()

    async def _follow(self, watch: Watch, after: int) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        ends = begun + self._seconds
        mark = min(begun + _BOOKMARK_SECONDS, max(ends - _BEFORE_END, begun)) if self._bookmarks else ends
        while (now := loop.time()) < ends:
            if now >= mark:
                yield self._encoder.bookmark(max(watch.progress, after))
                mark = now + _BOOKMARK_SECONDS
                if mark > ends - _BEFORE_END:
                    mark = ends - _BEFORE_END if now < ends - _BEFORE_END - 1 else ends
                continue
            try:
                async with asyncio.timeout(min(mark, ends) - now):
                    events = await watch.next()
            except TimeoutError:
                continue
            if self._selection.is_everything and self._encoder.is_shared:
                yield b"".join([shared_frame(event) for event in events])
            elif changes := self._seen(events):
                yield await self._encoder.frames(changes)

    def _seen(self, events: Sequence[Event]) -> list[Change]:
        matches: Callable[..., bool] = self._selection.matches
        changes: list[Change] = []
        for event in events:
            previous = event.previous
            before = previous is not None and matches(self._resource, previous)
            now = not event.is_delete and matches(self._resource, event.record)
            if now:
                changes.append(Change("MODIFIED" if before else "ADDED", event.record.value))
            elif before:
                assert previous is not None
                changes.append(Change("DELETED", objects.restamp(previous.value, event.revision)))
        return changes

    async def _too_old(self, after: int) -> bytes:
        compacted = self._call.env.store.compacted_revision
        return self._encoder.error(status.gone(f"too old resource version: {after} ({compacted})"))


def shared_frame(event: Event) -> bytes:
    """The JSON frame of an event for everyone who sees all objects in their stored version."""
    frame: bytes | None = event.cache
    if frame is None:
        if event.is_delete:
            assert event.previous is not None
            value = objects.restamp(event.previous.value, event.revision)
            frame = encoding.json_frame("DELETED", value)
        else:
            frame = encoding.json_frame("ADDED" if event.previous is None else "MODIFIED", event.record.value)
        event.cache = frame
    return frame
