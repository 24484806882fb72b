"""Cron's fields: what comes next. Oracle: crontab(5) and the documentation of CronJob."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.api import cron

START = datetime.datetime(2026, 2, 27, 22, 17, 30, tzinfo=datetime.UTC)  # a Friday


def following(text: str, zone: str = "", start: datetime.datetime = START) -> str:
    found = cron.parse(text, zone).next(start.timestamp())
    assert found is not None
    return datetime.datetime.fromtimestamp(found, datetime.UTC).strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("* * * * *", "2026-02-27 22:18"),
        ("*/15 * * * *", "2026-02-27 22:30"),
        ("5-10/5 * * * *", "2026-02-27 23:05"),
        ("0 9-17 * * mon-fri", "2026-03-02 09:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("0 0 1,15 * sat", "2026-02-28 00:00"),
        ("0 0 1 * *", "2026-03-01 00:00"),
        ("0 0 * * 7", "2026-03-01 00:00"),
        ("30 6 1 JAN ?", "2027-01-01 06:30"),
        ("@hourly", "2026-02-27 23:00"),
        ("@daily", "2026-02-28 00:00"),
        ("@weekly", "2026-03-01 00:00"),
        ("@monthly", "2026-03-01 00:00"),
        ("@yearly", "2027-01-01 00:00"),
    ],
)
def test_what_comes_next(text: str, wanted: str) -> None:
    assert following(text) == wanted


def test_zones_are_those_of_the_clock_on_the_wall() -> None:
    assert following("0 0 * * *", "Europe/Berlin") == "2026-02-27 23:00"
    # On 29 March 2026 there is no half past two in Berlin.
    before = datetime.datetime(2026, 3, 28, 12, tzinfo=datetime.UTC)
    assert following("30 2 * * *", "Europe/Berlin", before) == "2026-03-30 00:30"


def test_a_day_that_never_comes() -> None:
    assert cron.parse("0 0 31 2 *").next(START.timestamp()) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("* * * *", "expected exactly 5 fields, found 4"),
        ("60 * * * *", "above maximum (59)"),
        ("* * 0 * *", "below minimum (1)"),
        ("5-1 * * * *", "beyond end of range"),
        ("*/0 * * * *", "step of range should be a positive number"),
        ("a * * * *", "failed to parse int from a"),
        ("@sometimes", "unrecognized descriptor"),
        ("@every x", "failed to parse duration"),
    ],
)
def test_what_is_wrong_is_said(text: str, problem: str) -> None:
    with pytest.raises(cron.BadSchedule) as error:
        cron.parse(text)
    assert problem in str(error.value)


@given(st.text(alphabet="*/-,0123456789 monsu@?", max_size=30))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        found = cron.parse(text)
    except cron.BadSchedule:
        return
    moment = found.next(START.timestamp())
    assert moment is None or moment > START.timestamp()
