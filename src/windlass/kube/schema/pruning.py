"""Pruning: what a custom resource's schema does not know is dropped.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-pruning
"""

from __future__ import annotations

from typing import Any

from windlass.kube.schema.node import Schema

_TYPE_META = frozenset({"apiVersion", "kind", "metadata"})


def prune(obj: Any, schema: Schema) -> list[str]:
    """Drop unknown fields, in place; their paths."""
    dropped: list[str] = []
    _prune(obj, schema, "", dropped, is_root=True)
    return dropped


def _prune(value: Any, schema: Schema, path: str, dropped: list[str], *, is_root: bool = False) -> None:
    if isinstance(value, dict):
        properties, additional = schema.properties, schema.additional
        keeps = schema.preserve_unknown
        implied = is_root or schema.embedded
        unknown: list[str] = []
        for name, child in value.items():
            where = f"{path}.{name}" if path else name
            known = properties.get(name)
            if implied and name in _TYPE_META:
                continue
            if known is not None:
                _prune(child, known, where, dropped)
            elif additional is not None:
                _prune(child, additional, where, dropped)
            elif not keeps:
                unknown.append(name)
                dropped.append(where)
        for name in unknown:
            del value[name]
    elif isinstance(value, list) and schema.items is not None:
        for index, item in enumerate(value):
            _prune(item, schema.items, f"{path}[{index}]", dropped)
