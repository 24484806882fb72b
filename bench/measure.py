"""Time things the same way for everybody: repeated, interleaved between peers, reported as medians and ratios."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One measured work: seconds (or bytes, by `unit`) for each engine; the first is ours."""

    work: str
    unit: str
    values: Mapping[str, float]


def median_seconds(work: Callable[[], object], *, runs: int) -> float:
    """Median wall time in seconds of `runs` calls, after one that warms up."""
    work()
    samples = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def interleaved(works: Mapping[str, Callable[[], object]], *, runs: int) -> dict[str, float]:
    """Median wall time of each work; rounds go through all of them in turn, so that a noisy minute hits everybody."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    for name, work in works.items():
        progress(f"  warming up {name}")
        work()
    for _ in range(runs):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            samples[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in samples.items()}


def progress(text: str) -> None:
    """Say on standard error what is being measured."""
    print(text, file=sys.stderr, flush=True)


def human(value: float, unit: str) -> str:
    """A figure with three significant digits and its unit."""
    if unit == "bytes":
        return f"{value / 1e6:.2f} MB"
    if value < 1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.2f} s"


def cells(row: Row) -> list[str]:
    """Our figure, then each peer's with its ratio to ours (over 1: we are faster or smaller)."""
    ours = next(iter(row.values.values()))
    shown = []
    for index, value in enumerate(row.values.values()):
        ratio = "" if index == 0 or not ours else f" ({value / ours:.1f}×)"
        shown.append(human(value, row.unit) + ratio)
    return shown


def show(title: str, rows: list[Row]) -> None:
    """Print a section as a table on the terminal."""
    engines = list(dict.fromkeys(name for row in rows for name in row.values))
    table = Table(title=title, title_justify="left")
    table.add_column("work")
    for name in engines:
        table.add_column(name, justify="right")
    for row in rows:
        by_name = dict(zip(row.values, cells(row), strict=True))
        table.add_row(row.work, *(by_name.get(name, "") for name in engines))
    Console().print(table)


def markdown(title: str, rows: list[Row]) -> str:
    """The same table for RESULTS.md."""
    engines = list(dict.fromkeys(name for row in rows for name in row.values))
    lines = [f"## {title}", "", f"| work | {' | '.join(engines)} |", "|---" * (len(engines) + 1) + "|"]
    for row in rows:
        by_name = dict(zip(row.values, cells(row), strict=True))
        lines.append(f"| {row.work} | {' | '.join(by_name.get(name, '') for name in engines)} |")
    return "\n".join(lines) + "\n"
