"""JSONPath as kubectl knows it, the part that printer columns and `-o jsonpath` of single values use.

    .spec.replicas        .status.conditions[?(@.type=="Ready")].status
    .metadata.labels.app  .spec.ports[0].port    .spec.names[*]    .metadata.annotations['a\\.b']

Source: https://kubernetes.io/docs/reference/kubectl/jsonpath/
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

Step = Callable[[list[Any]], list[Any]]

_NAME = re.compile(r"\.?((?:[A-Za-z0-9_$-]|\\.)+)")
_INDEX = re.compile(r"\[(-?\d+)\]")
_SLICE = re.compile(r"\[(-?\d*):(-?\d*)\]")
_QUOTED = re.compile(r"""\[(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\]""")
_FILTER = re.compile(
    r"""\[\?\(\s*@((?:\.[A-Za-z0-9_-]+)*)\s*(?:(==|!=|<=|>=|<|>)\s*("[^"]*"|'[^']*'|-?[\d.]+|true|false))?\s*\)\]"""
)
_LONGEST = 1000


class BadPath(ValueError):
    """The text is no path that we know."""


@functools.lru_cache(maxsize=512)
def compile_path(text: str) -> Callable[[Any], list[Any]]:
    """A function from a value to all that the path finds in it.

    Raises:
        BadPath
    """
    if len(text) > _LONGEST:
        raise BadPath("the path is too long")
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1].strip()
    if not rest.startswith((".", "[", "$", "@")):
        raise BadPath(f"is an invalid path: {text}")
    rest = rest.lstrip("$@")
    steps: list[Step] = []
    while rest:
        step, rest = _step(rest, text)
        if step is not None:
            steps.append(step)

    def find(value: Any) -> list[Any]:
        found = [value]
        for step in steps:
            found = step(found)
        return found

    return find


def _step(rest: str, text: str) -> tuple[Step | None, str]:
    if rest == ".":
        return None, ""
    if rest.startswith((".*", "[*]")):
        return _all, rest[2 if rest[0] == "." else 3 :]
    if rest.startswith(".."):
        match = _NAME.match(rest[2:])
        if match is None:
            raise BadPath(f"unexpected end of path: {text}")
        return _anywhere(_plain(match[1])), rest[2 + match.end() :]
    for pattern, build in _STEPS:
        if match := pattern.match(rest):
            return build(match), rest[match.end() :]
    raise BadPath(f"unrecognized part {rest[:40]!r} of path {text}")


def _plain(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _field(name: str) -> Step:
    def step(values: list[Any]) -> list[Any]:
        return [value[name] for value in values if isinstance(value, dict) and name in value]

    return step


def _all(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, list):
            found += value
        elif isinstance(value, dict):
            found += value.values()
    return found


def _anywhere(name: str) -> Step:
    def collect(value: Any, found: list[Any]) -> None:
        if isinstance(value, dict):
            if name in value:
                found.append(value[name])
            for child in value.values():
                collect(child, found)
        elif isinstance(value, list):
            for item in value:
                collect(item, found)

    def step(values: list[Any]) -> list[Any]:
        found: list[Any] = []
        for value in values:
            collect(value, found)
        return found

    return step


def _index(match: re.Match[str]) -> Step:
    index = int(match[1])

    def step(values: list[Any]) -> list[Any]:
        return [v[index] for v in values if isinstance(v, list) and -len(v) <= index < len(v)]

    return step


def _slice(match: re.Match[str]) -> Step:
    begin, end = (int(part) if part else None for part in match.groups())
    return lambda values: [item for value in values if isinstance(value, list) for item in value[begin:end]]


def _filter(match: re.Match[str]) -> Step:
    names = [name for name in match[1].split(".") if name]
    operator, literal = match[2], match[3]
    wanted: Any = None
    if literal is not None:
        if literal[0] in "\"'":
            wanted = literal[1:-1]
        else:
            wanted = literal == "true" if literal in ("true", "false") else float(literal)

    def holds(item: Any) -> bool:
        for name in names:
            if not isinstance(item, dict) or name not in item:
                return False
            item = item[name]
        if operator is None:
            return True
        if operator in ("==", "!="):
            return bool(item == wanted) == (operator == "==")
        try:
            return bool({"<": item < wanted, ">": item > wanted, "<=": item <= wanted, ">=": item >= wanted}[operator])
        except TypeError:
            return False

    return lambda values: [item for value in values if isinstance(value, list) for item in value if holds(item)]


_STEPS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Step]], ...] = (
    (_INDEX, _index),
    (_SLICE, _slice),
    (_QUOTED, lambda match: _field(_plain(match[1] if match[1] is not None else match[2]))),
    (_FILTER, _filter),
    (_NAME, lambda match: _field(_plain(match[1]))),
)
