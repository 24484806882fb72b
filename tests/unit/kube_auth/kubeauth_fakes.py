"""A cluster in a dictionary, for tests of who may do what."""

from typing import Any

from windlass.kube.api.reader import Listener

Object = dict[str, Any]


class FakeReader:
    """Holds objects by resource and tells of changes."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str, str], Object] = {}
        self._listeners: dict[tuple[str, str], list[Listener]] = {}

    def get(self, group: str, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((group, resource, namespace, name))

    def list(self, group: str, resource: str, namespace: str = "") -> list[Object]:
        return [
            obj
            for (g, r, n, _), obj in self.objects.items()
            if (g, r) == (group, resource) and (not namespace or n == namespace)
        ]

    def subscribe(self, group: str, resource: str, listener: Listener) -> None:
        self._listeners.setdefault((group, resource), []).append(listener)

    def put(self, group: str, resource: str, obj: Object) -> None:
        metadata = obj["metadata"]
        key = (group, resource, metadata.get("namespace", ""), metadata["name"])
        event = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = obj
        for listener in self._listeners.get((group, resource), []):
            listener(event, obj)

    def remove(self, group: str, resource: str, namespace: str, name: str) -> None:
        obj = self.objects.pop((group, resource, namespace, name))
        for listener in self._listeners.get((group, resource), []):
            listener("DELETED", obj)
