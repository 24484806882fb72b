"""Why a document is no JSON, in the words of Go's decoder.

Clients show dockerd's messages to people, and some tools match them. orjson reads every document; only when it refuses
one does this scanner look for the reason. Like Go's decoder it reads one value and reports where that value ends, so
that what follows it can be told apart from what is wrong inside it.
"""

from __future__ import annotations

from typing import Final

_SPACE: Final = b" \t\r\n"
_DIGITS: Final = b"0123456789"
_HEX: Final = b"0123456789abcdefABCDEF"
_MAX_DEPTH: Final = 10_000


class GoSyntaxError(ValueError):
    """The message of Go's `json.SyntaxError`, or of its end-of-file errors."""


class EmptyDocumentError(GoSyntaxError):
    """Nothing but white space (Go's `io.EOF`)."""


def _quote(byte: int) -> str:
    if byte == ord("'"):
        return "'\\''"
    if byte == ord('"'):
        return "'\"'"
    character = chr(byte)
    if character.isprintable():
        return "'\\\\'" if character == "\\" else f"'{character}'"
    named = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}
    number = f"\\x{byte:02x}" if byte < 128 else f"\\u{byte:04x}"
    return f"'{named.get(byte, number)}'"


class _Scanner:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def peek(self) -> int:
        """The next byte that is no space."""
        data, at = self.data, self.at
        while at < len(data) and data[at] in _SPACE:
            at += 1
        self.at = at
        return self.byte()

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise GoSyntaxError("unexpected EOF")
        return self.data[self.at]

    def wrong(self, context: str) -> GoSyntaxError:
        return GoSyntaxError(f"invalid character {_quote(self.byte())} {context}")

    def string(self) -> None:
        self.at += 1
        while (byte := self.byte()) != ord('"'):
            if byte < 0x20:
                raise self.wrong("in string literal")
            self.at += 1
            if byte == ord("\\"):
                self.escape()
        self.at += 1

    def escape(self) -> None:
        byte = self.byte()
        if byte == ord("u"):
            for _ in range(4):
                self.at += 1
                if self.byte() not in _HEX:
                    raise self.wrong("in \\u hexadecimal character escape")
        elif byte not in b'bfnrt\\/"':
            raise self.wrong("in string escape code")
        self.at += 1

    def digits(self) -> None:
        while self.at < len(self.data) and self.data[self.at] in _DIGITS:
            self.at += 1

    def number(self) -> None:
        if self.byte() == ord("-"):
            self.at += 1
            if self.byte() not in _DIGITS:
                raise self.wrong("in numeric literal")
        if self.byte() == ord("0"):
            self.at += 1
        else:
            self.digits()
        if self.data[self.at : self.at + 1] == b".":
            self.at += 1
            if self.byte() not in _DIGITS:
                raise self.wrong("after decimal point in numeric literal")
            self.digits()
        if self.data[self.at : self.at + 1] in (b"e", b"E"):
            self.at += 1
            if self.byte() in b"+-":
                self.at += 1
            if self.byte() not in _DIGITS:
                raise self.wrong("in exponent of numeric literal")
            self.digits()

    def literal(self, word: bytes) -> None:
        for expected in word:
            if self.byte() != expected:
                raise self.wrong(f"in literal {word.decode()} (expecting {_quote(expected)})")
            self.at += 1

    def scalar(self) -> None:
        byte = self.byte()
        if byte == ord('"'):
            self.string()
        elif byte in b"-0123456789":
            self.number()
        elif byte == ord("t"):
            self.literal(b"true")
        elif byte == ord("f"):
            self.literal(b"false")
        elif byte == ord("n"):
            self.literal(b"null")
        else:
            raise self.wrong("looking for beginning of value")

    def key(self) -> None:
        if self.peek() != ord('"'):
            raise self.wrong("looking for beginning of object key string")
        self.string()
        if self.peek() != ord(":"):
            raise self.wrong("after object key")
        self.at += 1

    def value(self) -> None:
        """One value; nesting is a list, not our stack."""
        open_: list[int] = []
        while True:
            byte = self.peek()
            if byte in b"{[":
                open_.append(byte)
                if len(open_) > _MAX_DEPTH:
                    raise GoSyntaxError("exceeded max depth")
                self.at += 1
                if self.peek() != byte + 2:  # "{" and "}", "[" and "]" are two apart
                    if byte == ord("{"):
                        self.key()
                    continue
            else:
                self.scalar()
                if not open_:
                    return
            if self.close(open_):
                return

    def close(self, open_: list[int]) -> bool:
        """After a value inside arrays and objects: end those that end here; true when the outermost has ended."""
        while open_:
            byte = self.peek()
            if byte == open_[-1] + 2:
                open_.pop()
                self.at += 1
            elif byte == ord(","):
                self.at += 1
                if open_[-1] == ord("{"):
                    self.key()
                return False
            elif open_[-1] == ord("{"):
                raise self.wrong("after object key:value pair")
            else:
                raise self.wrong("after array element")
        return True


def first_value_end(data: bytes) -> int:
    """Where the first value of `data` ends. Raises `GoSyntaxError` when there is none."""
    if not data.strip(_SPACE):
        raise EmptyDocumentError("EOF")
    scanner = _Scanner(data)
    scanner.value()
    return scanner.at
