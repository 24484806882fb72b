"""`--format`: the part of Go's text/template that people write on docker's command line.

    {{.Names}}  {{.State.Health.Status}}  {{json .}}  {{index .Config.Labels "a.b"}}
    {{range .Mounts}}{{.Source}} {{end}}
    {{if eq .State "running"}}up{{else}}down{{end}}  {{.Ports | json}}  {{$x := .Id}}{{printf "%.12s" $x}}

A template is parsed once into a tree of nodes, then rendered for each row. Data is what JSON gives; a row may hold
callables, which stand for Go's methods (`{{.Label "x"}}`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<op>:=|=|[|(),])"""
    r"""|(?P<field>(?:\$\w*)?(?:\.\w+)+|\.)|(?P<variable>\$\w*)|(?P<name>\w+))"""
)


class TemplateError(Exception):
    """The template cannot be parsed, or does not fit the data."""


class Text(NamedTuple):
    """Literal text."""

    text: str


class Output(NamedTuple):
    """A pipeline whose value is printed, or bound to a variable."""

    pipeline: Pipeline
    variable: str | None


class Branch(NamedTuple):
    """if, range or with: the pipeline, the body, the else body, and range's variables."""

    kind: str
    pipeline: Pipeline
    body: list[Node]
    otherwise: list[Node]
    variables: tuple[str, ...]


class Term(NamedTuple):
    """An operand: a literal, a field path, a variable, a function name, or a pipeline in parentheses."""

    kind: str
    value: Any


Command = list[Term]
Pipeline = list[Command]
Node = Text | Output | Branch


class Template:
    """A parsed template. Raises TemplateError from the constructor for what cannot be parsed."""

    def __init__(self, text: str) -> None:
        text = text.replace("\\t", "\t").replace("\\n", "\n")
        self._pieces = list(_pieces(text))
        self._position = 0
        self._nodes = self._block(())
        if self._position < len(self._pieces):
            raise TemplateError(f"template parsing error: unexpected {{{{{self._pieces[self._position][1]}}}}}")

    def render(self, data: Any) -> str:
        """The text for one value."""
        return "".join(_run(self._nodes, data, {"$": data}))

    def fields(self) -> list[str]:
        """Names of the fields that are printed, in order: the headers of a table."""
        found: list[str] = []
        for node in self._nodes:
            if isinstance(node, Output):
                for command in node.pipeline:
                    for term in command:
                        if term.kind == "field" and len(term.value) == 1:
                            found.append(term.value[0])
        return found

    def headers(self, titles: Mapping[str, str]) -> str:
        """The template's text with each printed field replaced by its title."""
        line = []
        for node in self._nodes:
            if isinstance(node, Text):
                line.append(node.text)
            elif isinstance(node, Output):
                names = [t.value[0] for c in node.pipeline for t in c if t.kind == "field" and t.value]
                line.append(titles.get(names[0], names[0].upper()) if names else "")
        return "".join(line)

    def _block(self, ends: tuple[str, ...]) -> list[Node]:
        nodes: list[Node] = []
        while self._position < len(self._pieces):
            literal, action = self._pieces[self._position]
            if not literal and action.split(" ", 1)[0] in ends:
                return nodes
            if not literal and action.split(" ", 1)[0] in {"end", "else"}:
                raise TemplateError(f"template parsing error: unexpected {{{{{action}}}}}")
            self._position += 1
            if literal:
                nodes.append(Text(action))
            elif action and not action.startswith("/*"):
                nodes.append(self._action(action))
        if ends:
            raise TemplateError("template parsing error: template: :1: unexpected EOF")
        return nodes

    def _action(self, action: str) -> Node:
        word, _, rest = action.partition(" ")
        if word in {"if", "range", "with"}:
            variables, pipeline = _assignment(_tokens(rest))
            body = self._block(("else", "end"))
            ending = self._pieces[self._position][1]
            self._position += 1
            otherwise: list[Node] = []
            if ending.startswith("else"):
                following = ending.removeprefix("else").strip()
                if following:
                    otherwise = [self._action(following)]
                    return Branch(word, pipeline, body, otherwise, variables)
                otherwise = self._block(("end",))
                self._position += 1
            return Branch(word, pipeline, body, otherwise, variables)
        variables, pipeline = _assignment(_tokens(action))
        return Output(pipeline, variables[0] if variables else None)


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """(is literal, text or action) in order, with `{{-` and `-}}` applied."""
    position, trim = 0, False
    for match in _ACTION.finditer(text):
        literal = text[position : match.start()]
        if trim:
            literal = literal.lstrip()
        if match[1]:
            literal = literal.rstrip()
        if literal:
            yield True, literal
        yield False, match[2]
        position, trim = match.end(), bool(match[3])
    rest = text[position:].lstrip() if trim else text[position:]
    if "{{" in rest:
        raise TemplateError("template parsing error: template: :1: unclosed action")
    if rest:
        yield True, rest


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if not match or not match.lastgroup:
            raise TemplateError(
                f'template parsing error: template: :1: unexpected "{text[position:].strip()[:1]}" in operand'
            )
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return tokens


