"""Server-side apply: a manager says which fields it wants, and owns exactly those.

    live + applied ─ merge ─▶ merged ─ less what the manager applied before and nobody else owns ─▶ result
                                │
                                └ fields that change and are others' ─▶ conflict, or taken with force

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from windlass.kube.api import status
from windlass.kube.api.apply import fieldset, managers, typed
from windlass.kube.api.apply.fieldset import Fields
from windlass.kube.api.apply.managers import APPLY, BEFORE_FIRST_APPLY, UPDATE, Entry, Key, Managed
from windlass.kube.api.resource import Object
from windlass.kube.api.status import Cause
from windlass.kube.schema import Schema

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_CLIENT_SIDE = "kubectl-client-side-apply"
_KUBECTL = "kubectl"


def apply(
    live: Object,
    applied: Object,
    *,
    schema: Schema,
    manager: str,
    api_version: str,
    subresource: str = "",
    now: str,
    force: bool = False,
    reset: Sequence[tuple[str, ...]] = (),
) -> Object:
    """The live object after an apply, its managedFields included.

    Args:
        live: the object as it is; what it shares with the result is not copied. {} with metadata where there is none.
        applied: what the manager wants, without managedFields.

    Raises:
        StatusError: 409, fields that change are other managers' and `force` is not set.
    """
    managed = managers.read(live)
    key = Key(manager, APPLY, api_version, subresource)
    for other in [other for other in managed if other[:2] == key[:2] and other.subresource == subresource]:
        if other != key:  # applied in another version before
            managed[key] = Entry(managed.pop(other).fields, managed[key].time if key in managed else now)
    if not managed and live.get("metadata", {}).get("uid"):
        unowned = typed.fields_of(managers.own_fields(live), schema)
        managed[Key(BEFORE_FIRST_APPLY, UPDATE, api_version)] = Entry(unowned, now)
    wanted = typed.fields_of(managers.own_fields(applied), schema)
    if reset:
        wanted = fieldset.without_below(wanted, managers.reset_set(reset))
    merged: Object = typed.merge(live, applied, schema)
    before = managed.get(key)
    if before is not None:
        merged = _without_abandoned(merged, before.fields, wanted, key, managed, schema)
    changed, removed = typed.compare(managers.own_fields(live), managers.own_fields(merged), schema)
    if reset:
        changed = fieldset.without_below(changed, managers.reset_set(reset))
    conflicts = _conflicts(live, managed, key, changed, schema)
    if conflicts and not force:
        raise _conflict_error(conflicts, managed)
    gone = removed
    result: Managed = {}
    for other, entry in managed.items():
        if other == key:
            continue
        rest = fieldset.difference(entry.fields, gone)
        if other in conflicts:
            rest = fieldset.difference(rest, conflicts[other])
        if rest:
            result[other] = Entry(rest, entry.time)
    is_same = before is not None and before.fields == wanted and not changed and not removed
    result[key] = Entry(wanted, before.time if is_same and before is not None else now)
    merged = {**merged, "metadata": dict(merged.get("metadata", {}))}
    _keep_last_applied(merged, live, applied, manager)
    managers.write(merged, result)
    return merged


def _without_abandoned(
    merged: Object, before: Fields, wanted: Fields, key: Key, managed: Managed, schema: Schema
) -> Object:
    """Take out what the manager applied before, does not apply now, and nobody else owns."""
    abandoned = fieldset.difference(before, fieldset.with_parents(wanted))
    for other, entry in managed.items():
        if abandoned and other != key:
            abandoned = fieldset.difference(abandoned, fieldset.with_parents(entry.fields))
    if not abandoned:
        return merged
    pruned: Object = typed.remove(merged, abandoned, schema)
    return pruned


def _conflicts(live: Object, managed: Managed, key: Key, changed: Fields, schema: Schema) -> dict[Key, Fields]:
    found: dict[Key, Fields] = {}
    if not changed:
        return found
    for other, entry in managed.items():
        if other != key and (both := fieldset.intersection(entry.fields, changed)):
            if other.manager in (_CLIENT_SIDE, BEFORE_FIRST_APPLY) and key.manager == _KUBECTL:
                both = fieldset.difference(both, _last_applied(live, schema))
            leaves = _without_places(both)
            if leaves:
                found[other] = leaves
    return found


def _without_places(fields: Fields) -> Fields:
    """Only the members that have no members below them: a place alone is no conflict."""
    result: Fields = {}
    for name, node in fields.items():
        if name == fieldset.SELF:
            continue
        if not node:
            result[name] = node
        elif rest := _without_places(node):
            result[name] = rest
    return result


def _last_applied(live: Object, schema: Schema) -> Fields:
    """What `kubectl apply` of the client's side applied last: the same user's, so no conflict."""
    text = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return {}
    try:
        obj = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return fieldset.with_parents(typed.fields_of(managers.own_fields(obj), schema)) if isinstance(obj, dict) else {}


def _keep_last_applied(merged: Object, live: Object, applied: Object, manager: str) -> None:
    """`kubectl apply --server-side` keeps the annotation of the client's side up to date where it is there."""
    annotations = live.get("metadata", {}).get("annotations") or {}
    if manager != _KUBECTL or LAST_APPLIED not in annotations:
        return
    own = {name: value for name, value in (applied.get("metadata") or {}).items() if name != "managedFields"}
    own["annotations"] = {k: v for k, v in (own.get("annotations") or {}).items() if k != LAST_APPLIED}
    text = orjson.dumps({**applied, "metadata": own}, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    merged["metadata"]["annotations"] = {**(merged["metadata"].get("annotations") or {}), LAST_APPLIED: text}


def _shown(key: Key, time: str) -> str:
    text = orjson.dumps(key.manager).decode()
    if key.subresource:
        text += f" with subresource {orjson.dumps(key.subresource).decode()}"
    if key.operation == UPDATE:
        text += f" using {key.api_version}"
        if time:
            text += f" at {time}"
    return text


def _conflict_error(conflicts: dict[Key, Fields], managed: Managed) -> status.StatusError:
    causes: list[Cause] = []
    lines: list[str] = []
    for name, fields in sorted((_shown(key, managed[key].time), fields) for key, fields in conflicts.items()):
        lines.append(f"conflicts with {name}:")
        for path in fieldset.paths(fields):
            causes.append(Cause("FieldManagerConflict", f"conflict with {name}", fieldset.show(path)))
            lines.append(f"- {fieldset.show(path)}")
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return status.apply_conflict(causes, text)
