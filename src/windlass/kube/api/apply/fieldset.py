"""Sets of fields, as `FieldsV1` writes them.

    {"f:metadata": {"f:labels": {".": {}, "f:app": {}}},
     "f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:image": {}}}}}

A path is a member where its node is empty or has ".". Path elements: `f:` a field, `k:` a list item by its keys,
`v:` an item of a set by its value. The sets are these dictionaries themselves: reading and writing costs nothing.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/ (managedFields.fieldsV1)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

Fields = dict[str, Any]
SELF = "."


def is_empty(fields: Fields) -> bool:
    """Whether the set (of a root) has no member."""
    return not fields


def union(left: Fields, right: Fields) -> Fields:
    """The members of either; new dictionaries where they differ from `left`."""
    if not right:
        return left
    if not left:
        return right
    result = dict(left)
    for name, node in right.items():
        mine = result.get(name)
        if mine is None:
            result[name] = node
        elif mine is not node and mine != node:
            result[name] = _join(mine, node)
    return result


def _join(left: Fields, right: Fields) -> Fields:
    """The union of two nodes: an empty one is a member without children."""
    if not left:
        return right if SELF in right else {SELF: {}, **right}
    if not right:
        return left if SELF in left else {SELF: {}, **left}
    return union(left, right)


def difference(left: Fields, right: Fields) -> Fields:
    """The members of `left` that are not in `right`."""
    if not right or not left:
        return left
    result: Fields = {}
    for name, node in left.items():
        other = right.get(name)
        if other is None:
            result[name] = node
            continue
        rest = _minus(node, other)
        if rest is not None:
            result[name] = rest
    return result


def _minus(node: Fields, other: Fields) -> Fields | None:
    """A node's rest; None where nothing of it remains."""
    takes_self = not other or SELF in other
    if not node:
        return None if takes_self else node
    rest = (
        difference({name: child for name, child in node.items() if name != SELF}, other)
        if other
        else {name: child for name, child in node.items() if name != SELF}
    )
    has_self = SELF in node and not takes_self
    if not rest:
        return {} if has_self else None
    return {SELF: {}, **rest} if has_self else rest


def intersection(left: Fields, right: Fields) -> Fields:
    """The members of both."""
    result: Fields = {}
    for name, node in left.items():
        other = right.get(name)
        if other is None or name == SELF:
            continue
        both = _both(node, other)
        if both is not None:
            result[name] = both
    return result


def _both(left: Fields, right: Fields) -> Fields | None:
    is_member = (not left or SELF in left) and (not right or SELF in right)
    children = intersection(left, right)
    if not children:
        return {} if is_member else None
    return {SELF: {}, **children} if is_member else children


def with_parents(fields: Fields) -> Fields:
    """The set with every place above a member as a member, too."""
    return {name: {SELF: {}, **with_parents(node)} if node else {} for name, node in fields.items() if name != SELF}


def without_below(left: Fields, right: Fields) -> Fields:
    """The members of `left` that neither are in `right` nor stand below a member of it."""
    result: Fields = {}
    for name, node in left.items():
        other = right.get(name)
        if other is None or name == SELF:
            result[name] = node
        elif other and SELF not in other:
            rest = without_below(node, other) if node else node
            if rest or not node:
                result[name] = rest
    return result


def has(fields: Fields, path: tuple[str, ...]) -> bool:
    """Whether a path is a member."""
    node = fields
    for element in path:
        if element not in node:
            return False
        node = node[element]
    return not node or SELF in node


def paths(fields: Fields, begin: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All members."""
    for name, node in fields.items():
        if name == SELF:
            continue
        path = (*begin, name)
        if not node or SELF in node:
            yield path
        yield from paths(node, path)


def of_paths(members: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> Fields:
    """The set with these members."""
    result: Fields = {}
    for path in members:
        one: Fields = {}
        for element in reversed(path):
            one = {element: one}
        result = union(result, one)
    return result


def show(path: tuple[str, ...]) -> str:
    """A path as messages print it: `.spec.containers[name="web"].image`."""
    parts = []
    for element in path:
        kind, _, text = element.partition(":")
        if kind == "f":
            parts.append(f".{text}")
        elif kind == "k":
            keys = orjson.loads(text)
            shown = ",".join(f"{name}={orjson.dumps(value).decode()}" for name, value in sorted(keys.items()))
            parts.append(f"[{shown}]")
        elif kind == "v":
            parts.append(f"[={text}]")
        else:
            parts.append(f"[{text}]")
    return "".join(parts)


def is_well_formed(fields: Any, depth: int = 0) -> bool:
    """Whether a value that came from outside is such a set."""
    if not isinstance(fields, dict) or depth > 100:
        return False
    for name, node in fields.items():
        if name == SELF:
            if node != {}:
                return False
            continue
        kind, colon, text = name.partition(":")
        if not colon or kind not in ("f", "k", "v", "i"):
            return False
        if kind in ("k", "v"):
            try:
                orjson.loads(text)
            except orjson.JSONDecodeError:
                return False
        if not is_well_formed(node, depth + 1):
            return False
    return True
