"""Rows as docker's tables: columns of their width with three spaces between, or any `--format`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from windlass.cli.templates import Template, to_json


def print_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    columns: Sequence[str],
    titles: Mapping[str, str],
    template: str = "",
    quiet_field: str | None = None,
) -> None:
    """Print `rows` by a template (`table …`, `json`, or any), or as a table of `columns`.

    With `quiet_field` only that field is printed.
    """
    if quiet_field:
        for row in rows:
            print(_text(row[quiet_field]))
        return
    if template in {"", "table"}:
        print_table(
            [titles.get(name, name.upper()) for name in columns], ([_text(r[name]) for name in columns] for r in rows)
        )
    elif template == "json":
        for row in rows:
            print(to_json(_plain(row)))
    elif template.startswith("table "):
        parsed = Template(template.removeprefix("table ").lstrip())
        lines = [parsed.headers(titles), *(parsed.render(row) for row in rows)]
        cells = [line.split("\t") for line in lines]
        print_table(cells[0], cells[1:])
    else:
        parsed = Template(template)
        for row in rows:
            print(parsed.render(row))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not callable(value)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A header and rows in aligned columns."""
    sys.stdout.write(format_table(header, rows))


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same as text, one line for each row, without blanks at the ends where the last column is empty."""
    lines = [list(header), *(list(row) for row in rows)]
    count = max(len(line) for line in lines)
    widths = [max((len(line[index]) for line in lines if index < len(line)), default=0) for index in range(count)]
    text = []
    for line in lines:
        last = len(line) - 1
        text.append("".join(cell if i == last else cell.ljust(widths[i] + 3) for i, cell in enumerate(line)))
    return "\n".join(text) + "\n"
