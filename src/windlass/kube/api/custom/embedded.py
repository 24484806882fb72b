"""Objects inside of custom resources (`x-kubernetes-embedded-resource`), and the resource itself: type and metadata.

A schema says nothing of apiVersion, kind and metadata; they are what they are in every object.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/ (RawExtension)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from windlass.kube.api import names
from windlass.kube.api.operations import metadata
from windlass.kube.api.resource import Object
from windlass.kube.api.status import FieldError, invalid_value, required
from windlass.kube.schema import Schema
from windlass.kube.schema.conform import TypeMismatch, conform

_TEXTS = ("apiVersion", "kind")


class Embedded:
    """The rules of one schema. `object_meta`: what metadata looks like."""

    def __init__(self, schema: Schema, object_meta: Schema) -> None:
        self._schema = schema
        self._object_meta = object_meta
        self._inside = _has_embedded(schema)

    def shape(self, obj: Object) -> list[str]:
        """Make metadata what it can hold, in place; the paths of unknown fields.

        Raises:
            TypeMismatch
        """
        unknown = self._conform(obj, "")
        for path, inner in self._objects(obj):
            for name in _TEXTS:
                if not isinstance(inner.get(name, ""), str):
                    raise TypeMismatch(f"{path}.{name}: must be a string")
            unknown += self._conform(inner, f"{path}.")
        return unknown

    def validate(self, obj: Object) -> list[FieldError]:
        """The rules of the objects inside; those of the object itself are checked with every object's."""
        errors: list[FieldError] = []
        for path, inner in self._objects(obj):
            errors += _validate_type(inner, path)
            errors += metadata.validate_embedded(inner.get("metadata") or {}, f"{path}.metadata")
        return errors

    def _conform(self, obj: Object, prefix: str) -> list[str]:
        found = obj.get("metadata")
        if found is None:
            return []
        if not isinstance(found, dict):
            kind = type(found).__name__
            raise TypeMismatch(f"invalid {prefix}metadata: expected object, got {kind}")
        return conform(found, self._object_meta, f"{prefix}metadata")

    def _objects(self, obj: Object) -> Iterator[tuple[str, Object]]:
        return _walk(obj, self._schema, "") if self._inside else iter(())


def _has_embedded(schema: Schema) -> bool:
    children = [*schema.properties.values(), schema.items, schema.additional]
    return schema.embedded or any(_has_embedded(each) for each in children if each is not None and not each.ref)


def _walk(value: Any, schema: Schema, path: str) -> Iterator[tuple[str, Object]]:
    if isinstance(value, dict):
        if schema.embedded and path:
            yield path, value
        for name, child in value.items():
            known = schema.properties.get(name)
            if known is not None and not known.ref:
                yield from _walk(child, known, f"{path}.{name}" if path else name)
            elif known is None and schema.additional is not None:
                yield from _walk(child, schema.additional, f"{path}[{name}]")
    elif isinstance(value, list) and schema.items is not None:
        for index, child in enumerate(value):
            yield from _walk(child, schema.items, f"{path}[{index}]")


def _validate_type(obj: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in _TEXTS:
        where, value = f"{path}.{name}", obj.get(name)
        if value is None:
            errors.append(required(where))
        elif not value:
            errors.append(invalid_value(where, value, "must not be empty"))
        elif name == "apiVersion" and value.count("/") > 1:
            errors.append(invalid_value(where, value, f"unexpected GroupVersion string: {value}"))
        elif name == "kind" and (problems := names.dns1035_label(value.lower())):
            detail = f"may have mixed case, but should otherwise match: {','.join(problems)}"
            errors.append(invalid_value(where, value, detail))
    return errors
