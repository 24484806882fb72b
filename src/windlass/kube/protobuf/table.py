"""The messages: fields.txt, one message a line, read when one is first needed.

    k8s.io.api.core.v1.Volume 1:name:.:string 2:volumeSource:^:k8s.io.api.core.v1.VolumeSource

Flags: * repeated, % map with string keys, ^ the fields stand in the JSON object itself, ? a zero value is a value,
. a zero value is an absence. scripts/distil_protobuf.py makes the file.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import NamedTuple


class Field(NamedTuple):
    """One field: number, name in JSON, flag, and the type of its value (of its items, of its map's values)."""

    number: int
    name: str
    flag: str
    type: str


class Message(NamedTuple):
    """A message's fields by number and by name in JSON; `inlined` are those that stand in the JSON object itself."""

    name: str
    by_number: dict[int, Field]
    by_name: dict[str, Field]
    inlined: tuple[Field, ...]


@functools.cache
def _lines() -> dict[str, str]:
    text = files("windlass.kube.protobuf").joinpath("fields.txt").read_text()
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        found[name] = rest
    return found


@functools.cache
def message(name: str) -> Message:
    """A message. Raises KeyError."""
    rest = _lines()[name]
    fields = []
    for text in rest.split():
        number, json_name, flag, type = text.split(":")
        fields.append(Field(int(number), json_name, flag, type))
    return Message(
        name,
        {field.number: field for field in fields},
        {field.name: field for field in fields if field.flag != "^"},
        tuple(field for field in fields if field.flag == "^"),
    )


_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_META_KINDS = frozenset(
    {
        "APIGroup",
        "APIGroupList",
        "APIResourceList",
        "APIVersions",
        "CreateOptions",
        "DeleteOptions",
        "GetOptions",
        "ListOptions",
        "PartialObjectMetadata",
        "PartialObjectMetadataList",
        "PatchOptions",
        "Status",
        "UpdateOptions",
        "WatchEvent",
    }
)
_PACKAGES = {
    "": "core",
    "admissionregistration.k8s.io": "admissionregistration",
    "apps": "apps",
    "authentication.k8s.io": "authentication",
    "authorization.k8s.io": "authorization",
    "autoscaling": "autoscaling",
    "batch": "batch",
    "certificates.k8s.io": "certificates",
    "coordination.k8s.io": "coordination",
    "discovery.k8s.io": "discovery",
    "events.k8s.io": "events",
    "flowcontrol.apiserver.k8s.io": "flowcontrol",
    "networking.k8s.io": "networking",
    "node.k8s.io": "node",
    "policy": "policy",
    "rbac.authorization.k8s.io": "rbac",
    "resource.k8s.io": "resource",
    "scheduling.k8s.io": "scheduling",
    "storage.k8s.io": "storage",
}


def of_kind(api_version: str, kind: str) -> str | None:
    """The message of a kind; None where it has none (custom resources)."""
    group, _, version = api_version.rpartition("/")
    if kind in _META_KINDS and (not group or group == "meta.k8s.io" or kind.endswith(("Options", "Event"))):
        return f"{_META}.{kind}"
    if group == "apiextensions.k8s.io":
        name = f"k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.{version}.{kind}"
    elif group == "apiregistration.k8s.io":
        name = f"k8s.io.kube_aggregator.pkg.apis.apiregistration.{version}.{kind}"
    elif group in _PACKAGES:
        name = f"k8s.io.api.{_PACKAGES[group]}.{version}.{kind}"
    else:
        return None
    return name if name in _lines() else None
