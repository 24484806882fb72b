"""Label and field selectors: from text and from objects to requirements, and from those to a matcher.

    environment in (production, qa),tier!=frontend,partition,!legacy
    metadata.name=web,status.phase!=Running

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors and
.../field-selectors/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from windlass.kube.api import names, status
from windlass.kube.api.identity import Requirement
from windlass.kube.api.status import FieldError, forbidden_field, invalid_value, required

__all__ = [
    "Requirement",
    "format_labels",
    "from_label_selector",
    "label_matcher",
    "matches_label_selector",
    "parse_fields",
    "parse_labels",
    "validate_label_selector",
]

Matcher = Callable[[Mapping[str, str]], bool]

_TOKEN = re.compile(r"\s*(==|!=|[=!,()<>]|[^\s=!,()<>]+|$)")
_OPERATORS = {"=": "In", "==": "In", "!=": "NotIn", "in": "In", "notin": "NotIn", ">": "Gt", "<": "Lt"}
_LONGEST = 64 * 1024


class _Tokens:
    """The tokens of a selector's text, one ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = [match.group(1) for match in _TOKEN.finditer(text)]
        while len(self._tokens) > 1 and self._tokens[-2:] == ["", ""]:
            self._tokens.pop()
        if not self._tokens or self._tokens[-1]:
            self._tokens.append("")
        self._position = 0

    def peek(self) -> str:
        return self._tokens[self._position]

    def next(self) -> str:
        symbol = self._tokens[self._position]
        if symbol:
            self._position += 1
        return symbol


def parse_labels(text: str) -> list[Requirement]:
    """The requirements of a label selector.

    Raises:
        StatusError: 400 with the parser's complaint.
    """
    if len(text) > _LONGEST:
        raise status.bad_request("unable to parse requirement: the selector is too long")
    tokens = _Tokens(text)
    found: list[Requirement] = []
    if not tokens.peek():
        return found
    while True:
        found.append(_requirement(tokens))
        symbol = tokens.next()
        if not symbol:
            return sorted(found, key=lambda requirement: requirement.key)
        if symbol != ",":
            raise _unparsable(f"found '{symbol}', expected: ',' or 'end of string'")
        if tokens.peek() in ("", ","):
            raise _unparsable(f"found '{tokens.peek()}', expected: identifier after ','")


def _unparsable(why: str) -> status.StatusError:
    return status.bad_request(f"unable to parse requirement: {why}")


def _requirement(tokens: _Tokens) -> Requirement:
    absent = tokens.peek() == "!"
    if absent:
        tokens.next()
    key = tokens.next()
    if (not key or key in _OPERATORS or key in "!,()") and key not in ("in", "notin"):
        raise _unparsable(f"found '{key}', expected: identifier")
    _check_key(key)
    symbol = tokens.peek()
    if symbol in ("", ","):
        return Requirement(key, "DoesNotExist" if absent else "Exists")
    if absent:
        raise _unparsable(f"found '{symbol}', expected: ',' or 'end of string'")
    operator = _OPERATORS.get(tokens.next())
    if operator is None:
        raise _unparsable(f"found '{symbol}', expected: in, notin, =, ==, !=, gt, lt")
    if symbol in ("in", "notin"):
        values = _values(tokens)
    else:
        values = ("",) if tokens.peek() in ("", ",") else (_value(tokens),)
    for value in values:
        if problems := names.label_value(value):
            raise status.bad_request(
                f"unable to parse requirement: values[0][{key}]: Invalid value: {status.show_value(value)}: "
                + "; ".join(problems)
            )
    if operator in ("Gt", "Lt") and not re.fullmatch(r"[-+]?\d{1,19}", values[0]):
        raise _unparsable(
            f"values[0][{key}]: Invalid value: {status.show_value(values[0])}: for 'Gt', 'Lt' operators, the value "
            "must be an integer"
        )
    return Requirement(key, operator, values)


def _value(tokens: _Tokens) -> str:
    symbol = tokens.next()
    if symbol in ("=", "==", "!=", "!", "(", ")", "<", ">"):
        raise _unparsable(f"found '{symbol}', expected: identifier")
    return symbol


def _check_key(key: str) -> None:
    if problems := names.qualified_name(key):
        raise status.bad_request(
            f"unable to parse requirement: <nil>: Invalid value: {status.show_value(key)}: " + "; ".join(problems)
        )


def _values(tokens: _Tokens) -> tuple[str, ...]:
    symbol = tokens.next()
    if symbol != "(":
        raise _unparsable(f"found '{symbol}', expected: '('")
    values: list[str] = []
    expects = True
    while True:
        symbol = tokens.next()
        if symbol == ")":
            if expects:
                values.append("")
            return tuple(sorted(set(values)))
        if symbol == ",":
            if expects:
                values.append("")
            expects = True
        elif not symbol or symbol in "()=!<>" or not expects:
            raise _unparsable(f"found '{symbol}', expected: ',', or ')'")
        else:
            values.append(symbol)
            expects = False


