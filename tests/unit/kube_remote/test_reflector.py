"""What a reflector tells when lists and watches go on, end, break, and lose their history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, cast

import orjson
import pytest

from windlass.kube.api.status import StatusError, service_unavailable
from windlass.kube.remote import reflector as module
from windlass.kube.remote.reflector import Reflector, Selection
from windlass.kube.remote.resources import Place, Resources
from windlass.kube.remote.transport import Transport

Object = dict[str, Any]
PLACE = Place("/api/v1", "v1", "Pod", "pods", True)


def pod(name: str, version: int, uid: str = "") -> Object:
    return {"metadata": {"namespace": "d", "name": name, "resourceVersion": str(version), "uid": uid or name}}


def page(version: int, *items: Object, token: str = "") -> Object:
    return {"metadata": {"resourceVersion": str(version), "continue": token}, "items": list(items)}


def event(kind: str, obj: Object) -> bytes:
    return orjson.dumps({"type": kind, "object": obj})


class Script:
    """A server that answers lists and watches in turn, and remembers what it was asked."""

    def __init__(self, lists: Iterable[Object | StatusError], watches: Iterable[list[bytes] | StatusError]) -> None:
        self._lists, self._watches = iter(lists), iter(watches)
        self.asked: list[Mapping[str, str]] = []
        self.done = asyncio.Event()

    async def find(self, group: str, plural: str) -> Place:
        return PLACE

    async def request(self, method: str, path: str, *, query: Mapping[str, str]) -> Object:
        self.asked.append(query)
        found = next(self._lists)
        if isinstance(found, StatusError):
            raise found
        return found

    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        self.asked.append(query)
        found = next(self._watches, None)
        if found is None:
            self.done.set()
            await asyncio.sleep(60)
            return
        if isinstance(found, StatusError):
            raise found
        for line in found:
            yield line


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_DELAY", 0.001)


async def heard(script: Script, sink: Callable[[str, Object], None] | None = None) -> list[tuple[str, str, str]]:
    """All that the script's reflector tells: event, name, version."""
    told: list[tuple[str, str, str]] = []

    def tell(kind: str, obj: Object) -> None:
        if sink is not None:
            sink(kind, obj)
        told.append((kind, obj["metadata"]["name"], obj["metadata"]["resourceVersion"]))

    made = Reflector(cast(Transport, script), cast(Resources, script), Selection("", "pods", "", "a=b"), tell)
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(5):
        await script.done.wait()
    assert made.synced.is_set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return told


async def test_a_list_in_pages_then_changes() -> None:
    script = Script(
        [page(5, pod("a", 1), token="more"), page(5, pod("b", 2))],
        [[event("ADDED", pod("c", 6)), event("MODIFIED", pod("a", 7)), event("DELETED", pod("b", 8))]],
    )
    assert await heard(script) == [
        ("ADDED", "a", "1"),
        ("ADDED", "b", "2"),
        ("ADDED", "c", "6"),
        ("MODIFIED", "a", "7"),
        ("DELETED", "b", "8"),
    ]
    assert script.asked[1]["continue"] == "more"
    assert all(each["fieldSelector"] == "a=b" for each in script.asked)
    first, second = script.asked[2:]
    assert first["resourceVersion"] == "5" and first["allowWatchBookmarks"] == "true"
    assert 300 <= int(first["timeoutSeconds"]) < 600
    # A watch that ends goes on where it was.
    assert second["resourceVersion"] == "8"


async def test_bookmarks_move_on_and_tell_nothing() -> None:
    script = Script([page(5)], [[event("BOOKMARK", {"metadata": {"resourceVersion": "40"}})]])
    assert await heard(script) == []
    assert script.asked[-1]["resourceVersion"] == "40"


@pytest.mark.parametrize("as_event", [True, False])
async def test_lost_history_is_listed_again_and_the_difference_told(as_event: bool) -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    script = Script(
        [
            page(5, pod("same", 1), pod("changed", 2), pod("deleted", 3), pod("again", 4, "first")),
            page(9, pod("same", 1), pod("changed", 8), pod("again", 9, "second"), pod("new", 7)),
        ],
        [[event("ERROR", gone)] if as_event else StatusError(410, "Expired", "too old")],
    )
    told = await heard(script)
    assert told[:4] == [("ADDED", name, str(n)) for n, name in enumerate(("same", "changed", "deleted", "again"), 1)]
    assert sorted(told[4:]) == sorted(
        [
            ("DELETED", "deleted", "3"),
            ("MODIFIED", "changed", "8"),
            ("DELETED", "again", "4"),
            ("ADDED", "again", "9"),
            ("ADDED", "new", "7"),
        ]
    )
    assert told.index(("DELETED", "again", "4")) < told.index(("ADDED", "again", "9"))


async def test_a_server_that_is_away_is_asked_again_from_the_last_version() -> None:
    away = service_unavailable("no")
    script = Script([away, page(5, pod("a", 1))], [[event("MODIFIED", pod("a", 6))], away, away])
    assert await heard(script) == [("ADDED", "a", "1"), ("MODIFIED", "a", "6")]
    assert [each.get("resourceVersion") for each in script.asked] == [None, None, "5", "6", "6", "6"]


async def test_a_listener_that_fails_does_not_end_it() -> None:
    failures = 0

    def sink(kind: str, obj: Object) -> None:
        nonlocal failures
        if obj["metadata"]["name"] == "bad" and not failures:
            failures += 1
            raise ValueError("oops")

    script = Script([page(5), page(7, pod("bad", 6), pod("b", 7))], [[event("ADDED", pod("bad", 6))]])
    assert ("ADDED", "b", "7") in await heard(script, sink)
