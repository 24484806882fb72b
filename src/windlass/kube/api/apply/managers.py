"""metadata.managedFields: reading it, writing it, and what an ordinary write (create, update, patch) does to it.

    Managed ─ key (manager, operation, apiVersion, subresource) ─▶ entry (fields, time)

A write gives its manager the fields that it changed and takes them from all others. Fields that no object has any more
belong to nobody. The oldest of many updaters become one entry, "ancient-changes".

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from windlass.kube.api.apply import fieldset, typed
from windlass.kube.api.apply.fieldset import Fields
from windlass.kube.api.resource import Object
from windlass.kube.schema import Schema

UPDATE, APPLY = "Update", "Apply"
ANCIENT = "ancient-changes"
_MOST_UPDATERS = 10
BEFORE_FIRST_APPLY = "before-first-apply"

_SYSTEM_METADATA = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


class Key(NamedTuple):
    """Whose fields: one writer may have several entries."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""


class Entry(NamedTuple):
    """What they are, and when they changed last."""

    fields: Fields
    time: str


Managed = dict[Key, Entry]


def read(obj: Object | None) -> Managed:
    """The entries of an object; malformed ones are as if they were not there."""
    managed: Managed = {}
    found = (obj or {}).get("metadata", {}).get("managedFields")
    for item in found if isinstance(found, list) else ():
        if not isinstance(item, dict):
            continue
        fields = item.get("fieldsV1") or {}
        if not isinstance(fields, dict):
            continue
        key = Key(
            str(item.get("manager") or ""),
            str(item.get("operation") or ""),
            str(item.get("apiVersion") or ""),
            str(item.get("subresource") or ""),
        )
        managed[key] = Entry(fields, str(item.get("time") or ""))
    return managed


def write(obj: Object, managed: Managed) -> None:
    """Set the entries of an object."""
    entries = []
    for key, entry in sorted(managed.items(), key=lambda item: (item[0].operation, item[1].time, item[0])):
        if not entry.fields:
            continue
        item: dict[str, Any] = {"manager": key.manager, "operation": key.operation, "apiVersion": key.api_version}
        if entry.time:
            item["time"] = entry.time
        item["fieldsType"] = "FieldsV1"
        item["fieldsV1"] = entry.fields
        if key.subresource:
            item["subresource"] = key.subresource
        entries.append(item)
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def is_reset(obj: Object) -> bool:
    """Whether a client asks to forget who owns what: `managedFields: [{}]`, or an empty list."""
    found = obj.get("metadata", {}).get("managedFields")
    return isinstance(found, list) and (not found or (len(found) == 1 and found[0] == {}))


def own_fields(obj: Object) -> Object:
    """An object without what only the server writes, for comparing."""
    result = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata")}
    metadata = {name: value for name, value in obj.get("metadata", {}).items() if name not in _SYSTEM_METADATA}
    if metadata:
        result["metadata"] = metadata
    return result


def reset_set(paths: Sequence[tuple[str, ...]]) -> Fields:
    """The set of fields below some paths of names."""
    return fieldset.of_paths([tuple(f"f:{name}" for name in path) for path in paths])


def update(
    live: Object | None,
    new: Object,
    *,
    schema: Schema,
    manager: str,
    api_version: str,
    subresource: str = "",
    now: str,
    reset: Sequence[tuple[str, ...]] = (),
) -> None:
    """Note in `new` what an ordinary write changed.

    Args:
        live: the object before, None when it is created.
        now: the time for the entry, as objects state it.
        reset: fields that this endpoint does not write, whatever the client sent.
    """
    given = new["metadata"].get("managedFields")
    if live is not None and is_reset(new):
        new["metadata"].pop("managedFields", None)
        return
    managed = read(new) if given and live is not None else read(live)
    if not managed and live is not None:
        managed = read(live)
    changed: Fields
    removed: Fields
    if live is None:
        changed, removed = _fields_of_new(own_fields(new), schema), {}
    else:
        changed, removed = typed.compare(own_fields(live), own_fields(new), schema)
    if reset and changed:
        changed = fieldset.without_below(changed, reset_set(reset))
    if not changed and not removed:
        write(new, managed)
        return
    key = Key(manager, UPDATE, api_version, subresource)
    gone = fieldset.union(changed, removed)
    result: Managed = {}
    for other, entry in managed.items():
        if other == key:
            continue
        rest = fieldset.difference(entry.fields, gone)
        if rest:
            result[other] = Entry(rest, entry.time)
    before = managed.get(key)
    mine = fieldset.union(fieldset.difference(before.fields, removed), changed) if before is not None else changed
    if mine:
        is_same = before is not None and before.fields == mine
        result[key] = Entry(mine, before.time if is_same and before is not None else now)
    write(new, _capped(result))


_new: dict[bytes, tuple[Schema, Fields]] = {}
_MOST_NEW = 256


def _fields_of_new(own: Object, schema: Schema) -> Fields:
    """The fields of a new object. Many are made of one template: what was found for one holds for its likes."""
    key = orjson.dumps(own)
    known = _new.get(key)
    if known is not None and known[0] is schema:
        return known[1]
    if len(_new) >= _MOST_NEW:
        _new.clear()
    found = typed.compare({}, own, schema).changed
    _new[key] = (schema, found)
    return found


def _capped(managed: Managed) -> Managed:
    """The entries, the oldest updaters as one where there are too many."""
    updaters = [key for key in managed if key.operation == UPDATE]
    if len(updaters) <= _MOST_UPDATERS:
        return managed
    updaters.sort(key=lambda key: managed[key].time)
    result = {key: entry for key, entry in managed.items() if key not in updaters}
    excess = len(updaters) - _MOST_UPDATERS
    merged: Managed = {}
    for key in updaters[: excess + 1]:
        ancient = Key(ANCIENT, UPDATE, key.api_version, key.subresource)
        before = merged.get(ancient)
        entry = managed[key]
        merged[ancient] = (
            entry
            if before is None
            else Entry(fieldset.union(before.fields, entry.fields), max(before.time, entry.time))
        )
    for key in updaters[excess + 1 :]:
        result[key] = managed[key]
    result.update(merged)
    return result