def format_labels(requirements: Sequence[Requirement]) -> str:
    """The text of a label selector."""
    parts = []
    for key, operator, values in ((each.key, each.operator, each.values) for each in requirements):
        match operator:
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
            case "In" if len(values) == 1:
                parts.append(f"{key}={values[0]}")
            case "NotIn" if len(values) == 1:
                parts.append(f"{key}!={values[0]}")
            case "Gt" | "Lt":
                parts.append(f"{key}{'>' if operator == 'Gt' else '<'}{values[0]}")
            case _:
                parts.append(f"{key} {operator.lower()} ({','.join(values)})")
    return ",".join(parts)


def label_matcher(requirements: Sequence[Requirement]) -> Matcher:
    """A function that says whether labels meet all requirements."""
    tests = [_test(requirement) for requirement in requirements]
    if len(tests) == 1:
        return tests[0]
    return lambda labels: all(test(labels) for test in tests)


def _test(requirement: Requirement) -> Matcher:
    key, values = requirement.key, frozenset(requirement.values)
    match requirement.operator:
        case "In":
            if len(values) == 1:
                (value,) = values
                return lambda labels: labels.get(key) == value
            return lambda labels: labels.get(key) in values
        case "NotIn":
            return lambda labels: labels.get(key) not in values
        case "Exists":
            return lambda labels: key in labels
        case "DoesNotExist":
            return lambda labels: key not in labels
        case _:
            return _comparison(key, int(next(iter(values))), requirement.operator == "Gt")


def _comparison(key: str, bound: int, greater: bool) -> Matcher:
    def test(labels: Mapping[str, str]) -> bool:
        try:
            number = int(labels[key])
        except (KeyError, ValueError):
            return False
        return number > bound if greater else number < bound

    return test


# -- LabelSelector objects


def from_label_selector(selector: Mapping[str, Any] | None) -> list[Requirement] | None:
    """The requirements of a LabelSelector; None where the selector is absent, which matches nothing."""
    if selector is None:
        return None
    found = [Requirement(key, "In", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        values = tuple(expression.get("values") or ())
        found.append(Requirement(expression.get("key", ""), expression.get("operator", ""), values))
    return found


def matches_label_selector(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether labels meet a LabelSelector."""
    requirements = from_label_selector(selector)
    return requirements is not None and label_matcher(requirements)(labels)


def validate_label_selector(selector: Any, path: str) -> list[FieldError]:
    """The rules of a LabelSelector."""
    errors: list[FieldError] = []
    if not isinstance(selector, Mapping):
        return errors
    errors += names.validate_labels(selector.get("matchLabels") or {}, f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator"), expression.get("values") or ()
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden_field(f"{where}.values", detail))
        else:
            errors.append(invalid_value(f"{where}.operator", operator or "", "not a valid selector operator"))
        key = expression.get("key") or ""
        errors += [invalid_value(f"{where}.key", key, problem) for problem in names.qualified_name(key)]
        for number, value in enumerate(values):
            errors += [
                invalid_value(f"{where}.values[{number}]", value, problem) for problem in names.label_value(value)
            ]
    return errors


# -- field selectors


def parse_fields(text: str) -> list[Requirement]:
    """The requirements of a field selector; operators are In (one value) and NotIn.

    Raises:
        StatusError: 400.
    """
    if len(text) > _LONGEST:
        raise status.bad_request("invalid selector: it is too long")
    found: list[Requirement] = []
    for term in _split(text):
        if not term:
            continue
        for sign, operator in (("!=", "NotIn"), ("==", "In"), ("=", "In")):
            key, is_there, value = _partition(term, sign)
            if is_there:
                found.append(Requirement(key, operator, (_unescape(value),)))
                break
        else:
            raise status.bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
    return found


def _split(text: str) -> list[str]:
    """The terms between commas that no backslash escapes."""
    terms, current, escaped = [], "", False
    for char in text:
        if char == "," and not escaped:
            terms.append(current)
            current = ""
            continue
        current += char
        escaped = char == "\\" and not escaped
    return [*terms, current]


def _partition(term: str, sign: str) -> tuple[str, bool, str]:
    """At the first `sign` of which no other operator is a part."""
    for index, char in enumerate(term):
        if char == "\\":
            break
        if term.startswith(sign, index):
            return term[:index], True, term[index + len(sign) :]
        if char in "=!":
            return term, False, ""
    return term, False, ""


def _unescape(value: str) -> str:
    result, index = [], 0
    while index < len(value):
        char = value[index]
        if char == "\\":
            index += 1
            char = value[index : index + 1]
            if char not in ("\\", ",", "="):
                raise status.bad_request(f"invalid field selector: invalid escape sequence in value: \\{char}")
        elif char in ",=":
            raise status.bad_request(f"invalid field selector: unescaped character in value: {char}")
        result.append(char)
        index += 1
    return "".join(result)