def _assignment(tokens: list[tuple[str, str]]) -> tuple[tuple[str, ...], Pipeline]:
    for index, (_, text) in enumerate(tokens):
        if text in {":=", "="}:
            names = tuple(name for kind, name in tokens[:index] if kind == "variable")
            return names, _pipeline(tokens[index + 1 :])
    return (), _pipeline(tokens)


def _pipeline(tokens: list[tuple[str, str]]) -> Pipeline:
    position = 0

    def pipeline() -> Pipeline:
        nonlocal position
        commands: Pipeline = [[]]
        while position < len(tokens):
            kind, text = tokens[position]
            if text == ")" and kind == "op":
                break
            position += 1
            if kind == "op" and text == "|":
                commands.append([])
            elif kind == "op" and text == "(":
                inner = pipeline()
                if position >= len(tokens):
                    raise TemplateError("template parsing error: template: :1: unclosed left paren")
                position += 1
                names: tuple[str, ...] = ()
                if position < len(tokens) and tokens[position][0] == "field" and tokens[position][1] != ".":
                    names = tuple(tokens[position][1].strip(".").split("."))
                    position += 1
                commands[-1].append(Term("pipeline", (inner, names)))
            elif kind == "op":
                raise TemplateError(f'template parsing error: template: :1: unexpected "{text}" in operand')
            else:
                commands[-1].append(_term(kind, text))
        if not all(commands):
            raise TemplateError("template parsing error: template: :1: missing value for command")
        return commands

    parsed = pipeline()
    if position < len(tokens):
        raise TemplateError("template parsing error: template: :1: unexpected right paren")
    return parsed


def _term(kind: str, text: str) -> Term:
    if kind == "string":
        return Term("literal", text[1:-1] if text[0] == "`" else json.loads(text))
    if kind == "number":
        return Term("literal", float(text) if "." in text else int(text))
    if kind == "variable":
        return Term("variable", (text, ()))
    if kind == "field":
        variable, _, path = text.partition(".")
        names = tuple(name for name in path.split(".") if name)
        return Term("variable", (variable, names)) if variable else Term("field", names)
    if text in {"true", "false", "nil"}:
        return Term("literal", {"true": True, "false": False, "nil": None}[text])
    if text not in FUNCTIONS:
        raise TemplateError(f'template parsing error: template: :1: function "{text}" not defined')
    return Term("function", text)


Scope = dict[str, Any]


def _run(nodes: Sequence[Node], dot: Any, scope: Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Text):
            yield node.text
        elif isinstance(node, Output):
            value = _value(node.pipeline, dot, scope)
            if node.variable:
                scope[node.variable] = value
            else:
                yield show(value)
        else:
            yield from _branch(node, dot, scope)


def _branch(node: Branch, dot: Any, scope: Scope) -> Iterator[str]:
    value = _value(node.pipeline, dot, scope)
    if node.kind == "range":
        items = list(value.items()) if isinstance(value, Mapping) else list(enumerate(value or ()))
        if isinstance(value, Mapping):
            items.sort()
        for key, item in items:
            inner = dict(scope)
            if len(node.variables) == 2:
                inner[node.variables[0]], inner[node.variables[1]] = key, item
            elif node.variables:
                inner[node.variables[0]] = item
            yield from _run(node.body, item, inner)
        if not items:
            yield from _run(node.otherwise, dot, scope)
    elif value:
        inner = scope | dict.fromkeys(node.variables, value)
        yield from _run(node.body, value if node.kind == "with" else dot, inner)
    else:
        yield from _run(node.otherwise, dot, scope)


