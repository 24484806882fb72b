"""One list of objects kept current: listed once, watched from there, listed again where the history is lost.

    list ─▶ watch from its resourceVersion ─┬ event, bookmark: the version moves on
     ▲                                      ├ ends, breaks:    watched again from the version
     └──────────────────────────────────────┴ 410 Gone:        listed again; what is missing was deleted meanwhile

Failures wait 0.8 to 30 seconds, doubled each time, each with a random part, so that a thousand nodes do not come back
in the same moment.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.remote.resources import Resources
from windlass.kube.remote.transport import Transport, error_of

log = logging.getLogger("windlass.kube.remote")

Sink = Callable[[str, Object], None]
Key = tuple[str, str]

_PAGE: Final = "500"
_FIRST_DELAY, _LONGEST_DELAY = 0.8, 30.0
_RESET_SECONDS: Final = 120.0
_SHORTEST_WATCH: Final = 300


@dataclass(frozen=True, slots=True)
class Selection:
    """What a reflector follows. `namespace` "" is all of them."""

    group: str
    resource: str
    namespace: str = ""
    field_selector: str = ""


class Backoff:
    """How long the next failure waits; one that comes long after the last is a first one."""

    def __init__(self, clock: Callable[[], float], dice: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._dice = dice
        self._next = _FIRST_DELAY
        self._last = float("-inf")

    def delay(self) -> float:
        """Seconds, between the plain value and its double."""
        now = self._clock()
        if now - self._last > _RESET_SECONDS:
            self._next = _FIRST_DELAY
        self._last = now
        plain, self._next = self._next, min(self._next * 2, _LONGEST_DELAY)
        return plain * (1 + self._dice())


class Reflector:
    """Tells `sink` of every change: "ADDED", "MODIFIED" or "DELETED" and the object. `run` until it is cancelled."""

    def __init__(self, transport: Transport, resources: Resources, selection: Selection, sink: Sink) -> None:
        self._transport = transport
        self._resources = resources
        self._selection = selection
        self._sink = sink
        self._known: dict[Key, Object] = {}
        self._version = ""
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Follow for ever."""
        backoff = Backoff(asyncio.get_running_loop().time)
        while True:
            try:
                if not self._version:
                    await self._list()
                    self.synced.set()
                await self._watch()
            except StatusError as error:
                if error.code == 410 and self._version:
                    log.info("%s: %s: listing again", self._selection.resource, error.message)
                    self._version = ""
                    continue
                delay = backoff.delay()
                log.warning("%s: %s (again in %.1f s)", self._selection.resource, error.message, delay)
                await asyncio.sleep(delay)
            except Exception:
                # A listener's failure, or a frame that is none: heard again from the start.
                log.exception("%s", self._selection.resource)
                self._version = ""
                await asyncio.sleep(backoff.delay())

    def forget(self) -> None:
        """Nothing is followed any longer: all objects go."""
        self._replace({})

    async def _path(self) -> tuple[str, dict[str, str]]:
        selection = self._selection
        place = await self._resources.find(selection.group, selection.resource)
        query = {"fieldSelector": selection.field_selector} if selection.field_selector else {}
        return place.path(selection.namespace), query

    async def _list(self) -> None:
        path, query = await self._path()
        place = await self._resources.find(self._selection.group, self._selection.resource)
        found: dict[Key, Object] = {}
        token = ""
        while True:
            more = {"limit": _PAGE} | ({"continue": token} if token else {})
            page = await self._transport.request("GET", path, query={**query, **more})
            for item in page.get("items") or ():
                obj = {"apiVersion": place.api_version, "kind": place.kind, **item}
                found[_key(obj)] = obj
            metadata = page.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                break
        self._replace(found)
        self._version = str(metadata.get("resourceVersion") or "")

    def _replace(self, found: dict[Key, Object]) -> None:
        before, self._known = self._known, found
        for key, obj in before.items():
            if key not in found:
                self._sink("DELETED", obj)
        for key, obj in found.items():
            old = before.get(key)
            if old is None:
                self._sink("ADDED", obj)
            elif _uid(old) != _uid(obj):
                # Deleted and made again while nobody looked: both are told.
                self._sink("DELETED", old)
                self._sink("ADDED", obj)
            elif objects.revision_of(old) != objects.revision_of(obj):
                self._sink("MODIFIED", obj)

    async def _watch(self) -> None:
        path, query = await self._path()
        query |= {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(_SHORTEST_WATCH + random.randrange(_SHORTEST_WATCH)),  # noqa: S311
        }
        async for line in self._transport.lines(path, query):
            event = orjson.loads(line)
            obj: Object = event["object"]
            kind: str = event["type"]
            if kind == "ERROR":
                raise error_of(obj, 500)
            self._version = obj["metadata"]["resourceVersion"]
            if kind != "BOOKMARK":
                self._take(kind, obj)

    def _take(self, kind: str, obj: Object) -> None:
        key = _key(obj)
        if kind == "DELETED":
            if self._known.pop(key, None) is None:
                return
        else:
            kind = "MODIFIED" if key in self._known else "ADDED"
            self._known[key] = obj
        self._sink(kind, obj)


def _key(obj: Object) -> Key:
    return objects.namespace_of(obj), objects.name_of(obj)


def _uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid") or "")
