"""Names, selectors, quantities and times: the small languages inside objects and queries."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.api import names, quantity, selectors, times
from windlass.kube.api.identity import Requirement
from windlass.kube.api.status import StatusError


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("web", 0),
        ("web-1", 0),
        ("1web", 0),
        ("Web", 1),
        ("web.1", 1),
        ("-web", 1),
        ("", 1),
        ("a" * 63, 0),
        ("a" * 64, 1),
        ("A" * 64, 2),
    ],
)
def test_dns_labels(text: str, problems: int) -> None:
    assert len(names.dns1123_label(text)) == problems


def test_the_words_are_apimachinerys() -> None:
    (problem,) = names.dns1123_subdomain("Bad_Name")
    assert problem == (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    )
    assert names.config_key("..data") == ["must not start with '..'"]
    assert names.port_name("http--x") == ["must not contain consecutive hyphens"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", [("a", "In", ("b",))]),
        ("a==b", [("a", "In", ("b",))]),
        ("a!=b", [("a", "NotIn", ("b",))]),
        ("a", [("a", "Exists", ())]),
        ("!a", [("a", "DoesNotExist", ())]),
        ("a in (x,y)", [("a", "In", ("x", "y"))]),
        ("a notin(x)", [("a", "NotIn", ("x",))]),
        ("a in ()", [("a", "In", ("",))]),
        ("a>5", [("a", "Gt", ("5",))]),
        ("b=, a in (x , y)", [("a", "In", ("x", "y")), ("b", "In", ("",))]),
        ("example.com/a=b", [("example.com/a", "In", ("b",))]),
        ("", []),
        ("  ", []),
    ],
)
def test_label_selectors(text: str, expected: list[tuple[str, str, tuple[str, ...]]]) -> None:
    assert [(each.key, each.operator, each.values) for each in selectors.parse_labels(text)] == expected


@pytest.mark.parametrize(
    "text", ["a=b,", ",a", "a in x", "a in (x", "=b", "a=-b-", "a/b/c=d", "a>x", "!a=b", "a b", "()"]
)
def test_malformed_label_selectors_are_refused(text: str) -> None:
    with pytest.raises(StatusError) as caught:
        selectors.parse_labels(text)
    assert caught.value.code == 400


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    for parse in (selectors.parse_labels, selectors.parse_fields):
        with contextlib.suppress(StatusError):
            parse(text)


_KEYS = st.sampled_from(["a", "b", "example.com/c"])
_VALUES = st.sampled_from(["x", "y", "z-1"])
_REQUIREMENTS = st.one_of(
    st.builds(lambda key, values: Requirement(key, "In", tuple(sorted(values))), _KEYS, st.sets(_VALUES, min_size=1)),
    st.builds(
        lambda key, values: Requirement(key, "NotIn", tuple(sorted(values))), _KEYS, st.sets(_VALUES, min_size=1)
    ),
    st.builds(Requirement, _KEYS, st.sampled_from(["Exists", "DoesNotExist"])),
)


@given(st.lists(_REQUIREMENTS, max_size=4), st.dictionaries(_KEYS, _VALUES))
def test_selectors_go_round_and_match_by_their_meaning(found: list[Requirement], labels: dict[str, str]) -> None:
    again = selectors.parse_labels(selectors.format_labels(found))
    assert sorted(again, key=repr) == sorted(found, key=repr)
    meanings = {
        "In": lambda r: labels.get(r.key) in r.values,
        "NotIn": lambda r: labels.get(r.key) not in r.values,
        "Exists": lambda r: r.key in labels,
        "DoesNotExist": lambda r: r.key not in labels,
    }
    assert selectors.label_matcher(found)(labels) == all(meanings[each.operator](each) for each in found)


def test_field_selectors_know_escapes() -> None:
    found = selectors.parse_fields(r"metadata.name=a\,b,status.phase!=Running,x==\=")
    assert found == [
        Requirement("metadata.name", "In", ("a,b",)),
        Requirement("status.phase", "NotIn", ("Running",)),
        Requirement("x", "In", ("=",)),
    ]
    with pytest.raises(StatusError):
        selectors.parse_fields("metadata.name")


def test_label_selector_objects() -> None:
    selector = {"matchLabels": {"a": "x"}, "matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["y"]}]}
    assert selectors.matches_label_selector(selector, {"a": "x"})
    assert not selectors.matches_label_selector(selector, {"a": "x", "b": "y"})
    assert not selectors.matches_label_selector(None, {"a": "x"})
    assert selectors.matches_label_selector({}, {})
    bad = {"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "b", "operator": "Like", "values": ["x"]}]}
    assert [str(error) for error in selectors.validate_label_selector(bad, "spec.selector")] == [
        "spec.selector.matchExpressions[0].values: Required value: "
        "must be specified when `operator` is 'In' or 'NotIn'",
        'spec.selector.matchExpressions[1].operator: Invalid value: "Like": not a valid selector operator',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"),
        ("1", "1"),
        ("0.5", "500m"),
        ("500m", "500m"),
        ("1000m", "1"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1000Ki", "1000Ki"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("1000k", "1M"),
        ("128974848", "128974848"),
        ("0.0001", "100u"),
        ("-1.5", "-1500m"),
        (".5Mi", "512Ki"),
        ("5.", "5"),
        ("0.1Ki", "102400m"),
        ("512", "512"),
        ("1Ei", "1Ei"),
    ],
)
def test_quantities_have_one_form(text: str, expected: str) -> None:
    assert quantity.canonical(text) == expected
    assert quantity.canonical(expected) == expected


@pytest.mark.parametrize("text", ["", "a", "1.1.1", "1kk", "1 Gi", "--1", "1e", "1e9999", "1m1", "0x1", "1" * 200])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(quantity.BadQuantity):
        quantity.parse(text)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["n", "u", "m", "", "k", "M", "Ki", "Mi"]))
def test_quantities_are_exact(number: int, suffix: str) -> None:
    scale = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1)}
    scale |= {"k": Fraction(1000), "M": Fraction(10**6), "Ki": Fraction(1024), "Mi": Fraction(1 << 20)}
    found = quantity.parse(f"{number}{suffix}")
    assert Fraction(found.nano, 10**9) == number * scale[suffix]
    assert quantity.parse(str(found)).nano == found.nano
    assert found.plus(found).minus(found).nano == found.nano


def test_times_and_durations() -> None:
    assert times.parse_time("2026-01-02T03:04:05Z") == 1767323045
    assert times.parse_time("2026-01-02T05:04:05.5+02:00") == 1767323045.5
    assert times.format_time(1767323045.9) == "2026-01-02T03:04:05Z"
    for text in ("1h30m0s", "5s", "1.5s", "250ms", "0s", "-2m0s"):
        assert times.format_duration(times.parse_duration(text)) == text
    for text in ("2026-13-02T03:04:05Z", "yesterday", "2026-01-02 03:04:05"):
        with pytest.raises(ValueError, match=r"pars|month"):
            times.parse_time(text)
    with pytest.raises(ValueError, match="invalid duration"):
        times.parse_duration("5 s")
    ages = {5: "5s", 119: "119s", 125: "2m5s", 600: "10m", 3600 * 4 + 60: "4h1m", 86400 * 3: "3d", 86400 * 800: "2y70d"}
    assert {seconds: times.human_duration(seconds) for seconds in ages} == ages
