"""Moments and durations as clients write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.engine.timestamps import (
    SECOND,
    human_duration,
    parse_duration,
    parse_moment,
    parse_rfc3339,
    rfc3339,
)

MOMENT = 1_700_000_000 * SECOND  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (MOMENT, "2023-11-14T22:13:20Z"),
        (MOMENT + 120_000_000, "2023-11-14T22:13:20.12Z"),
        (MOMENT + 1, "2023-11-14T22:13:20.000000001Z"),
    ],
)
def test_go_prints_no_trailing_zeros(moment: int, text: str) -> None:
    assert rfc3339(moment) == text
    assert parse_rfc3339(text) == moment


@given(st.integers(min_value=1, max_value=4_000_000_000 * SECOND))
def test_what_is_written_is_read_back(moment: int) -> None:
    assert parse_rfc3339(rfc3339(moment)) == moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023-11-14T22:13:20+01:00", MOMENT - 3600 * SECOND),
        ("2023-11-14T22:13:20-00:30", MOMENT + 1800 * SECOND),
        ("2023-11-14", MOMENT - (22 * 3600 + 13 * 60 + 20) * SECOND),
        ("2023-11-14T22:13", MOMENT - 20 * SECOND),
        ("1700000000", MOMENT),
        ("1700000000.5", MOMENT + SECOND // 2),
        ("10m", MOMENT - 600 * SECOND),
        ("1h30m", MOMENT - 5400 * SECOND),
        ("0", 0),
    ],
)
def test_a_filter_takes_times_and_durations(text: str, moment: int) -> None:
    assert parse_moment(text, now=MOMENT) == moment


@pytest.mark.parametrize("text", ["", " ", "yesterday", "2023-13-01", "2023-02-30", "2023-11-14T25:00:00Z", "1.2.3x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"parse|time|range"):
        parse_moment(text, now=MOMENT)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_an_error(text: str) -> None:
    try:
        assert isinstance(parse_moment(text, now=MOMENT), int)
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("text", "nanoseconds"), [("1.5s", 1_500_000_000), ("-2ms", -2_000_000), ("0", 0), ("1h0m1ns", 3600 * SECOND + 1)]
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_a_length_of_time_in_words(seconds: int, words: str) -> None:
    assert human_duration(seconds * SECOND) == words