def _value(pipeline: Pipeline, dot: Any, scope: Scope) -> Any:
    piped: list[Any] = []
    for command in pipeline:
        head, rest = command[0], [_operand(term, dot, scope) for term in command[1:]]
        if head.kind == "function":
            piped = [_call(FUNCTIONS[head.value], [*rest, *piped], head.value)]
            continue
        value = _operand(head, dot, scope)
        arguments = [*rest, *piped]
        if callable(value):
            value = value(*arguments)
        elif arguments:
            raise TemplateError("template parsing error: can't give argument to non-function")
        piped = [value]
    return piped[0]


def _operand(term: Term, dot: Any, scope: Scope) -> Any:
    if term.kind == "literal":
        return term.value
    if term.kind == "pipeline":
        inner, names = term.value
        return _walk(_value(inner, dot, scope), names)
    if term.kind == "function":
        return _call(FUNCTIONS[term.value], [], term.value)
    if term.kind == "variable":
        name, path = term.value
        if name not in scope:
            raise TemplateError(f'template parsing error: undefined variable "{name}"')
        return _walk(scope[name], path)
    return _walk(dot, term.value)


def _walk(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if isinstance(value, Mapping):
            if name not in value:
                raise TemplateError(
                    f'template: :1: executing "" at <.{".".join(path)}>: map has no entry for key "{name}"'
                )
            value = value[name]
        elif value is None:
            raise TemplateError(f"template: :1: nil pointer evaluating .{name}")
        else:
            raise TemplateError(f"template: :1: can't evaluate field {name} in type {_go_type(value)}")
    return value


def _go_type(value: Any) -> str:
    return {str: "string", bool: "bool", int: "int", float: "float64", list: "[]interface {}"}.get(
        type(value), "interface {}"
    )


def _call(function: Callable[..., Any], arguments: list[Any], name: str) -> Any:
    try:
        return function(*arguments)
    except TemplateError:
        raise
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise TemplateError(f"template: :1: error calling {name}: {error}") from None


def show(value: Any) -> str:
    """A value as Go prints it with %v."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + " ".join(show(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{show(item)}" for key, item in sorted(value.items())) + "]"
    if callable(value):
        return show(value())
    return str(value)


def to_json(value: Any) -> str:
    """JSON in one line; rows lose their methods."""

    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: plain(inner) for key, inner in item.items() if not callable(inner)}
        return [plain(inner) for inner in item] if isinstance(item, list) else item

    return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif isinstance(value, list | str):
            if not 0 <= key < len(value):
                raise TemplateError(f"template: :1: error calling index: index out of range: {key}")
            value = value[key]
        else:
            raise TemplateError("template: :1: error calling index: index of untyped nil")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    return value[slice(*bounds)] if len(bounds) == 2 else value[bounds[0] :]


def _compare(check: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    return lambda left, *rights: any(check(left, right) for right in rights)


def _printf(form: str, *values: Any) -> str:
    return re.sub(r"%[vqt]", "%s", form) % tuple(show(v) if isinstance(v, bool | list | dict) else v for v in values)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": to_json,
    "join": lambda values, separator: separator.join(show(v) for v in values or ()),
    "split": lambda text, separator: text.split(separator),
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "title": lambda text: text.title(),
    "pad": lambda text, before, after: " " * before + text + " " * after if text else text,
    "truncate": lambda text, length: text[:length],
    "println": lambda *values: " ".join(show(v) for v in values) + "\n",
    "print": lambda *values: " ".join(show(v) for v in values),
    "printf": _printf,
    "index": _index,
    "slice": _slice,
    "len": lambda value: len(value or ()),
    "eq": _compare(lambda left, right: bool(left == right)),
    "ne": lambda left, right: left != right,
    "lt": lambda left, right: left < right,
    "le": lambda left, right: left <= right,
    "gt": lambda left, right: left > right,
    "ge": lambda left, right: left >= right,
    "not": lambda value: not value,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "html": lambda text: text,
    "urlquery": lambda text: __import__("urllib.parse").parse.quote_plus(text),
}
