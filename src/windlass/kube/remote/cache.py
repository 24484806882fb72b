"""A `Reader` over reflectors: the objects of some resources of a server, in memory, read without waiting.

    await cache.start([("", "pods", "spec.nodeName=n1"), ("", "services", "")])      whole collections, selected
    cache.follow("", "secrets", "default", "key")                                    single objects

What is neither started nor followed cannot be read: an empty answer would be wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from windlass.kube.api import objects
from windlass.kube.api.reader import Listener
from windlass.kube.api.resource import Object
from windlass.kube.remote.reflector import Reflector, Selection
from windlass.kube.remote.resources import Resources
from windlass.kube.remote.transport import Transport


class NotFollowed(LookupError):
    """A resource is read that the cache does not follow."""


class _Kind:
    """The objects of one resource."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.listeners: list[Listener] = []
        self.is_followed = False

    def take(self, event: str, obj: Object) -> None:
        """A reflector's word."""
        key = objects.namespace_of(obj), objects.name_of(obj)
        if event == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = obj
        for listener in list(self.listeners):
            listener(event, obj)


class RemoteCache:
    """See the module."""

    def __init__(self, transport: Transport, resources: Resources) -> None:
        self._transport = transport
        self._resources = resources
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._followed: dict[Selection, tuple[Reflector, asyncio.Task[None]]] = {}

    async def start(self, wanted: Iterable[tuple[str, str, str]]) -> None:
        """Follow resources (group, resource, field selector); returns when all of them have been heard once."""
        started = [
            self._begin(Selection(group, resource, field_selector=selector)) for group, resource, selector in wanted
        ]
        await asyncio.gather(*(reflector.synced.wait() for reflector in started))

    def follow(self, group: str, resource: str, namespace: str, name: str) -> asyncio.Event:
        """Follow one object, which need not be there; the event is set when it has been heard of once."""
        return self._begin(_one(group, resource, namespace, name)).synced

    async def unfollow(self, group: str, resource: str, namespace: str, name: str) -> None:
        """Follow one object no longer; it goes."""
        reflector, task = self._followed.pop(_one(group, resource, namespace, name))
        await _end(task)
        reflector.forget()

    async def close(self) -> None:
        """Follow nothing."""
        followed, self._followed = self._followed, {}
        await asyncio.gather(*(_end(task) for _, task in followed.values()))

    def get(self, group: str, resource: str, namespace: str, name: str) -> Object | None:
        """See `Reader.get`. Raises NotFollowed."""
        return self._read(group, resource).objects.get((namespace, name))

    def list(self, group: str, resource: str, namespace: str = "") -> Sequence[Object]:
        """See `Reader.list`. Raises NotFollowed."""
        found = self._read(group, resource).objects
        return [obj for (own, _), obj in found.items() if not namespace or own == namespace]

    def subscribe(self, group: str, resource: str, listener: Listener) -> None:
        """See `Reader.subscribe`; also before the resource is followed."""
        self._kind(group, resource).listeners.append(listener)

    def unsubscribe(self, group: str, resource: str, listener: Listener) -> None:
        """Call a listener no longer."""
        self._kind(group, resource).listeners.remove(listener)

    def _kind(self, group: str, resource: str) -> _Kind:
        return self._kinds.setdefault((group, resource), _Kind())

    def _read(self, group: str, resource: str) -> _Kind:
        kind = self._kind(group, resource)
        if not kind.is_followed:
            raise NotFollowed(f"{resource} of group {group!r} are not followed")
        return kind

    def _begin(self, selection: Selection) -> Reflector:
        known = self._followed.get(selection)
        if known is not None:
            return known[0]
        kind = self._kind(selection.group, selection.resource)
        kind.is_followed = True
        reflector = Reflector(self._transport, self._resources, selection, kind.take)
        task = asyncio.get_running_loop().create_task(reflector.run(), name=f"reflector of {selection.resource}")
        self._followed[selection] = (reflector, task)
        return reflector


def _one(group: str, resource: str, namespace: str, name: str) -> Selection:
    return Selection(group, resource, namespace, f"metadata.name={name}")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
