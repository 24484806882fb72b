"""The objects in memory, decoded: what authentication, authorization, admission and controllers read without waiting.

A resource is decoded when somebody first asks for it and follows the store from then on. The objects are shared: nobody
changes them. What nobody asks for costs nothing beyond its bytes in the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from windlass.kube.api import objects
from windlass.kube.api.operations.reading import prefix_end
from windlass.kube.api.reader import Listener
from windlass.kube.api.registry import Registry
from windlass.kube.api.resource import Object
from windlass.store import Event, Store

log = logging.getLogger("windlass.kube.api")


class _Kind:
    """The objects of one resource."""

    __slots__ = ("listeners", "namespaces", "objects", "stop")

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.namespaces: dict[str, dict[str, Object]] = {}
        self.listeners: list[Listener] = []
        self.stop: Callable[[], None] = lambda: None


class Cache:
    """A `Reader` of everything that the registry knows, in stored versions."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._kinds: dict[bytes, _Kind] = {}

    def get(self, group: str, resource: str, namespace: str, name: str) -> Object | None:
        """See `Reader.get`."""
        return self._kind(group, resource).objects.get((namespace, name))

    def list(self, group: str, resource: str, namespace: str = "") -> Sequence[Object]:
        """See `Reader.list`."""
        kind = self._kind(group, resource)
        if namespace:
            return list(kind.namespaces.get(namespace, {}).values())
        return list(kind.objects.values())

    def subscribe(self, group: str, resource: str, listener: Listener) -> None:
        """See `Reader.subscribe`."""
        self._kind(group, resource).listeners.append(listener)

    def unsubscribe(self, group: str, resource: str, listener: Listener) -> None:
        """Call a listener no longer."""
        self._kind(group, resource).listeners.remove(listener)

    def _kind(self, group: str, resource: str) -> _Kind:
        found = self._registry.preferred(group, resource)
        prefix = (
            found.storage.prefix
            if found is not None
            else f"/registry/{resource}{'.' + group if group else ''}/".encode()
        )
        kind = self._kinds.get(prefix)
        if kind is None:
            kind = self._kinds[prefix] = _Kind()
            own = kind
            for record in self._store.range(prefix, prefix_end(prefix)).records:
                _put(kind, objects.decode(record.value))
            kind.stop = self._store.subscribe(prefix, lambda events: _follow(own, events))
        return kind

    def close(self) -> None:
        """Follow the store no longer."""
        for kind in self._kinds.values():
            kind.stop()
        self._kinds.clear()


def _put(kind: _Kind, obj: Object) -> None:
    namespace, name = objects.namespace_of(obj), objects.name_of(obj)
    kind.objects[(namespace, name)] = obj
    if namespace:
        kind.namespaces.setdefault(namespace, {})[name] = obj


def _follow(kind: _Kind, events: Sequence[Event]) -> None:
    for event in events:
        if event.is_delete:
            if event.previous is None:
                continue
            obj = objects.decode(objects.restamp(event.previous.value, event.revision))
            namespace, name = objects.namespace_of(obj), objects.name_of(obj)
            kind.objects.pop((namespace, name), None)
            if found := kind.namespaces.get(namespace):
                found.pop(name, None)
                if not found:
                    del kind.namespaces[namespace]
            word = "DELETED"
        else:
            obj = objects.decode(event.record.value)
            _put(kind, obj)
            word = "MODIFIED" if event.previous is not None else "ADDED"
        for listener in list(kind.listeners):
            try:
                listener(word, obj)
            except Exception:  # one that fails is no reason to refuse a write, nor to keep it from the others
                log.exception("%s of %s/%s", word, objects.namespace_of(obj), objects.name_of(obj))
