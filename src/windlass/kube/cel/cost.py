"""What an expression costs at most, from the bounds in the schemas of what it walks over.

Lists, maps and strings without a bound are as large as a request lets them be.

Source: https://kubernetes.io/docs/reference/using-api/cel/#estimated-cost-limits-for-validation-rules
"""

from __future__ import annotations

from windlass.kube.cel.syntax import Node
from windlass.kube.cel.types import Type

_REQUEST = 3 * 1024 * 1024
_SCALED = frozenset(
    {"contains", "matches", "startsWith", "endsWith", "find", "findAll", "replace", "split", "lowerAscii", "upperAscii"}
)
_MOST = 1 << 62


def estimate(node: Node) -> int:
    """The largest cost of a tree."""
    own = 1
    if node.kind == "comprehension" and node.name not in ("optMap", "optFlatMap"):
        bodies = sum(estimate(each) for each in node.args[1:])
        return min(estimate(node.args[0]) + size(node.args[0]) * (bodies + 2) + 1, _MOST)
    if node.kind == "call":
        if node.name in _SCALED or (node.name in ("_==_", "_!=_", "_+_") and node.args[0].type.name == "string"):
            own += size(node.args[0]) // 10
        elif node.name == "@in" and node.args[1].type.name == "list":
            own += size(node.args[1])
    if node.kind == "literal":
        return 0
    return min(own + sum(estimate(each) for each in node.args), _MOST)


def size(node: Node) -> int:
    """The largest number of elements (or characters) of a value."""
    if node.kind == "literal":
        return len(node.value) if isinstance(node.value, str | bytes) else 1
    if node.kind == "list":
        return len(node.args)
    if node.kind == "map":
        return len(node.args) // 2
    if node.kind == "comprehension" and node.name in ("filter", "map"):
        return size(node.args[0])
    return bound(node.type)


def bound(type: Type) -> int:
    """The largest size that a type's schema allows."""
    source = type.schema.source if type.schema is not None else {}
    if type.name == "list":
        if (found := source.get("maxItems")) is not None:
            return int(found)
        item = type.parameters[0] if type.parameters else None
        return _REQUEST // _smallest(item)
    if type.name in ("map", "object"):
        if (found := source.get("maxProperties")) is not None:
            return int(found)
        return _REQUEST // 6
    if type.name in ("string", "bytes"):
        return int(source.get("maxLength", _REQUEST))
    return 1


def _smallest(type: Type | None) -> int:
    """The bytes of the smallest element, with its comma."""
    if type is None:
        return 2
    return {"string": 3, "object": 3, "map": 3, "list": 3, "bool": 5}.get(type.name, 2)
