"""Events: what controllers, scheduler and node agents tell people about objects, without making anybody wait.

    event ─▶ queue ─▶ seen before? ─┬─ no:  create
                                    └─ yes: count + 1, last time
             too many of one object: dropped      ten that differ only in their words: "(combined from similar events)"

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/ ; the limits are client-go's
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from windlass.kube.api import objects
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.controllers")

NORMAL, WARNING = "Normal", "Warning"
_KNOWN: Final = 4096
_LONGEST_QUEUE: Final = 1000
_BURST, _REFILL_SECONDS = 25, 300.0
_SIMILAR, _SIMILAR_SECONDS = 10, 600.0


@dataclass
class _Seen:
    name: str
    count: int = 1


@dataclass
class _Similar:
    since: float
    messages: set[str] = field(default_factory=set)


@dataclass
class _Bucket:
    tokens: float
    at: float


class EventRecorder:
    """Writes events as one component; belongs to one event loop.

    Args:
        component: who tells, such as "kubelet" or "deployment-controller".
        host: the node's name, where there is one.
    """

    def __init__(
        self, client: APIClient, component: str, *, host: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock
        self._seen: OrderedDict[tuple[str, ...], _Seen] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._queue: deque[tuple[tuple[str, ...], Object]] = deque()
        self._task: asyncio.Task[None] | None = None

    def event(self, obj: Object, type: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Tell of an object. Never waits, never raises."""
        metadata = obj.get("metadata") or {}
        involved: Object = {
            "kind": obj.get("kind", ""),
            "apiVersion": obj.get("apiVersion", ""),
            "name": metadata.get("name", ""),
            "uid": metadata.get("uid", ""),
        }
        for name in ("namespace", "resourceVersion"):
            if metadata.get(name):
                involved[name] = metadata[name]
        if field_path:
            involved["fieldPath"] = field_path
        identity = involved["uid"] or f"{involved['kind']}/{metadata.get('namespace', '')}/{involved['name']}"
        if not self._allowed(f"{identity}"):
            return
        message = self._combined((identity, type, reason, field_path), message)
        key = (identity, type, reason, field_path, message)
        if len(self._queue) >= _LONGEST_QUEUE:
            return
        self._queue.append((key, self._document(involved, type, reason, message)))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write(), name=f"events of {self._component}")

    async def settled(self) -> None:
        """Wait until everything that was told is written."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _allowed(self, identity: str) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(identity, _Bucket(float(_BURST), now))
        self._buckets.move_to_end(identity)
        if len(self._buckets) > _KNOWN:
            self._buckets.popitem(last=False)
        bucket.tokens = min(bucket.tokens + (now - bucket.at) / _REFILL_SECONDS, float(_BURST))
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _combined(self, key: tuple[str, ...], message: str) -> str:
        now = self._clock()
        found = self._similar.get(key)
        if found is None or now - found.since > _SIMILAR_SECONDS:
            found = self._similar[key] = _Similar(now)
        self._similar.move_to_end(key)
        if len(self._similar) > _KNOWN:
            self._similar.popitem(last=False)
        found.messages.add(message)
        return message if len(found.messages) < _SIMILAR else f"(combined from similar events): {message}"

    def _document(self, involved: Object, type: str, reason: str, message: str) -> Object:
        now = self._clock()
        namespace = involved.get("namespace") or "default"
        stamp = objects.timestamp(now)
        source = {"component": self._component}
        if self._host:
            source["host"] = self._host
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{involved['name'] or 'x'}.{int(now * 10**9):x}", "namespace": namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message[:1024],
            "source": source,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "type": type,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    async def _write(self) -> None:
        while self._queue:
            key, document = self._queue.popleft()
            try:
                await self._write_one(key, document)
            except StatusError as error:
                # A namespace that ends takes no events, and nobody misses them.
                log.debug("event of %s: %s", document["involvedObject"]["name"], error)
            except Exception as error:
                log.warning("an event cannot be written: %s", error)

    async def _write_one(self, key: tuple[str, ...], document: Object) -> None:
        namespace = document["metadata"]["namespace"]
        seen = self._seen.get(key)
        if seen is not None:
            # Merged, not read and written: who tells may not read.
            change = {name: document[name] for name in ("lastTimestamp", "message")}
            try:
                await self._client.patch("", "events", namespace, seen.name, {**change, "count": seen.count + 1})
                seen.count += 1
                self._seen.move_to_end(key)
                return
            except StatusError as error:
                if error.code != 404:
                    raise
        await self._client.create("", "events", document, namespace)
        self._seen[key] = _Seen(document["metadata"]["name"])
        self._seen.move_to_end(key)
        if len(self._seen) > _KNOWN:
            self._seen.popitem(last=False)
