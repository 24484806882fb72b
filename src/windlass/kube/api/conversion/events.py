"""Events: core/v1 (stored) and events.k8s.io/v1 are the same objects with other names for their fields."""

from __future__ import annotations

from windlass.kube.api.resource import Object, Resource

_NEWER = "events.k8s.io/v1"
_PAIRS = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
)


def convert(items: list[Object], resource: Resource) -> list[Object]:
    """Events in the version of `resource`."""
    return [_convert(obj, resource.api_version) for obj in items]


def _convert(obj: Object, version: str) -> Object:
    if obj.get("apiVersion") == version:
        return obj
    result = {**obj, "apiVersion": version}
    for core, newer in _PAIRS:
        old, new = (core, newer) if version == _NEWER else (newer, core)
        if old in result:
            result[new] = result.pop(old)
    return result
