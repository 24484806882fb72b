"""Functions by their signatures: the checker reads the types, the evaluator calls what fits.

    @overload("string.contains(string) -> bool", cost=text)
    def _(text, part): …

A signature with a receiver is a method. `A` and `B` stand for any type. Several overloads of a name are told apart by
the static types where these are known, by the values otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from windlass.kube.cel import types
from windlass.kube.cel.types import Type

Cost = Callable[..., int]
"""Arguments → what a call costs beside its one unit."""


class Overload(NamedTuple):
    """One signature. `result` may hold the variables A and B."""

    name: str
    method: bool
    arguments: tuple[Type, ...]
    result: Type
    call: Callable[..., Any]
    cost: Cost | None


Table = dict[str, list[Overload]]

_NAMES = {
    "timestamp": types.TIMESTAMP,
    "duration": types.DURATION,
    "null": types.NULL,
    "dyn": types.DYN,
    "bool": types.BOOL,
    "int": types.INT,
    "uint": types.UINT,
    "double": types.DOUBLE,
    "string": types.STRING,
    "bytes": types.BYTES,
    "type": types.TYPE,
}


def parse_type(text: str) -> Type:
    """A type as signatures write it: `list(A)`, `map(string, int)`."""
    text = text.strip()
    if text in _NAMES:
        return _NAMES[text]
    name, _, rest = text.partition("(")
    if rest:
        name = "optional_type" if name == "optional" else name
        return Type(name, tuple(parse_type(part) for part in _split(rest.removesuffix(")"))))
    return Type(name)


def _split(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for char in text:
        if char == "," and not depth:
            parts.append(current)
            current = ""
            continue
        depth += {"(": 1, ")": -1}.get(char, 0)
        current += char
    return [part for part in (*parts, current) if part.strip()]


def add(table: Table, signature: str, call: Callable[..., Any], cost: Cost | None = None) -> None:
    """Add an overload."""
    head, _, result = signature.rpartition(" -> ")
    before, _, args = head.removesuffix(")").partition("(")
    # A receiver with parameters has parentheses of its own: list(A).size()
    receiver = ""
    if ")." in head:
        receiver, _, rest = head.rpartition(").")
        receiver += ")"
        before, _, args = rest.removesuffix(")").partition("(")
        name = before
    elif "." in before and not before.startswith(
        ("math.", "sets.", "lists.", "base64.", "optional.", "format.", "cel.", "jsonpatch.", "ip.")
    ):
        receiver, _, name = before.rpartition(".")
    else:
        name = before
    arguments = tuple(parse_type(part) for part in _split(args))
    if receiver:
        arguments = (parse_type(receiver), *arguments)
    overload = Overload(name, bool(receiver), arguments, parse_type(result), call, cost)
    table.setdefault(name, []).append(overload)


def is_variable(type: Type) -> bool:
    """Whether a type of a signature stands for any."""
    return type.name in ("A", "B")


def unify(wanted: Type, found: Type, bound: dict[str, Type]) -> bool:
    """Whether a type fits a signature's, noting what its variables stand for."""
    if is_variable(wanted):
        known = bound.get(wanted.name)
        if known is None or known.is_dyn:
            bound[wanted.name] = found
            return True
        return types.agrees(known, found)
    if wanted.is_dyn or found.is_dyn:
        return True
    if wanted.name != found.name:
        return False
    if not wanted.parameters:
        return True
    return all(unify(each, other, bound) for each, other in zip(wanted.parameters, found.parameters, strict=False))


def substitute(type: Type, bound: dict[str, Type]) -> Type:
    """A signature's type with its variables replaced."""
    if is_variable(type):
        return bound.get(type.name, types.DYN)
    if type.parameters:
        return Type(type.name, tuple(substitute(each, bound) for each in type.parameters))
    return type


def candidates(table: Table, name: str, method: bool, arguments: Sequence[Type]) -> list[tuple[Overload, Type]]:
    """The overloads that may be meant, with the types of their results."""
    found = []
    for overload in table.get(name, ()):
        if overload.method != method or len(overload.arguments) != len(arguments):
            continue
        bound: dict[str, Type] = {}
        if all(unify(wanted, given, bound) for wanted, given in zip(overload.arguments, arguments, strict=True)):
            found.append((overload, substitute(overload.result, bound)))
    return found
