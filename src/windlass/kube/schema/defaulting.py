"""Defaults of custom resources, when they are written and when they are read.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting
"""

from __future__ import annotations

from typing import Any

import orjson

from windlass.kube.schema.node import Schema


def apply_defaults(value: Any, schema: Schema) -> None:
    """Fill in what is absent, in place; a null that the schema does not allow is absent."""
    if isinstance(value, dict):
        for name, child in schema.properties.items():
            if child.ref:
                continue  # metadata
            if child.has_default:
                found = value.get(name, _ABSENT)
                if found is _ABSENT or (found is None and not child.nullable):
                    value[name] = orjson.loads(orjson.dumps(child.default))
            if name in value:
                if value[name] is None and not child.nullable and not child.has_default:
                    continue
                apply_defaults(value[name], child)
        if schema.additional is not None:
            for name in value:
                if name not in schema.properties:
                    if value[name] is None and schema.additional.has_default and not schema.additional.nullable:
                        value[name] = orjson.loads(orjson.dumps(schema.additional.default))
                    apply_defaults(value[name], schema.additional)
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            apply_defaults(item, schema.items)


_ABSENT: Any = object()


def drop_nulls(value: Any, schema: Schema) -> None:
    """Drop nulls where the schema knows the field and does not allow them, in place."""
    if isinstance(value, dict):
        for name in [name for name, child in value.items() if child is None]:
            child = schema.properties.get(name)
            if child is not None and not child.nullable and not child.has_default:
                del value[name]
        for name, item in value.items():
            known = schema.properties.get(name) or schema.additional
            if known is not None and not known.ref:
                drop_nulls(item, known)
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            drop_nulls(item, schema.items)
