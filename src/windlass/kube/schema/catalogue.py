"""The published definitions of the built-in kinds, read one by one when they are asked for.

    definitions.jsonl ─ index ─▶ one line of JSON ─▶ Schema      shared: each definition is built once

The file is distilled when windlass is built (scripts/hatch_build.py). Some definitions refer to themselves
(JSONSchemaProps), so a node is known before its parts are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import orjson

from windlass.kube.schema.node import Schema

_REF = "#/definitions/"
_ANY_OBJECTS = frozenset(
    {
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    }
)
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


class Catalogue:
    """All definitions. Make one and share it."""

    def __init__(self, data: bytes | None = None) -> None:
        """`data` is the file's content; the installed one by default."""
        if data is None:
            data = files("windlass.kube.schema").joinpath("data/definitions.jsonl").read_bytes()
        end = data.index(b"\n")
        head = orjson.loads(data[:end])
        self.version: str = head["version"]
        self._index: dict[str, tuple[int, int]] = head["index"]
        self._data = memoryview(data)[end + 1 :]
        self._schemas: dict[str, Schema] = {}
        self._kinds: dict[tuple[str, str, str], str] | None = None

    def names(self) -> list[str]:
        """The definitions' full names."""
        return list(self._index)

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def definition(self, name: str) -> dict[str, Any]:
        """A definition as published (OpenAPI v2, references as `#/definitions/…`), a new structure.

        Raises:
            KeyError
        """
        offset, length = self._index[name]
        found: dict[str, Any] = orjson.loads(self._data[offset : offset + length])
        return found

    def kinds(self) -> Mapping[tuple[str, str, str], str]:
        """(group, version, kind) → the definition's name, lists included."""
        if self._kinds is None:
            self._kinds = {}
            for name in self._index:
                offset, length = self._index[name]
                line = self._data[offset : offset + length]
                if b"x-kubernetes-group-version-kind" in bytes(line):
                    for found in orjson.loads(line)["x-kubernetes-group-version-kind"]:
                        # DeleteOptions, WatchEvent and others are of every group.
                        key = (found["group"], found["version"], found["kind"])
                        self._kinds.setdefault(key, name)
        return self._kinds

    def schema(self, name: str) -> Schema:
        """The schema of a definition. Raises KeyError."""
        found = self._schemas.get(name)
        if found is None:
            node = self.definition(name)
            found = self._schemas[name] = Schema(ref=name)
            self._fill(found, node, name)
        return found

    def _fill(self, schema: Schema, node: dict[str, Any], name: str) -> None:
        arguments = dict(self._arguments(node, name))
        schema.__init__(**arguments)  # type: ignore[misc]  # known to others before its parts were

    def _arguments(self, node: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
        yield "source", node
        yield "ref", name
        if name in _ANY_OBJECTS:
            yield "type", "object"
            yield "preserve_unknown", True
            return
        if name in (_INT_OR_STRING, _QUANTITY):
            yield "int_or_string", True
            yield "format", "quantity" if name == _QUANTITY else "int-or-string"
            return
        if "type" not in node:
            yield "preserve_unknown", True
            return
        yield "type", node["type"]
        for ours, theirs, convert in _KEYS:
            if theirs in node:
                yield ours, convert(node[theirs])
        if properties := node.get("properties"):
            yield "properties", {key: self._child(child) for key, child in properties.items()}
        elif node["type"] == "object" and "additionalProperties" not in node:
            yield "properties", {}
            if not name:
                yield "preserve_unknown", True
        if additional := node.get("additionalProperties"):
            yield "additional", self._child(additional)
        if items := node.get("items"):
            yield "items", self._child(items)
        if kinds := node.get("x-kubernetes-group-version-kind"):
            yield "group_version_kinds", tuple((each["group"], each["version"], each["kind"]) for each in kinds)

    def _child(self, node: dict[str, Any]) -> Schema:
        """A node inside a definition: a reference, maybe with keys of its own, or written out."""
        if ref := node.get("$ref"):
            target = self.schema(ref.removeprefix(_REF))
            own = {ours: convert(node[theirs]) for ours, theirs, convert in _KEYS if theirs in node and ours in _LOCAL}
            return target.replaced(**own) if own else target
        return Schema(**dict(self._arguments(node, "")))


_KEYS = (
    ("format", "format", str),
    ("required", "required", frozenset),
    ("list_type", "x-kubernetes-list-type", str),
    ("list_map_keys", "x-kubernetes-list-map-keys", tuple),
    ("map_type", "x-kubernetes-map-type", str),
    ("patch_strategy", "x-kubernetes-patch-strategy", lambda text: frozenset(text.split(","))),
    ("patch_merge_key", "x-kubernetes-patch-merge-key", str),
)
_LOCAL = frozenset({"list_type", "list_map_keys", "map_type", "patch_strategy", "patch_merge_key"})
