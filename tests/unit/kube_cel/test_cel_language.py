"""The language: values of expressions, types that do not fit, bounds that hold."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.cel import CompileError, CostExceeded, Environment, EvaluationError
from windlass.kube.cel import types as t

ENVIRONMENT = Environment(
    {
        "i": t.INT,
        "s": t.STRING,
        "l": t.list_of(t.INT),
        "m": t.map_of(t.STRING, t.INT),
        "d": t.DYN,
        "b": t.BOOL,
    }
)
VALUES: dict[str, Any] = {
    "i": 3,
    "s": "hello",
    "l": [1, 2, 3],
    "m": {"k": 1, "z": 2},
    "d": {"a": [1, {"b": "c"}], "n": None},
    "b": True,
}


def value(source: str) -> Any:
    return ENVIRONMENT.compile(source).evaluate(VALUES)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("i + 1 == 4", True),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("1.5 + 2.0", 3.5),
        ("1 < 1.5", True),
        ("1u + 2u == 3u", True),
        ("dyn(2u) == dyn(2)", True),
        ("'a' + \"b\"", "ab"),
        ("r'\\d'", "\\d"),
        ("'\\u00e9\\x41\\n'", "éA\n"),
        ("b'\\xff'", b"\xff"),
        ("'''multi\nline'''", "multi\nline"),
        ("s.contains('ell') && i < 4", True),
        ("s.startsWith('he') && s.endsWith('lo')", True),
        ("s.matches('^h.*o$')", True),
        ("size(s) + l.size() + size(m)", 10),
        ("l.all(x, x > 0)", True),
        ("l.exists(x, x == 2)", True),
        ("l.exists_one(x, x > 2)", True),
        ("l.map(x, x * 2)", [2, 4, 6]),
        ("l.map(x, x > 1, x * 2)", [4, 6]),
        ("l.filter(x, x != 2)", [1, 3]),
        ("m.all(k, m[k] > 0)", True),
        ("m.all(k, v, v > 0)", True),
        ("m.transformList(k, v, k + string(v))", ["k1", "z2"]),
        ("m.transformMap(k, v, v + 1)", {"k": 2, "z": 3}),
        ("[1, 2][1]", 2),
        ("{'a': 1}.a + {'a': 1}['a']", 2),
        ("has(d.a) && !has(d.x) && !has(d.n)", True),
        ("d.a[1].b", "c"),
        ("'k' in m && 2 in l && !('q' in m)", True),
        ("b ? 'yes' : 'no'", "yes"),
        ("true || d.nothing", True),
        ("d.nothing || true", True),
        ("false && d.nothing", False),
        ("type(i) == int && type(s) != int", True),
        ("int('5') + int(2.9)", 7),
        ("string(1.5) + string(true) + string(3u)", "1.5true3"),
        ("duration('1h30m').getMinutes()", 90),
        ("timestamp('2026-01-02T03:04:05Z').getFullYear()", 2026),
        ("timestamp('2026-01-02T03:04:05Z').getHours('America/New_York')", 22),
        ("timestamp('2026-01-02T00:00:00Z') + duration('24h') == timestamp('2026-01-03T00:00:00Z')", True),
        ("cel.bind(x, i + 1, x * x)", 16),
        ("optional.of(3).orValue(4) + optional.none().orValue(1)", 4),
        ("d.?zz.orValue('none')", "none"),
        ("l[?7].hasValue()", False),
        ("[?optional.of(1), ?optional.none(), 2]", [1, 2]),
        ("optional.of(2).optMap(x, x + 1).value()", 3),
        ("'a,b,c'.split(',').join('-').upperAscii()", "A-B-C"),
        ("'hello'.substring(1, 3) + 'x'.charAt(0)", "elx"),
        ("' x '.trim().replace('x', 'y')", "y"),
        ("[3, 1, 2].sort() == [1, 2, 3] && [1, 1, 2].distinct().size() == 2", True),
        ("[1, 2].sum() + [1, 5].max() + [4, 9].min()", 12),
        ("'abc 123'.find('[0-9]+')", "123"),
        ("'1 2 3'.findAll('[0-9]', 2)", ["1", "2"]),
        ("quantity('1Gi').isGreaterThan(quantity('1000Mi'))", True),
        ("quantity('1').add(quantity('500m')).compareTo(quantity('1500m'))", 0),
        ("ip('10.1.2.3').family() == 4 && ip('::1').isLoopback()", True),
        ("cidr('10.0.0.0/8').containsIP('10.9.9.9') && !isCIDR('10.0.0.0')", True),
        ("url('https://e.com:80/p?q=1').getHostname() + url('https://e.com:80/p').getPort()", "e.com80"),
        ("sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2], [2, 1])", True),
        ("math.greatest(1, 7, 3) + math.least([4, 2])", 9),
        ("format.dns1123Label().validate('Not_Valid').hasValue()", True),
        ("!format.dns1123Label().validate('valid').hasValue()", True),
        ("base64.decode(base64.encode(b'abc')) == b'abc'", True),
        ("jsonpatch.escapeKey('a/b~c')", "a~1b~0c"),
    ],
)
def test_values(source: str, expected: Any) -> None:
    assert value(source) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("y", "1:1: undeclared reference to 'y'"),
        ("i + 'a'", "found no matching overload for '_+_' applied to '(int, string)'"),
        ("s.foo()", "undeclared reference to 'foo'"),
        ("l.all(x, x)", "expected type 'bool' but found 'int'"),
        ("i.y", "type 'int' does not support field selection"),
        ("1 +", "Syntax error"),
        ("'a' == 1", "found no matching overload for '_==_'"),
        ("i ? 1 : 2", "found no matching overload for '_?_:_'"),
        ("has(i)", "invalid argument to has() macro"),
        ("if", "reserved identifier"),
        ("9223372036854775808", "invalid int literal"),
        ("'\\q'", "unable to unescape"),
        ("i @ 1", "token recognition error"),
        ("Unknown{a: 1}", "undeclared reference to 'Unknown'"),
        ("s.map(x, x)", "cannot be range of a comprehension"),
    ],
)
def test_what_does_not_compile(source: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile(source)
    assert message in str(caught.value)


def test_a_message_shows_the_place() -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile("i +\n  'a'")
    assert str(caught.value).startswith("ERROR: <input>:1:3:") and str(caught.value).endswith("\n | i +\n | ..^")


@pytest.mark.parametrize(
    "source",
    [
        "1 / 0",
        "l[9]",
        "m['nothing']",
        "d.nothing",
        "9223372036854775807 + 1",
        "int('x')",
        "timestamp('yesterday')",
        "d + 1",
        "quantity('x')",
        "optional.none().value()",
        "s.substring(9)",
        "'x'.matches('(')",
        "dyn(1) ? 1 : 2",
    ],
)
def test_what_has_no_value(source: str) -> None:
    with pytest.raises(EvaluationError):
        value(source)


def test_the_budget_ends_what_costs_too_much() -> None:
    program = ENVIRONMENT.compile("l.all(a, l.all(b, l.all(c, a + b + c >= 0)))")
    assert program.evaluate({"l": list(range(10))}) is True
    assert program.last_cost > 1000
    with pytest.raises(CostExceeded):
        program.evaluate({"l": list(range(500))})
    with pytest.raises(CostExceeded):
        ENVIRONMENT.compile("l.all(a, l.all(b, true || d.x))").evaluate({"l": list(range(2000)), "d": {}})


def test_evil_patterns_take_no_time() -> None:
    assert ENVIRONMENT.compile("s.matches('(a+)+$')").evaluate({"s": "a" * 10_000 + "b"}) is False


def test_deep_and_long_expressions_are_refused() -> None:
    for source in ("(" * 5000 + "1" + ")" * 5000, "[" * 5000, "1" + "+1" * 60_000, "!" * 3000 + "b"):
        with contextlib.suppress(CompileError):
            ENVIRONMENT.compile(source)


_WORDS = st.sampled_from(
    [
        "i",
        "s",
        "l",
        "m",
        "d",
        "b",
        "1",
        "'x'",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        ",",
        ":",
        "?",
        "+",
        "-",
        "*",
        "/",
        "%",
        "<",
        "==",
        "&&",
        "||",
        "!",
        "in",
        "has",
        "all",
        "map",
        "size",
        "true",
        "null",
        "x",
    ]
)


@given(st.lists(_WORDS, max_size=14).map(" ".join))
def test_any_text_is_an_expression_or_refused(source: str) -> None:
    try:
        program = ENVIRONMENT.compile(source)
    except CompileError:
        return
    with contextlib.suppress(EvaluationError):
        program.evaluate(VALUES, limit=10_000)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integers_are_of_64_bits(a: int, b: int) -> None:
    for operator, exact in (("+", a + b), ("-", a - b), ("*", a * b)):
        program = _PROGRAMS[operator]
        if -(2**63) <= exact < 2**63:
            assert program.evaluate({"i": a, "j": b}) == exact
        else:
            with pytest.raises(EvaluationError):
                program.evaluate({"i": a, "j": b})


_TWO = Environment({"i": t.INT, "j": t.INT})
_PROGRAMS = {operator: _TWO.compile(f"i {operator} j") for operator in "+-*"}


def test_times_are_times() -> None:
    moment = value("timestamp('2026-01-02T03:04:05.5Z')")
    assert moment == datetime.datetime(2026, 1, 2, 3, 4, 5, 500_000, datetime.UTC)
