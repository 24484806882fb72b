"""Static types, and those of schemas.

An object of a schema has fields with CEL's names: what is no identifier is escaped (`__dot__`, `__dash__`, `__slash__`,
`__<keyword>__`). Where a schema says nothing, the type is dyn: checked when it is evaluated.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from windlass.kube.schema.node import Schema


class Type:
    """A type: its name, and the types inside (of a list, a map, an optional)."""

    __slots__ = ("fields", "name", "parameters", "schema")

    def __init__(
        self,
        name: str,
        parameters: tuple[Type, ...] = (),
        fields: Mapping[str, tuple[str, Type]] | None = None,
        schema: Schema | None = None,
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.fields = fields
        self.schema = schema

    def __str__(self) -> str:
        if self.parameters:
            return f"{self.name}({', '.join(map(str, self.parameters))})"
        return self.name

    def __repr__(self) -> str:
        return f"<Type {self}>"

    @property
    def is_dyn(self) -> bool:
        """Whether nothing is known before it is evaluated."""
        return self.name == "dyn"


DYN = Type("dyn")
BOOL, INT, UINT, DOUBLE, STRING, BYTES, NULL = (
    Type(name) for name in ("bool", "int", "uint", "double", "string", "bytes", "null_type")
)
TIMESTAMP, DURATION = Type("google.protobuf.Timestamp"), Type("google.protobuf.Duration")
TYPE = Type("type")


def list_of(item: Type) -> Type:
    """A list's type."""
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    """A map's type."""
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    """An optional's type."""
    return Type("optional_type", (value,))


def object_of(name: str, fields: Mapping[str, Type]) -> Type:
    """An object with fields of its own, by their names."""
    return Type(name, fields={field: (field, type) for field, type in fields.items()})


_KEYWORDS = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
    ]
)
_IDENTIFIER = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def escape(name: str) -> str | None:
    """CEL's name of a property; None where it has none."""
    if name in _KEYWORDS:
        return f"__{name}__"
    found = (
        name.replace("__", "__underscores__").replace(".", "__dot__").replace("-", "__dash__").replace("/", "__slash__")
    )
    return found if _IDENTIFIER.fullmatch(found) else None


def of_schema(schema: Schema, *, root: bool = False) -> Type:
    """The type of a schema's values."""
    if schema.ref.endswith("ObjectMeta"):
        return object_of("ObjectMeta", {"name": STRING, "generateName": STRING})
    if schema.int_or_string or schema.is_any:
        return DYN
    kind = schema.type
    if kind == "string":
        return _FORMATS.get(schema.format) or Type("string", schema=schema)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind == "array":
        return Type("list", (of_schema(schema.items) if schema.items is not None else DYN,), schema=schema)
    if kind == "object":
        if schema.additional is not None:
            return Type("map", (STRING, of_schema(schema.additional)), schema=schema)
        if schema.preserve_unknown and not schema.properties:
            return DYN
        return Type("object", fields=_Fields(schema, root), schema=schema)
    return DYN


_FORMATS: Mapping[str, Type] = {"date-time": TIMESTAMP, "date": TIMESTAMP, "duration": DURATION, "byte": BYTES}
_SCALARS: Mapping[str, Type] = {"integer": INT, "number": DOUBLE, "boolean": BOOL}


class _Fields(Mapping[str, tuple[str, Type]]):
    """An object's fields, made when they are asked for: schemas may be deep."""

    def __init__(self, schema: Schema, root: bool) -> None:
        self._schema = schema
        self._names: dict[str, str] = {}
        for name in schema.properties:
            if (escaped := escape(name)) is not None:
                self._names[escaped] = name
        self._implied: dict[str, Type] = {}
        if root or schema.embedded:
            self._implied = {
                "apiVersion": STRING,
                "kind": STRING,
                "metadata": object_of("ObjectMeta", {"name": STRING, "generateName": STRING}),
            }
        self._known: dict[str, tuple[str, Type]] = {}

    def __getitem__(self, name: str) -> tuple[str, Type]:
        found = self._known.get(name)
        if found is None:
            if name in self._implied:
                found = (name, self._implied[name])
            else:
                real = self._names[name]
                found = (real, of_schema(self._schema.properties[real]))
            self._known[name] = found
        return found

    def __iter__(self) -> Any:
        return iter({**self._names, **self._implied})

    def __len__(self) -> int:
        return len({**self._names, **self._implied})


def agrees(wanted: Type, found: Type) -> bool:
    """Whether a value of one type may stand where the other is wanted."""
    if wanted.is_dyn or found.is_dyn:
        return True
    if wanted.name != found.name:
        return found.name == "null_type" and wanted.name in ("object", "optional_type", "wrapper")
    if wanted.fields is not None or found.fields is not None:
        return wanted is found or wanted.name == found.name
    return all(map(agrees, wanted.parameters, found.parameters))


def join(left: Type, right: Type) -> Type:
    """The type of a value that is of one of two."""
    if left.name == right.name and agrees(left, right):
        return left if not any(each.is_dyn for each in left.parameters) else right
    return DYN
