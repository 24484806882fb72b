"""Parsers of what control files hold: what they accept, and that nothing else gets through or costs much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kernel.cgroups.values import (
    Operation,
    format_list,
    io_weight_from_blkio,
    parse_device,
    parse_flat,
    parse_limit,
    parse_list,
    parse_nested,
    parse_number,
    parse_operations,
    weight_from_shares,
)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", set()), ("0", {0}), ("0-3", {0, 1, 2, 3}), ("0-1,7", {0, 1, 7}), ("3,1,3\n", {1, 3}), ("8191", {8191})],
)
def test_a_list_of_numbers_and_ranges_is_a_set(text: str, numbers: set[int]) -> None:
    assert parse_list(text) == numbers


@pytest.mark.parametrize(
    "text", ["-", "1-", "-1", "3-1", "a", "0,,1", "0 1", "0-1-2", "8192", "0-8192", "0-4294967295", "0x1", "+1", "١"]
)
def test_any_other_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a number or a range|backwards|out of range"):
        parse_list(text)


def test_a_list_that_never_ends_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="too long"):
        parse_list("0," * 40_000 + "0")


@given(st.sets(st.integers(0, 8191), max_size=300))
def test_a_set_survives_being_written_and_read(numbers: set[int]) -> None:
    assert parse_list(format_list(numbers)) == numbers


@given(st.text(max_size=200))
def test_no_text_breaks_a_parser_in_another_way(text: str) -> None:
    for parse in (parse_list, parse_number, parse_limit, parse_flat, parse_nested, parse_operations, parse_device):
        try:
            parse(text)
        except ValueError:
            continue


def test_limits() -> None:
    assert parse_limit("max\n") is None
    assert parse_limit("-1") is None
    assert parse_limit("9223372036854771712\n") is None
    assert parse_limit("67108864\n") == 67108864


def test_flat_keyed_file() -> None:
    assert parse_flat("nr_periods 5\nthrottled_usec 0\n") == {"nr_periods": 5, "throttled_usec": 0}
    with pytest.raises(ValueError, match="not a key and a number"):
        parse_flat("nr_periods five\n")


def test_nested_keyed_file() -> None:
    text = "8:0 rbytes=4096 wbytes=0\n8:16 \n252:0 rbps=max\n"
    assert parse_nested(text) == {"8:0": {"rbytes": "4096", "wbytes": "0"}, "8:16": {}, "252:0": {"rbps": "max"}}


def test_operations_leave_the_total_out() -> None:
    text = "8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n"
    assert parse_operations(text) == (Operation(8, 0, "Read", 4096), Operation(8, 0, "Total", 4096))


@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 1), (2, 1), (512, 59), (1024, 100), (2048, 174), (262144, 10000), (2**63, 10000)]
)
def test_shares_become_a_weight_as_in_current_runtimes(shares: int, weight: int) -> None:
    assert weight_from_shares(shares) == weight


@given(st.integers(2, 262143))
def test_more_shares_are_never_less_weight(shares: int) -> None:
    assert 1 <= weight_from_shares(shares) <= weight_from_shares(shares + 1) <= 10000


def test_blkio_weight_spans_the_io_range() -> None:
    assert [io_weight_from_blkio(weight) for weight in (10, 500, 1000)] == [1, 4950, 10000]
