"""One node of a schema, the same for built-in kinds and for custom resources.

    Schema(object)  ─ properties ─▶ {"spec": Schema(object) …}          fields with names
                    ─ additional ─▶ Schema(string)                       a map: values of free names
    Schema(array)   ─ items      ─▶ Schema(object)
    Schema(any)                                                          everything is allowed below

Patches, server-side apply, pruning, defaulting, strict decoding, `explain` and CEL all walk these nodes, so the keys
that Kubernetes adds to OpenAPI (`x-kubernetes-list-type` and the like) are attributes here. Built-in kinds come from
the published definitions (catalogue.py), custom resources from their structural schemas (structural.py). Built-in types
are shared and some refer to themselves (JSONSchemaProps), so a walker follows the object, never the schema alone.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy and OpenAPI v3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

ListType = Literal["atomic", "set", "map"]
MapType = Literal["granular", "atomic"]
_EMPTY: Mapping[str, Schema] = {}
_ABSENT: Any = object()


class Schema:
    """What a value may be, and how it merges. Immutable once it is built.

    Attributes:
        type: "object", "array", "string", "integer", "number", "boolean", or "" for anything.
        format: OpenAPI's format ("int32", "date-time", "byte", …) or "".
        properties: named fields of an object.
        additional: the schema of the values of a map; None where there are only named fields.
        items: the schema of an array's elements.
        required: names that must be present.
        list_type: how an array merges; None where it is not said (then atomic).
        list_map_keys: the fields that identify an element of a list of type "map".
        map_type: "granular" (the default) merges field by field, "atomic" replaces the whole.
        patch_strategy: of strategic merge patch: any of "merge", "replace", "retainKeys".
        patch_merge_key: the field that identifies an element for a strategic merge patch, "" if none.
        preserve_unknown: unknown fields below are kept.
        embedded: the object is a whole Kubernetes object (apiVersion, kind, metadata are implied).
        int_or_string: an integer or a string.
        nullable: null is a value, not an absence.
        default: what an absent field becomes; `has_default` tells whether there is one.
        ref: the definition's full name where this is a named type, else "".
        group_version_kinds: the kinds that this definition serves.
        source: the JSON of this node as published or as the user wrote it (validation keywords, rules, description).
    """

    __slots__ = (
        "additional",
        "default",
        "embedded",
        "format",
        "group_version_kinds",
        "int_or_string",
        "items",
        "list_map_keys",
        "list_type",
        "map_type",
        "nullable",
        "patch_merge_key",
        "patch_strategy",
        "preserve_unknown",
        "properties",
        "ref",
        "required",
        "source",
        "type",
    )

    def __init__(
        self,
        type: str = "",
        *,
        format: str = "",
        properties: Mapping[str, Schema] = _EMPTY,
        additional: Schema | None = None,
        items: Schema | None = None,
        required: frozenset[str] = frozenset(),
        list_type: ListType | None = None,
        list_map_keys: tuple[str, ...] = (),
        map_type: MapType = "granular",
        patch_strategy: frozenset[str] = frozenset(),
        patch_merge_key: str = "",
        preserve_unknown: bool = False,
        embedded: bool = False,
        int_or_string: bool = False,
        nullable: bool = False,
        default: Any = _ABSENT,
        ref: str = "",
        group_version_kinds: tuple[tuple[str, str, str], ...] = (),
        source: Mapping[str, Any] | None = None,
    ) -> None:
        self.type = type
        self.format = format
        self.properties = properties
        self.additional = additional
        self.items = items
        self.required = required
        self.list_type = list_type
        self.list_map_keys = list_map_keys
        self.map_type = map_type
        self.patch_strategy = patch_strategy
        self.patch_merge_key = patch_merge_key
        self.preserve_unknown = preserve_unknown
        self.embedded = embedded
        self.int_or_string = int_or_string
        self.nullable = nullable
        self.default = default
        self.ref = ref
        self.group_version_kinds = group_version_kinds
        self.source: Mapping[str, Any] = source if source is not None else {}

    def __repr__(self) -> str:
        return f"<Schema {self.ref or self.type or 'any'}>"

    def replaced(self, **changes: Any) -> Schema:
        """A copy with some attributes changed: what a place says beyond its definition."""
        copy = Schema.__new__(Schema)
        for name in Schema.__slots__:
            setattr(copy, name, changes[name] if name in changes else getattr(self, name))
        return copy

    @property
    def has_default(self) -> bool:
        """Whether an absent field gets a value."""
        return self.default is not _ABSENT

    @property
    def is_any(self) -> bool:
        """Whether nothing is said of what stands below."""
        return not self.type and not self.int_or_string

    def child(self, name: str) -> Schema | None:
        """The schema of an object's field `name`; None where the field is unknown."""
        found = self.properties.get(name)
        if found is not None:
            return found
        if self.additional is not None:
            return self.additional
        return ANY if self.is_any or self.preserve_unknown else None


ANY = Schema(preserve_unknown=True)
"""A value about which nothing is known; what stands below it is kept as it is."""
