"""From text to a tree.

    Expr       = ConditionalOr ["?" ConditionalOr ":" Expr]
    Relation   = Addition {("<" | "<=" | ">=" | ">" | "==" | "!=" | "in") Addition}
    Member     = Primary {"." [?] IDENT ["(" [ExprList] ")"] | "[" [?] Expr "]" | …}

Macros (has, all, exists, exists_one, map, filter, cel.bind, optMap, optFlatMap) are nodes of their own.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from windlass.kube.cel.errors import CompileError

LONGEST = 100_000
DEEPEST = 60

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<float>(?:\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?))
    |(?P<int>0[xX][0-9a-fA-F]+[uU]?|\d+[uU]?)
    |(?P<string>(?:[bB][rR]|[rR][bB]|[bB]|[rR])?
        (?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<ident>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<escaped>`[a-zA-Z0-9_.\-/ ]+`)
    |(?P<op>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_COMPREHENSIONS = frozenset(
    {"all", "exists", "exists_one", "existsOne", "map", "filter", "transformList", "transformMap"}
)


@dataclass(slots=True)
class Node:
    """A node. `kind` says which; `type` is set by the checker.

    literal      value
    ident        name
    select       args[0].name; `test` for has(); `optional` for `.?`
    index        args[0][args[1]]; `optional` for `[?`
    call         name(args); `method`: args[0] is the receiver
    list         args; `flags` are the optional items
    map          args: key, value, key, value …; `flags` are the optional entries
    struct       name{fields: args}
    comprehension  macro `name` over args[0] with variables `names`; args[1:] are its bodies
    bind         names[0] = args[0] in args[1]
    """

    kind: str
    position: int
    name: str = ""
    value: Any = None
    args: list[Node] = field(default_factory=list)
    names: tuple[str, ...] = ()
    flags: tuple[bool, ...] = ()
    method: bool = False
    optional: bool = False
    test: bool = False
    type: Any = None
    extra: Any = None


def parse(source: str) -> Node:
    """The tree of an expression.

    Raises:
        CompileError
    """
    return _Parser(source).whole()


class _Parser:
    def __init__(self, source: str) -> None:
        if len(source) > LONGEST:
            raise CompileError("the expression is too long", source[:80])
        self._source = source
        self._tokens: list[tuple[str, str, int]] = []
        self._index = 0
        self._depth = 0
        position = 0
        while position < len(source):
            match = _TOKEN.match(source, position)
            if match is None:
                raise CompileError(f"Syntax error: token recognition error at: '{source[position]}'", source, position)
            if match.lastgroup != "space":
                self._tokens.append((match.lastgroup or "", match.group(), position))
            position = match.end()
        self._tokens.append(("end", "", len(source)))

    # -- tokens

    def _peek(self) -> str:
        kind, text, _ = self._tokens[self._index]
        return text if kind in ("op", "ident") else ""

    def _position(self) -> int:
        return self._tokens[self._index][2]

    def _next(self) -> tuple[str, str, int]:
        token = self._tokens[self._index]
        if token[0] != "end":
            self._index += 1
        return token

    def _accept(self, text: str) -> bool:
        kind, found, _ = self._tokens[self._index]
        if found == text and kind in ("op", "ident"):
            self._index += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._unexpected(f"expecting '{text}'")

    def _unexpected(self, what: str) -> CompileError:
        kind, text, position = self._tokens[self._index]
        shown = "<EOF>" if kind == "end" else text
        return CompileError(f"Syntax error: mismatched input '{shown}' {what}", self._source, position)

    # -- grammar

    def whole(self) -> Node:
        node = self._expression()
        if self._tokens[self._index][0] != "end":
            raise self._unexpected("expecting <EOF>")
        return node

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise CompileError("the expression is nested too deeply", self._source, self._position())
        node = self._or()
        if self._peek() == "?":
            position = self._next()[2]
            yes = self._or()
            self._expect(":")
            node = Node("call", position, "_?_:_", args=[node, yes, self._expression()])
        self._depth -= 1
        return node

    def _or(self) -> Node:
        node = self._and()
        while self._peek() == "||":
            position = self._next()[2]
            node = Node("call", position, "_||_", args=[node, self._and()])
        return node

    def _and(self) -> Node:
        node = self._relation()
        while self._peek() == "&&":
            position = self._next()[2]
            node = Node("call", position, "_&&_", args=[node, self._relation()])
        return node

    def _relation(self) -> Node:
        node = self._addition()
        while (operator := self._peek()) in ("<", "<=", ">", ">=", "==", "!=", "in"):
            position = self._next()[2]
            name = "@in" if operator == "in" else f"_{operator}_"
            node = Node("call", position, name, args=[node, self._addition()])
        return node

    def _addition(self) -> Node:
        node = self._multiplication()
        while (operator := self._peek()) in ("+", "-"):
            position = self._next()[2]
            node = Node("call", position, f"_{operator}_", args=[node, self._multiplication()])
        return node

    def _multiplication(self) -> Node:
        node = self._unary()
        while (operator := self._peek()) in ("*", "/", "%"):
            position = self._next()[2]
            node = Node("call", position, f"_{operator}_", args=[node, self._unary()])
        return node

    def _unary(self) -> Node:
        operator = self._peek()
        if operator not in ("!", "-"):
            return self._member()
        position = self._position()
        count = 0
        while self._accept(operator):
            count += 1
        if operator == "-" and self._tokens[self._index][0] in ("int", "float"):
            return self._member(negative=count % 2 == 1)
        node = self._member()
        if count % 2:
            node = Node("call", position, "!_" if operator == "!" else "-_", args=[node])
        return node

    def _member(self, *, negative: bool = False) -> Node:
        node = self._primary(negative=negative)
        while True:
            position = self._position()
            if self._accept("."):
                optional = self._accept("?")
                kind, text, where = self._next()
                if kind == "escaped":
                    node = Node("select", where, text[1:-1], args=[node], optional=optional)
                    continue
                if kind != "ident":
                    self._index -= 1
                    raise self._unexpected("expecting IDENTIFIER")
                if not optional and self._accept("("):
                    node = self._method(node, text, where)
                else:
                    node = Node("select", where, text, args=[node], optional=optional)
            elif self._accept("["):
                optional = self._accept("?")
                index = self._expression()
                self._expect("]")
                node = Node("index", position, args=[node, index], optional=optional)
            elif self._peek() == "{" and (name := _qualified(node)):
                self._next()
                node = self._struct(name, position)
            else:
                return node

    def _arguments(self) -> list[Node]:
        found: list[Node] = []
        if self._accept(")"):
            return found
        while True:
            found.append(self._expression())
            if self._accept(")"):
                return found
            self._expect(",")

    def _method(self, target: Node, name: str, position: int) -> Node:
        args = self._arguments()
        if name in _COMPREHENSIONS and len(args) in (2, 3, 4):
            return self._comprehension(target, name, args, position)
        if name == "bind" and target.kind == "ident" and target.name == "cel" and len(args) == 3:
            return Node("bind", position, args=args[1:], names=(self._variable(args[0]),))
        if name in ("optMap", "optFlatMap") and len(args) == 2:
            names = (self._variable(args[0]),)
            return Node("comprehension", position, name, args=[target, args[1]], names=names)
        return Node("call", position, name, args=[target, *args], method=True)

    def _comprehension(self, target: Node, name: str, args: list[Node], position: int) -> Node:
        two = (name in ("all", "exists", "exists_one", "existsOne") and len(args) == 3) or (
            name in ("transformList", "transformMap") and len(args) >= 3
        )
        count = 2 if two else 1
        names = tuple(self._variable(each) for each in args[:count])
        bodies = args[count:]
        if name in ("transformList", "transformMap") and not two:
            return Node("call", position, name, args=[target, *args], method=True)
        if len(bodies) > (2 if name in ("map", "transformList", "transformMap") else 1) or not bodies:
            raise CompileError(f"undeclared reference to '{name}' (in container '')", self._source, position)
        name = "exists_one" if name == "existsOne" else name
        return Node("comprehension", position, name, args=[target, *bodies], names=names)

    def _variable(self, node: Node) -> str:
        if node.kind != "ident":
            raise CompileError("argument must be a simple name", self._source, node.position)
        return node.name

    def _primary(self, *, negative: bool = False) -> Node:
        kind, text, position = self._next()
        if kind == "int":
            return Node("literal", position, value=self._integer(text, position, negative))
        if kind == "float":
            return Node("literal", position, value=-float(text) if negative else float(text))
        if kind == "string":
            return Node("literal", position, value=_string(text, self._source, position))
        if kind == "ident":
            if text in ("true", "false"):
                return Node("literal", position, value=text == "true")
            if text == "null":
                return Node("literal", position, value=None)
            if text in _RESERVED:
                raise CompileError(f"reserved identifier: {text}", self._source, position)
            if self._accept("("):
                return self._function(text, position)
            return Node("ident", position, text)
        if text == ".":
            return self._primary()
        if text == "(":
            node = self._expression()
            self._expect(")")
            return node
        if text == "[":
            return self._list(position)
        if text == "{":
            return self._map(position)
        self._index -= kind != "end"
        raise self._unexpected("expecting an expression")

    def _function(self, name: str, position: int) -> Node:
        args = self._arguments()
        if name == "has":
            if len(args) != 1 or args[0].kind != "select" or args[0].test:
                raise CompileError("invalid argument to has() macro", self._source, position)
            args[0].test = True
            return args[0]
        return Node("call", position, name, args=args)

    def _list(self, position: int) -> Node:
        args: list[Node] = []
        flags: list[bool] = []
        while not self._accept("]"):
            flags.append(self._accept("?"))
            args.append(self._expression())
            if not self._accept(","):
                self._expect("]")
                break
        return Node("list", position, args=args, flags=tuple(flags))

    def _map(self, position: int) -> Node:
        args: list[Node] = []
        flags: list[bool] = []
        while not self._accept("}"):
            flags.append(self._accept("?"))
            args.append(self._expression())
            self._expect(":")
            args.append(self._expression())
            if not self._accept(","):
                self._expect("}")
                break
        return Node("map", position, args=args, flags=tuple(flags))

    def _struct(self, name: str, position: int) -> Node:
        args: list[Node] = []
        names: list[str] = []
        flags: list[bool] = []
        while not self._accept("}"):
            flags.append(self._accept("?"))
            kind, text, _ = self._next()
            if kind not in ("ident", "escaped"):
                self._index -= 1
                raise self._unexpected("expecting IDENTIFIER")
            names.append(text.strip("`"))
            self._expect(":")
            args.append(self._expression())
            if not self._accept(","):
                self._expect("}")
                break
        return Node("struct", position, name, args=args, names=tuple(names), flags=tuple(flags))

    def _integer(self, text: str, position: int, negative: bool) -> Any:
        unsigned = text[-1] in "uU"
        digits = text[:-1] if unsigned else text
        number = int(digits, 16) if digits[:2] in ("0x", "0X") else int(digits)
        if unsigned:
            if number >= 1 << 64:
                raise CompileError("invalid uint literal", self._source, position)
            return UInt(number)
        number = -number if negative else number
        if not -(1 << 63) <= number < 1 << 63:
            raise CompileError("invalid int literal", self._source, position)
        return number


class UInt(int):
    """An unsigned number: another type than int to CEL."""


def _qualified(node: Node) -> str:
    if node.kind == "ident":
        return node.name if node.name[:1].isupper() or node.name == "JSONPatch" else ""
    if node.kind == "select" and not node.test and not node.optional:
        base = _qualified(node.args[0])
        return f"{base}.{node.name}" if base else ""
    return ""


_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "`": "`",
    "?": "?",
}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|X([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)


def _string(text: str, source: str, position: int) -> str | bytes:
    prefix = text[: text.index(text.lstrip("bBrR")[0])].lower()
    body = text[len(prefix) :]
    quotes = 3 if body[:3] in ('"""', "'''") else 1
    body = body[quotes:-quotes]
    is_bytes = "b" in prefix
    if "r" in prefix:
        return body.encode() if is_bytes else body
    pieces: list[bytes] = []
    last = 0
    for match in _ESCAPE.finditer(body):
        pieces.append(body[last : match.start()].encode())
        last = match.end()
        code = match[1] or match[2] or match[3] or match[4]
        if code is not None or match[5] is not None:
            number = int(match[5], 8) if match[5] is not None else int(code or "0", 16)
            if is_bytes and (match[3] is None and match[4] is None):
                pieces.append(bytes([number & 0xFF]))
            elif number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
                raise CompileError("invalid unicode code point", source, position)
            else:
                pieces.append(chr(number).encode())
        elif match[6] in _ESCAPES:
            pieces.append(_ESCAPES[match[6]].encode())
        else:
            raise CompileError(f"unable to unescape string: \\{match[6]}", source, position)
    pieces.append(body[last:].encode())
    found = b"".join(pieces)
    return found if is_bytes else found.decode()
