"""A typed tree as closures: each node becomes a function of a `Run`, so evaluating is calling.

A run counts what it costs: one for each call and step of a comprehension, and what overloads say of their arguments. At
its limit it stops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from windlass.kube.cel.errors import CostExceeded, EvaluationError
from windlass.kube.cel.functions import Overload, unify
from windlass.kube.cel.syntax import Node
from windlass.kube.cel.types import Type
from windlass.kube.cel.values import NONE, Optional, TypeValue, native, needs_conversion, type_name

Step = Callable[["Run"], Any]
_MISSING: Any = object()


class Run:
    """One evaluation: variables, and what it has cost."""

    __slots__ = ("cost", "limit", "values")

    def __init__(self, values: dict[str, Any], limit: int) -> None:
        self.values = values
        self.cost = 0
        self.limit = limit

    def spend(self, cost: int) -> None:
        """Count a cost. Raises CostExceeded."""
        self.cost += cost
        if self.cost > self.limit:
            raise CostExceeded("operation cancelled: actual cost limit exceeded")


def compile_node(node: Node) -> Step:
    """The function of a node."""
    step: Step = _BUILDERS[node.kind](node)
    return step


def _literal(node: Node) -> Step:
    value = node.value
    return lambda run: value


def _ident(node: Node) -> Step:
    name = node.name
    if node.extra == "type":
        found = TypeValue(name)
        return lambda run: found

    def step(run: Run) -> Any:
        run.cost += 1
        value = run.values.get(name, _MISSING)
        if value is _MISSING:
            raise EvaluationError(f"no such attribute: {name}")
        return value() if callable(value) else value

    return step


def _select(node: Node) -> Step:
    base = compile_node(node.args[0])
    name = node.extra if isinstance(node.extra, str) else node.name
    wanted: Type | None = node.type if not node.test else None
    if wanted is not None and wanted.name == "optional_type":
        wanted = wanted.parameters[0]
    converts = wanted is not None and needs_conversion(wanted)

    def find(value: Any) -> Any:
        if isinstance(value, dict):
            found = value.get(name, _MISSING)
        else:
            found = getattr(value, "get_field", lambda _n: _MISSING)(name)
        return native(found, wanted) if converts and found is not _MISSING and wanted is not None else found

    if node.test:

        def test(run: Run) -> Any:
            run.cost += 1
            value = base(run)
            if isinstance(value, Optional):
                value = value.value if value.present else {}
            found = find(value)
            return found is not _MISSING and found is not None

        return test

    def step(run: Run) -> Any:
        run.cost += 1
        value = base(run)
        if isinstance(value, Optional):
            if not value.present:
                return NONE
            found = find(value.value)
            return NONE if found is _MISSING else Optional(True, found)
        found = find(value)
        if node.optional:
            return NONE if found is _MISSING or found is None else Optional(True, found)
        if found is _MISSING:
            raise EvaluationError(f"no such key: {node.name}")
        return found

    return step


def _index(node: Node) -> Step:
    base, index = compile_node(node.args[0]), compile_node(node.args[1])

    def find(value: Any, key: Any) -> Any:
        if isinstance(value, list):
            if isinstance(key, float) and key.is_integer():
                key = int(key)
            if isinstance(key, bool) or not isinstance(key, int):
                raise EvaluationError("unsupported index type")
            return value[key] if 0 <= key < len(value) else _MISSING
        if isinstance(value, dict):
            return value.get(key, _MISSING)
        raise EvaluationError("no such overload")

    def step(run: Run) -> Any:
        run.cost += 1
        value, key = base(run), index(run)
        if isinstance(value, Optional):
            if not value.present:
                return NONE
            found = find(value.value, key)
            return NONE if found is _MISSING else Optional(True, found)
        found = find(value, key)
        if node.optional:
            return NONE if found is _MISSING else Optional(True, found)
        if found is _MISSING:
            raise EvaluationError(f"index out of bounds: {key}" if isinstance(value, list) else f"no such key: {key}")
        return found

    return step


def _fits(wanted: Type, value: Any) -> bool:
    if wanted.is_dyn or wanted.name in ("A", "B"):
        return True
    found = type_name(value)
    if found != wanted.name:
        return False
    if wanted.name == "list" and wanted.parameters and value:
        return _fits(wanted.parameters[0], value[0])
    return True


def _call(node: Node) -> Step:
    steps = [compile_node(each) for each in node.args]
    if node.name == "_&&_":
        return _logic(steps[0], steps[1], decides=False)
    if node.name == "_||_":
        return _logic(steps[0], steps[1], decides=True)
    if node.name == "_?_:_":
        return _conditional(steps)
    overloads: list[Overload] = node.extra
    certain = len(overloads) == 1 and all(
        not given.type.is_dyn and unify(wanted, given.type, {})
        for wanted, given in zip(overloads[0].arguments, node.args, strict=True)
    )
    if certain:
        call, cost = overloads[0].call, overloads[0].cost
        if len(steps) == 2:
            left, right = steps

            def binary(run: Run) -> Any:
                first, second = left(run), right(run)
                run.spend(1 + (cost(first, second) if cost is not None else 0))
                return call(first, second)

            return _guarded(binary)

        def known(run: Run) -> Any:
            values = [step(run) for step in steps]
            run.spend(1 + (cost(*values) if cost is not None else 0))
            return call(*values)

        return _guarded(known)

    def dynamic(run: Run) -> Any:
        values = [step(run) for step in steps]
        for overload in overloads:
            if all(_fits(wanted, value) for wanted, value in zip(overload.arguments, values, strict=True)):
                run.spend(1 + (overload.cost(*values) if overload.cost is not None else 0))
                return overload.call(*values)
        raise EvaluationError("no such overload")

    return _guarded(dynamic)


def _guarded(step: Step) -> Step:
    def guarded(run: Run) -> Any:
        try:
            return step(run)
        except (TypeError, AttributeError, ValueError, OverflowError) as error:
            raise EvaluationError(f"no such overload: {error}") from None

    return guarded


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise EvaluationError("no such overload")
    return value


def _logic(left: Step, right: Step, *, decides: bool) -> Step:
    """&& and ||: a side that decides does so even where the other one fails."""

    def step(run: Run) -> Any:
        run.cost += 1
        try:
            if _truth(left(run)) is decides:
                return decides
        except CostExceeded:
            raise
        except EvaluationError:
            if _truth(right(run)) is decides:
                return decides
            raise
        return _truth(right(run))

    return step


def _conditional(steps: list[Step]) -> Step:
    condition, yes, no = steps

    def step(run: Run) -> Any:
        run.cost += 1
        return yes(run) if _truth(condition(run)) else no(run)

    return step


def _list(node: Node) -> Step:
    steps = [compile_node(each) for each in node.args]
    flags = node.flags

    def step(run: Run) -> Any:
        run.spend(10)
        if not any(flags):
            return [each(run) for each in steps]
        found = []
        for each, optional in zip(steps, flags, strict=True):
            value = each(run)
            if not optional:
                found.append(value)
            elif isinstance(value, Optional) and value.present:
                found.append(value.value)
        return found

    return step


def _map(node: Node) -> Step:
    steps = [compile_node(each) for each in node.args]
    flags = node.flags

    def step(run: Run) -> Any:
        run.spend(30)
        found: dict[Any, Any] = {}
        for index in range(0, len(steps), 2):
            key, value = steps[index](run), steps[index + 1](run)
            if flags[index // 2]:
                if not (isinstance(value, Optional) and value.present):
                    continue
                value = value.value
            if not isinstance(key, str | int):
                raise EvaluationError("unsupported key type")
            if key in found:
                raise EvaluationError(f"Failed with repeated key: {key}")
            found[key] = value
        return found

    return step


def _struct(node: Node) -> Step:
    steps = [compile_node(each) for each in node.args]
    names, flags, kind = node.names, node.flags, node.name

    def step(run: Run) -> Any:
        run.spend(40)
        found: dict[str, Any] = {}
        for name, each, optional in zip(names, steps, flags, strict=True):
            value = each(run)
            if optional:
                if not (isinstance(value, Optional) and value.present):
                    continue
                value = value.value
            found[name] = value
        return Struct(kind, found)

    return step


class Struct(dict[str, Any]):
    """An object that an expression makes; `kind` is its type's name."""

    def __init__(self, kind: str, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.kind = kind


def _bind(node: Node) -> Step:
    value, body, name = compile_node(node.args[0]), compile_node(node.args[1]), node.names[0]

    def step(run: Run) -> Any:
        return _with(run, {name: value(run)}, body)

    return step


def _with(run: Run, scope: dict[str, Any], body: Step) -> Any:
    values = run.values
    run.values = {**values, **scope}
    try:
        return body(run)
    finally:
        run.values = values


def _comprehension(node: Node) -> Step:
    base = compile_node(node.args[0])
    bodies = [compile_node(each) for each in node.args[1:]]
    names = node.names
    if node.name in ("optMap", "optFlatMap"):
        flat = node.name == "optFlatMap"

        def optional(run: Run) -> Any:
            value = base(run)
            if not isinstance(value, Optional) or not value.present:
                return NONE
            result = _with(run, {names[0]: value.value}, bodies[0])
            return result if flat else Optional(True, result)

        return optional
    fold = _FOLDS[node.name]
    two = len(names) == 2

    def step(run: Run) -> Any:
        run.spend(1)
        target = base(run)
        if isinstance(target, dict):
            pairs = [(key, value) for key, value in target.items()]
        elif isinstance(target, list):
            pairs = list(enumerate(target))
        else:
            raise EvaluationError("no such overload")
        is_list = isinstance(target, list)
        outer = run.values
        inner = run.values = dict(outer)

        def each(index: int) -> tuple[Any, Any]:
            run.spend(2)
            key, value = pairs[index]
            if two:
                inner[names[0]], inner[names[1]] = key, value
            else:
                inner[names[0]] = value if is_list else key
            return key, inner[names[0]]

        try:
            return fold(run, len(pairs), each, bodies)
        finally:
            run.values = outer

    return step


Each = Callable[[int], tuple[Any, Any]]


def _decided(wanted: bool) -> Callable[[Run, int, Each, list[Step]], Any]:
    """all and exists: one that decides does so even where others fail."""

    def fold(run: Run, count: int, each: Each, bodies: list[Step]) -> Any:
        failure: EvaluationError | None = None
        for index in range(count):
            each(index)
            try:
                if _truth(bodies[0](run)) is wanted:
                    return wanted
            except CostExceeded:
                raise
            except EvaluationError as error:
                failure = error
        if failure is not None:
            raise failure
        return not wanted

    return fold


def _exists_one(run: Run, count: int, each: Each, bodies: list[Step]) -> Any:
    found = 0
    for index in range(count):
        each(index)
        found += _truth(bodies[0](run))
    return found == 1


def _filter(run: Run, count: int, each: Each, bodies: list[Step]) -> Any:
    found = []
    for index in range(count):
        _, value = each(index)
        if _truth(bodies[0](run)):
            found.append(value)
    return found


def _transform(run: Run, count: int, each: Each, bodies: list[Step]) -> Any:
    found = []
    for index in range(count):
        each(index)
        if len(bodies) == 1 or _truth(bodies[0](run)):
            found.append(bodies[-1](run))
    return found


def _transform_map(run: Run, count: int, each: Each, bodies: list[Step]) -> Any:
    found = {}
    for index in range(count):
        key, _ = each(index)
        if len(bodies) == 1 or _truth(bodies[0](run)):
            found[key] = bodies[-1](run)
    return found


_FOLDS: Mapping[str, Callable[[Run, int, Each, list[Step]], Any]] = {
    "all": _decided(False),
    "exists": _decided(True),
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _transform,
    "transformList": _transform,
    "transformMap": _transform_map,
}

_BUILDERS: Mapping[str, Callable[[Node], Step]] = {
    "literal": _literal,
    "ident": _ident,
    "select": _select,
    "index": _index,
    "call": _call,
    "list": _list,
    "map": _map,
    "struct": _struct,
    "bind": _bind,
    "comprehension": _comprehension,
}
