"""Cron's five fields: minute, hour, day of month, month, day of week.

    */15 9-17 * * mon-fri      every quarter of an hour, in office hours
    @daily                     0 0 * * *
    0 0 1,15 * fri             on the 1st, the 15th and on Fridays: where both days are restricted, either will do

Times are those of a zone; where its clock is put forward, what falls into the gap is left out.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from windlass.kube.api import times

_NAMED: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MOST_YEARS: Final = 5
_EVERY: Final = "@every "


class BadSchedule(ValueError):
    """A text is no schedule; the message says why."""


@dataclass(frozen=True)
class Schedule:
    """Sets of numbers, one for each field; `any_day` and `any_weekday`: that field restricts nothing."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    zone: ZoneInfo
    every: float = 0.0

    def next(self, after: float) -> float | None:
        """The first moment after another one (seconds since 1970), None where there is none in five years."""
        if self.every:
            return float(int(after) + self.every)
        local = datetime.datetime.fromtimestamp(after, self.zone).replace(second=0, microsecond=0, fold=0)
        day = local.date()
        last = day.replace(year=day.year + _MOST_YEARS, day=1)
        while day < last:
            if day.month in self.months and self._is_day(day):
                found = self._on(day, after)
                if found is not None:
                    return found
            day += datetime.timedelta(days=1)
        return None

    def _is_day(self, day: datetime.date) -> bool:
        of_month, of_week = day.day in self.days, (day.weekday() + 1) % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return of_month and of_week
        return of_month or of_week

    def _on(self, day: datetime.date, after: float) -> float | None:
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                moment = datetime.datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone)
                seconds = moment.timestamp()
                if seconds <= after:
                    continue
                back = datetime.datetime.fromtimestamp(seconds, self.zone)
                if (back.hour, back.minute) == (hour, minute):
                    return seconds
        return None


def parse(text: str, zone: str = "") -> Schedule:
    """Read a schedule. `zone` is a name of the zone database, "" for UTC.

    Raises:
        BadSchedule
    """
    found = _zone(zone)
    text = text.strip()
    if text.startswith(_EVERY):
        try:
            every = times.parse_duration(text[len(_EVERY) :].strip())
        except ValueError as error:
            raise BadSchedule(f"failed to parse duration {text}: {error}") from None
        nothing: frozenset[int] = frozenset()
        return Schedule(nothing, nothing, nothing, nothing, nothing, True, True, found, max(every // 1, 1.0))
    fields = _NAMED.get(text.lower(), text).split()
    if text.startswith("@") and len(fields) != 5:
        raise BadSchedule(f"unrecognized descriptor: {text}")
    if len(fields) != 5:
        raise BadSchedule(f"expected exactly 5 fields, found {len(fields)}: [{text}]")
    weekdays = _field(fields[4], 0, 7, _DAYS, 0)
    return Schedule(
        _field(fields[0], 0, 59),
        _field(fields[1], 0, 23),
        _field(fields[2], 1, 31),
        _field(fields[3], 1, 12, _MONTHS, 1),
        frozenset(each % 7 for each in weekdays),
        fields[2][0] in "*?",
        fields[4][0] in "*?",
        found,
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadSchedule(f"unknown time zone {name}") from None


def _field(text: str, least: int, most: int, names: Sequence[str] = (), first: int = 0) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = 1
        if slash:
            if not step_text.isdigit() or not int(step_text):
                raise BadSchedule(f"step of range should be a positive number: {part}")
            step = int(step_text)
        if span in ("*", "?"):
            begin, end = least, most
        else:
            low, dash, high = span.partition("-")
            begin = _number(low, names, first)
            end = _number(high, names, first) if dash else (most if slash else begin)
        if begin < least:
            raise BadSchedule(f"beginning of range ({begin}) below minimum ({least}): {part}")
        if end > most:
            raise BadSchedule(f"end of range ({end}) above maximum ({most}): {part}")
        if begin > end:
            raise BadSchedule(f"beginning of range ({begin}) beyond end of range ({end}): {part}")
        found.update(range(begin, end + 1, step))
    return frozenset(found)


def _number(text: str, names: Sequence[str], first: int) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + first
    if not text.isascii() or not text.isdigit():
        raise BadSchedule(f"failed to parse int from {text}")
    return int(text)
