"""Types before anything runs: every node gets its type, and what cannot be is an error with its place."""

from __future__ import annotations

from collections.abc import Mapping

from windlass.kube.cel import types
from windlass.kube.cel.errors import CompileError
from windlass.kube.cel.functions import Table, candidates
from windlass.kube.cel.syntax import Node, UInt
from windlass.kube.cel.types import BOOL, DYN, INT, Type

_TYPE_NAMES = frozenset({"int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"})


class Checker:
    """Checks one expression."""

    def __init__(
        self, source: str, table: Table, variables: Mapping[str, Type], structs: Mapping[str, Type | None]
    ) -> None:
        self._source = source
        self._table = table
        self._scopes: list[dict[str, Type]] = [dict(variables)]
        self._structs = structs

    def check(self, node: Node) -> Type:
        """The node's type, which it keeps.

        Raises:
            CompileError
        """
        found: Type = getattr(self, f"_{node.kind}")(node)
        node.type = found
        return found

    def _error(self, node: Node, message: str) -> CompileError:
        return CompileError(message, self._source, node.position)

    def _lookup(self, name: str) -> Type | None:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    def _literal(self, node: Node) -> Type:
        value = node.value
        if value is None:
            return types.NULL
        if isinstance(value, bool):
            return BOOL
        if isinstance(value, UInt):
            return types.UINT
        return {int: INT, float: types.DOUBLE, str: types.STRING, bytes: types.BYTES}[type(value)]

    def _ident(self, node: Node) -> Type:
        found = self._lookup(node.name)
        if found is not None:
            return found
        if node.name in _TYPE_NAMES:
            node.extra = "type"
            return types.TYPE
        raise self._error(node, f"undeclared reference to '{node.name}' (in container '')")

    def _select(self, node: Node) -> Type:
        base = self.check(node.args[0])
        inner = base.parameters[0] if base.name == "optional_type" else base
        result = self._field(node, inner)
        if node.test:
            return BOOL
        if node.optional or base.name == "optional_type":
            return types.optional_of(result)
        return result

    def _field(self, node: Node, base: Type) -> Type:
        if base.is_dyn:
            return DYN
        if base.fields is not None:
            found = base.fields.get(node.name)
            if found is None:
                raise self._error(node, f"undefined field '{node.name}'")
            node.extra = found[0]
            return found[1]
        if base.name == "map":
            return base.parameters[1]
        raise self._error(node, f"type '{base}' does not support field selection")

    def _index(self, node: Node) -> Type:
        base, index = self.check(node.args[0]), self.check(node.args[1])
        inner = base.parameters[0] if base.name == "optional_type" else base
        if (inner.name == "list" and types.agrees(INT, index)) or (
            inner.name == "list" and index.name in ("uint", "double")
        ):
            result = inner.parameters[0]
        elif inner.name == "map" and types.agrees(inner.parameters[0], index):
            result = inner.parameters[1]
        elif inner.is_dyn:
            result = DYN
        else:
            raise self._error(node, f"found no matching overload for '_[_]' applied to '({base}, {index})'")
        if node.optional or base.name == "optional_type":
            return types.optional_of(result)
        return result

    def _call(self, node: Node) -> Type:
        if node.method and node.args[0].kind == "ident" and self._lookup(node.args[0].name) is None:
            qualified = f"{node.args[0].name}.{node.name}"
            if qualified in self._table:
                node.name, node.method, node.args = qualified, False, node.args[1:]
        arguments = [self.check(each) for each in node.args]
        if node.name in ("_&&_", "_||_"):
            for found in arguments:
                if not types.agrees(BOOL, found):
                    raise self._mismatch(node, arguments)
            return BOOL
        if node.name == "_?_:_":
            if not types.agrees(BOOL, arguments[0]):
                raise self._mismatch(node, arguments)
            if not types.agrees(arguments[1], arguments[2]) and not types.agrees(arguments[2], arguments[1]):
                raise self._mismatch(node, arguments)
            return types.join(arguments[1], arguments[2])
        if node.name in ("_==_", "_!=_") and not self._comparable(arguments[0], arguments[1]):
            raise self._mismatch(node, arguments)
        if node.name == "@in" and arguments[1].fields is not None and arguments[1].name == "object":
            raise self._mismatch(node, arguments)
        if node.name not in self._table:
            raise self._error(node, f"undeclared reference to '{node.name}' (in container '')")
        possible = candidates(self._table, node.name, node.method, arguments)
        if not possible:
            raise self._mismatch(node, arguments)
        node.extra = [overload for overload, _ in possible]
        result = possible[0][1]
        for _, other in possible[1:]:
            result = types.join(result, other)
        return result

    @staticmethod
    def _comparable(left: Type, right: Type) -> bool:
        if types.NULL.name in (left.name, right.name):
            return True
        return types.agrees(left, right) or types.agrees(right, left)

    def _mismatch(self, node: Node, arguments: list[Type]) -> CompileError:
        shown = ", ".join(map(str, arguments))
        if node.method:
            target, _, rest = shown.partition(", ")
            shown = f"{target}.({rest})"
        else:
            shown = f"({shown})"
        return self._error(node, f"found no matching overload for '{node.name}' applied to '{shown}'")

    def _list(self, node: Node) -> Type:
        item: Type | None = None
        for each, optional in zip(node.args, node.flags, strict=True):
            found = self.check(each)
            if optional:
                found = found.parameters[0] if found.name == "optional_type" else DYN
            item = found if item is None else types.join(item, found)
        return types.list_of(item or DYN)

    def _map(self, node: Node) -> Type:
        key: Type | None = None
        value: Type | None = None
        for index in range(0, len(node.args), 2):
            found = self.check(node.args[index])
            key = found if key is None else types.join(key, found)
            found = self.check(node.args[index + 1])
            if node.flags[index // 2]:
                found = found.parameters[0] if found.name == "optional_type" else DYN
            value = found if value is None else types.join(value, found)
        return types.map_of(key or DYN, value or DYN)

    def _struct(self, node: Node) -> Type:
        if node.name not in self._structs:
            raise self._error(node, f"undeclared reference to '{node.name}' (in container '')")
        wanted = self._structs[node.name]
        for name, each in zip(node.names, node.args, strict=True):
            found = self.check(each)
            if wanted is None or wanted.fields is None:
                continue
            field = wanted.fields.get(name)
            if field is None:
                raise self._error(node, f"undefined field '{name}'")
            if not types.agrees(field[1], found) and found.name not in ("object", "optional_type"):
                raise self._error(
                    each, f"expected type of field '{name}' is '{field[1]}' but provided type is '{found}'"
                )
        return wanted or DYN

    def _bind(self, node: Node) -> Type:
        value = self.check(node.args[0])
        self._scopes.append({node.names[0]: value})
        found = self.check(node.args[1])
        self._scopes.pop()
        return found

    def _comprehension(self, node: Node) -> Type:
        base = self.check(node.args[0])
        if node.name in ("optMap", "optFlatMap"):
            inner = base.parameters[0] if base.name == "optional_type" else DYN
            self._scopes.append({node.names[0]: inner})
            result = self.check(node.args[1])
            self._scopes.pop()
            return types.optional_of(result) if node.name == "optMap" else result
        first, second = self._elements(node, base)
        two = len(node.names) == 2
        scope = {node.names[0]: first if two or base.name != "list" else second}
        if two:
            scope[node.names[1]] = second
        self._scopes.append(scope)
        bodies = [self.check(each) for each in node.args[1:]]
        self._scopes.pop()
        if node.name in ("all", "exists", "exists_one", "filter"):
            if not types.agrees(BOOL, bodies[0]):
                raise self._error(node.args[1], f"expected type 'bool' but found '{bodies[0]}'")
            if node.name == "filter":
                return types.list_of(scope[node.names[0]]) if base.name != "list" else base
            return BOOL
        if len(bodies) == 2 and not types.agrees(BOOL, bodies[0]):
            raise self._error(node.args[1], f"expected type 'bool' but found '{bodies[0]}'")
        if node.name == "transformMap":
            return types.map_of(first, bodies[-1])
        return types.list_of(bodies[-1])

    def _elements(self, node: Node, base: Type) -> tuple[Type, Type]:
        """The types of key (or index) and value."""
        if base.name == "list":
            return INT, base.parameters[0]
        if base.name == "map":
            return base.parameters[0], base.parameters[1]
        if base.is_dyn:
            return DYN, DYN
        raise self._error(
            node.args[0],
            f"expression of type '{base}' cannot be range of a comprehension (must be list, map, or dynamic)",
        )
