"""An object with its schema: the fields it has, what differs between two, merging, taking fields out.

Lists and maps are walked by what the schema says of them: an atomic one is a single field, a list of type "map" has
items by keys, one of type "set" by values.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from windlass.kube.api.apply.fieldset import SELF, Fields
from windlass.kube.schema import ANY, Schema

_KEY_DEFAULTS = {"protocol": "TCP"}
# Go structs that are never absent, so that nobody owns the place itself.
_STRUCTS = frozenset(
    {"metadata", "spec", "status", "template", "strategy", "updateStrategy", "resources", "securityContext"}
)


def list_kind(schema: Schema) -> str:
    """ "map", "set" or "atomic"."""
    kind = schema.list_type
    if kind == "map" and schema.list_map_keys:
        return "map"
    return "set" if kind == "set" else "atomic"


def key_element(schema: Schema, item: Any) -> str:
    """The path element of an item of a list of type "map"."""
    keys = {}
    if isinstance(item, dict):
        for name in schema.list_map_keys:
            value = item.get(name)
            if value is None:
                value = _KEY_DEFAULTS.get(name)
                child = schema.items.child(name) if schema.items is not None else None
                if child is not None and child.has_default:
                    value = child.default
            if value is not None:
                keys[name] = value
    return "k:" + orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()


def value_element(item: Any) -> str:
    """The path element of an item of a set."""
    return "v:" + orjson.dumps(item).decode()


def is_atomic_map(schema: Schema) -> bool:
    """Whether an object is a single field."""
    return schema.map_type == "atomic"


def fields_of(value: Any, schema: Schema) -> Fields:
    """The fields that a value has; {} for one that is a field itself."""
    if isinstance(value, dict):
        if is_atomic_map(schema) or not value:
            return {}
        result: Fields = {}
        properties, additional = schema.properties, schema.additional
        for name, child in value.items():
            known = properties.get(name)
            node = fields_of(child, known or additional or ANY)
            if known is None and node and SELF not in node:
                node = {SELF: {}, **node}
            result[f"f:{name}"] = node
        return result
    if isinstance(value, list) and value:
        kind = list_kind(schema)
        if kind == "map":
            items = schema.items or ANY
            result = {}
            for item in value:
                node = fields_of(item, items)
                result[key_element(schema, item)] = {SELF: {}, **node} if node else {}
            return result
        if kind == "set":
            return {value_element(item): {} for item in value}
    return {}


def added_fields(value: Any, schema: Schema, *, embedded: bool = False) -> Fields:
    """The fields of a value that was not there before: the places of maps and lists themselves, too."""
    if isinstance(value, dict):
        if is_atomic_map(schema) or not value:
            return {}
        properties, additional = schema.properties, schema.additional
        result: Fields = {} if embedded else {SELF: {}}
        for name, child in value.items():
            known = properties.get(name)
            result[f"f:{name}"] = added_fields(
                child, known or additional or ANY, embedded=known is not None and _is_implied(name, known, schema)
            )
        return result
    if isinstance(value, list) and value:
        kind = list_kind(schema)
        if kind == "map":
            items = schema.items or ANY
            result = {} if embedded else {SELF: {}}
            for item in value:
                node = added_fields(item, items)
                result[key_element(schema, item)] = node
            return result
        if kind == "set":
            result = {} if embedded else {SELF: {}}
            return result | {value_element(item): {} for item in value}
    return {}


def _is_implied(name: str, schema: Schema, parent: Schema) -> bool:
    """Whether a field of a built-in type exists even where it is empty."""
    if not parent.ref:
        return False
    return name in parent.required or (name in _STRUCTS and schema.type == "object")


class Comparison(NamedTuple):
    """What an object has that another one had not, or had otherwise; and what it has no longer."""

    changed: Fields
    removed: Fields


def compare(old: Any, new: Any, schema: Schema) -> Comparison:
    """What differs. Both are objects."""
    changed: Fields = {}
    removed: Fields = {}
    properties, additional = schema.properties, schema.additional
    for name, value in new.items():
        before = old.get(name, _ABSENT)
        if before is _ABSENT:
            known = properties.get(name)
            child = known or additional or ANY
            node = added_fields(value, child, embedded=known is not None and _is_implied(name, known, schema))
            if node or not (isinstance(value, dict | list) and not value and known is not None and schema.ref):
                changed[f"f:{name}"] = node
        elif before != value or type(before) is not type(value):
            _differ(f"f:{name}", before, value, properties.get(name) or additional or ANY, changed, removed)
    for name, value in old.items():
        if name not in new:
            removed[f"f:{name}"] = _whole(value, properties.get(name) or additional or ANY)
    return Comparison(changed, removed)


_ABSENT: Any = object()


def _whole(value: Any, schema: Schema) -> Fields:
    node = fields_of(value, schema)
    return {SELF: {}, **node} if node and SELF not in node else node


def _differ(element: str, old: Any, new: Any, schema: Schema, changed: Fields, removed: Fields) -> None:
    if isinstance(old, dict) and isinstance(new, dict) and not is_atomic_map(schema):
        if not new or not old:
            changed[element] = added_fields(new, schema, embedded=True)
            if old:
                removed[element] = fields_of(old, schema)
            return
        both = compare(old, new, schema)
    elif isinstance(old, list) and isinstance(new, list) and (kind := list_kind(schema)) != "atomic":
        both = _compare_lists(old, new, schema, kind)
        if not both.changed and not both.removed:
            return  # only the order differs
    else:
        changed[element] = {}
        return
    if both.changed:
        changed[element] = both.changed
    if both.removed:
        removed[element] = both.removed


def _compare_lists(old: list[Any], new: list[Any], schema: Schema, kind: str) -> Comparison:
    changed: Fields = {}
    removed: Fields = {}
    if kind == "set":
        before, after = {value_element(item) for item in old}, {value_element(item) for item in new}
        return Comparison({name: {} for name in after - before}, {name: {} for name in before - after})
    items = schema.items or ANY
    known = {key_element(schema, item): item for item in old}
    present = set()
    for item in new:
        element = key_element(schema, item)
        present.add(element)
        if element not in known:
            changed[element] = added_fields(item, items)
        elif known[element] != item:
            _differ(element, known[element], item, items, changed, removed)
    for element, item in known.items():
        if element not in present:
            removed[element] = _whole(item, items)
    return Comparison(changed, removed)


def merge(live: Any, applied: Any, schema: Schema) -> Any:
    """The live value with what is applied; new structures where they differ."""
    if isinstance(live, dict) and isinstance(applied, dict) and not is_atomic_map(schema):
        result = dict(live)
        for name, value in applied.items():
            result[name] = merge(live[name], value, schema.child(name) or ANY) if name in live else value
        return result
    if isinstance(live, list) and isinstance(applied, list):
        kind = list_kind(schema)
        if kind == "set":
            return [*live, *(item for item in applied if item not in live)]
        if kind == "map":
            return _merge_items(live, applied, schema)
    return applied


def _merge_items(live: list[Any], applied: list[Any], schema: Schema) -> list[Any]:
    """Applied items in their order; live ones that are not applied stay behind their predecessor."""
    items = schema.items or ANY
    ours = {key_element(schema, item): item for item in applied}
    theirs = {key_element(schema, item): item for item in live}
    if [key for key in theirs if key in ours] == [key for key in ours if key in theirs]:
        result = [merge(item, ours[key], items) if key in ours else item for key, item in theirs.items()]
        return result + [item for key, item in ours.items() if key not in theirs]
    order = list(ours)
    previous = None
    for key in theirs:
        if key not in ours:
            order.insert(order.index(previous) + 1 if previous is not None else 0, key)
        previous = key
    return [
        theirs[key] if key not in ours else merge(theirs[key], ours[key], items) if key in theirs else ours[key]
        for key in order
    ]


def remove(value: Any, fields: Fields, schema: Schema) -> Any:
    """A value without some fields; new structures where something is taken."""
    if isinstance(value, dict):
        result = dict(value)
        for element, node in fields.items():
            name = element[2:]
            if not element.startswith("f:") or name not in result:
                continue
            if not node or SELF in node:
                del result[name]
            else:
                result[name] = remove(result[name], node, schema.child(name) or ANY)
        return result
    if isinstance(value, list):
        kind = list_kind(schema)
        items = schema.items or ANY
        result_list = []
        for item in value:
            element = key_element(schema, item) if kind == "map" else value_element(item)
            found = fields.get(element)
            if found is None:
                result_list.append(item)
            elif found and SELF not in found:
                result_list.append(remove(item, found, items))
        return result_list
    return value
