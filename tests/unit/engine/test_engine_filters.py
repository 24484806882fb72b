"""How filters match."""

from __future__ import annotations

import pytest

from windlass.engine import filters
from windlass.errors import InvalidParameter


def test_no_values_match_everything() -> None:
    for match in (filters.exact, filters.pattern, filters.fuzzy):
        assert match({}, "name", "x")
        assert match({"name": []}, "name", "x")


def test_values_are_alternatives() -> None:
    assert filters.exact({"status": ["created", "running"]}, "status", "running")
    assert not filters.exact({"status": ["created"]}, "status", "running")


def test_names_match_as_regular_expressions() -> None:
    assert filters.pattern({"name": ["^web-[0-9]+$"]}, "name", "web-1")
    assert filters.pattern({"name": ["eb"]}, "name", "web")
    assert not filters.pattern({"name": ["(unfinished"]}, "name", "web")
    assert filters.pattern({"name": ["(unfinished"]}, "name", "(unfinished")


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (["tier"], True),
        (["tier=front"], True),
        (["tier=back"], False),
        (["tier=front", "zone"], False),
        (["tier=front", "env=a=b"], True),
    ],
)
def test_all_wanted_labels_must_be_there(wanted: list[str], matches: bool) -> None:
    assert filters.labels({"label": wanted}, "label", {"tier": "front", "env": "a=b"}) is matches


def test_prune_keeps_what_has_an_excluded_label() -> None:
    assert filters.prune_labels({"label!": ["keep"]}, {"a": "1"})
    assert not filters.prune_labels({"label!": ["keep"]}, {"keep": ""})
    assert not filters.prune_labels({"label": ["a"], "label!": ["keep"]}, {"a": "", "keep": ""})


@pytest.mark.parametrize("values", [["maybe"], ["true", "false"], []])
def test_a_boolean_is_one_or_the_other(values: list[str]) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter 'dangling"):
        filters.boolean({"dangling": values}, "dangling", default=True)
    assert filters.boolean({"dangling": ["1"]}, "dangling", default=False)
    assert not filters.boolean({}, "dangling", default=False)
