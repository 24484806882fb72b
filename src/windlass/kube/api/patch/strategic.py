"""Strategic merge patch: a merge patch that knows which lists merge, and by which key.

    {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}

changes one container and leaves the others. Directives in a patch:

    $patch: replace | delete | merge       of the object or list item in which it stands
    $retainKeys: [names]                   only these fields of the object stay
    $deleteFromPrimitiveList/<field>       values that leave a merging list of scalars
    $setElementOrder/<field>               the order of a merging list

Which lists merge is said by `x-kubernetes-patch-strategy` and `-merge-key` of the built-in kinds; custom resources have
none of it and take merge patches.

Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.kube.api import status
from windlass.kube.schema import ANY, Schema

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def apply(target: Any, patch: Any, schema: Schema) -> Any:
    """The target after a patch; it is changed in place.

    Raises:
        StatusError: 400 or 422, the patch is malformed.
    """
    if not isinstance(patch, dict):
        raise status.bad_request("unable to parse patch: it is no JSON object")
    try:
        return _merge_object(target if isinstance(target, dict) else {}, patch, schema)
    except RecursionError:
        raise status.bad_request("the patch is nested too deeply") from None


def _directive(patch: Mapping[str, Any]) -> str:
    text = patch.get(_PATCH, "")
    if text not in ("", "replace", "delete", "merge"):
        raise status.bad_request(f"Unknown patch type found: {text}")
    return str(text)


def _merge_object(target: dict[str, Any], patch: dict[str, Any], schema: Schema) -> dict[str, Any]:
    directive = _directive(patch)
    if directive == "replace":
        return {name: _plain(value) for name, value in patch.items() if name != _PATCH and value is not None}
    if directive == "delete":
        return {}
    retained = patch.get(_RETAIN)
    if retained is not None:
        if not isinstance(retained, list):
            raise status.bad_request("retainKeys directive is not a list")
        missing = [
            name for name in patch if not name.startswith("$") and name not in retained and patch[name] is not None
        ]
        if missing:
            raise status.bad_request("the retainKeys list must include all keys in the patch")
        for name in [name for name in target if name not in retained]:
            del target[name]
    for name, value in patch.items():
        if name.startswith("$"):
            if name.startswith(_DELETE):
                _delete_scalars(target, name.removeprefix(_DELETE), value)
            elif not name.startswith(_ORDER) and name not in (_PATCH, _RETAIN):
                target[name] = value
            continue
        child = schema.child(name) or ANY
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            if _directive(value) == "delete":
                target.pop(name, None)
                continue
            found = target.get(name)
            target[name] = _merge_object(found if isinstance(found, dict) else {}, value, child)
        elif isinstance(value, list):
            order = patch.get(_ORDER + name)
            target[name] = _merge_list(target.get(name), value, child, order)
        else:
            target[name] = value
    for name, order in patch.items():
        if name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            if field not in patch and isinstance(target.get(field), list):
                child = schema.child(field) or ANY
                target[field] = _ordered(target[field], order, child, [])
    return target


def _merges(schema: Schema) -> bool:
    return "merge" in schema.patch_strategy


def _merge_list(target: Any, patch: list[Any], schema: Schema, order: Any) -> list[Any]:
    if not isinstance(target, list):
        target = []
    if not _merges(schema):
        return [_plain(item) for item in patch]
    key = schema.patch_merge_key
    if not key:
        merged = [*target, *(item for item in patch if item not in target)]
        return _ordered(merged, order, schema, patch)
    items = schema.items or ANY
    if any(isinstance(item, dict) and item.get(_PATCH) == "replace" for item in patch):
        return [_plain(item) for item in patch if not (isinstance(item, dict) and item.get(_PATCH) == "replace")]
    merged = list(target)
    changed: list[Any] = []
    for item in patch:
        if not isinstance(item, dict):
            raise status.bad_request(f"expected to find an object in the list, got {item!r:.100}")
        if item.get(key) is None:
            raise status.bad_request(f"map: {_shown(item)} does not contain declared merge key: {key}")
        position = next(
            (index for index, each in enumerate(merged) if isinstance(each, dict) and _same(each.get(key), item[key])),
            None,
        )
        if _directive(item) == "delete":
            merged = [each for each in merged if not (isinstance(each, dict) and _same(each.get(key), item[key]))]
        elif position is None:
            changed.append(item[key])
            merged.append(_merge_object({}, item, items))
        else:
            changed.append(item[key])
            merged[position] = _merge_object(merged[position], item, items)
    return _ordered(merged, order, schema, changed)


def _same(left: Any, right: Any) -> bool:
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def _shown(item: Mapping[str, Any]) -> str:
    return "map[" + " ".join(f"{name}:{value}" for name, value in sorted(item.items())) + "]"


def _ordered(merged: list[Any], order: Any, schema: Schema, _changed: list[Any]) -> list[Any]:
    """Sort a merged list as `$setElementOrder` says; items that it does not name keep their place after their
    predecessor."""
    if not isinstance(order, list):
        return merged
    key = schema.patch_merge_key
    wanted = [item.get(key) if isinstance(item, dict) else item for item in order]

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    named = {index: item for index, item in enumerate(merged) if name(item) in wanted}
    queue = sorted(named.values(), key=lambda item: wanted.index(name(item)))
    result = []
    for index, item in enumerate(merged):
        result.append(queue.pop(0) if index in named else item)
    return result


def _delete_scalars(target: dict[str, Any], field: str, values: Any) -> None:
    if not isinstance(values, list):
        raise status.bad_request(f"{_DELETE}{field} is not a list")
    found = target.get(field)
    if isinstance(found, list):
        target[field] = [item for item in found if item not in values]


def _plain(value: Any) -> Any:
    """A value of a patch without directives and nulls: what is new is not merged with anything."""
    if isinstance(value, dict):
        return {
            name: _plain(child)
            for name, child in value.items()
            if child is not None and name not in (_PATCH, _RETAIN) and not name.startswith((_DELETE, _ORDER))
        }
    if isinstance(value, list):
        return [_plain(item) for item in value if not (isinstance(item, dict) and item.get(_PATCH) == "delete")]
    return value
