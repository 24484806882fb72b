"""The indexes of an Indexed job: sets of numbers, stated as intervals.

    0,2-4,7     two indexes beside each other stay apart: 0,1 and not 0-1

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
"""

from __future__ import annotations

from collections.abc import Iterable

Indexes = frozenset[int]


def parse(text: str | None, completions: int) -> Indexes:
    """The indexes below `completions` that a text states; what is no number is left out."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, sign, last = part.partition("-")
        if first.isdigit() and (last.isdigit() if sign else True):
            found.update(range(int(first), min(int(last or first), completions - 1) + 1))
    return frozenset(found)


def format(indexes: Iterable[int]) -> str:
    """The text of a set of indexes."""
    parts: list[str] = []
    ordered = sorted(indexes)
    begin = 0
    for place, index in enumerate(ordered):
        if place + 1 < len(ordered) and ordered[place + 1] == index + 1:
            continue
        first = ordered[begin]
        begin = place + 1
        if index == first:
            parts.append(str(index))
        else:
            parts.append(f"{first}{',' if index == first + 1 else '-'}{index}")
    return ",".join(parts)


def pending(taken: Iterable[int], count: int, completions: int) -> list[int]:
    """The first `count` indexes that nobody has taken."""
    gone = frozenset(taken)
    found: list[int] = []
    for index in range(completions):
        if len(found) >= count:
            break
        if index not in gone:
            found.append(index)
    return found
