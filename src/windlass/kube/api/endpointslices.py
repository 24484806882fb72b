"""EndpointSlices by the service that they belong to, as they are now: for who leads to services or names them.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from windlass.kube.api.reader import Object, Reader

GROUP: Final = "discovery.k8s.io"
PLURAL: Final = "endpointslices"
SERVICE_NAME: Final = "kubernetes.io/service-name"

Key = tuple[str, str]
"""Namespace and name of a service."""


def service_of(slice_: Object) -> Key | None:
    """The service of a slice, None where it names none."""
    metadata = slice_["metadata"]
    name = (metadata.get("labels") or {}).get(SERVICE_NAME)
    return (metadata["namespace"], name) if name else None


class ServiceSlices:
    """An index; `changed` is the listener that keeps it. `touched` hears of each service whose slices have changed."""

    def __init__(self, touched: Callable[[Key], None]) -> None:
        self._touched = touched
        self._slices: dict[Key, dict[str, Object]] = {}

    def fill(self, cache: Reader) -> None:
        """Take what is there."""
        for each in cache.list(GROUP, PLURAL):
            self.changed("ADDED", each)

    def changed(self, event: str, slice_: Object) -> None:
        """A slice has changed."""
        key = service_of(slice_)
        if key is None:
            return
        name = slice_["metadata"]["name"]
        if event == "DELETED":
            found = self._slices.get(key, {})
            found.pop(name, None)
            if not found:
                self._slices.pop(key, None)
        else:
            self._slices.setdefault(key, {})[name] = slice_
        self._touched(key)

    def of(self, key: Key) -> Collection[Object]:
        """The slices of a service."""
        return self._slices.get(key, {}).values()
