"""Which volumes a list or a prune means: the filters of the Engine API. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from windlass.errors import InvalidParameter
from windlass.volumes.records import Record

Filters = Mapping[str, Sequence[str]]
_BOOLEANS: Final = {"1": True, "true": True, "0": False, "false": False}


def boolean(filters: Filters, name: str) -> bool | None:
    """A filter that is true or false; None if it is not given. Raises `InvalidParameter`."""
    values = filters.get(name)
    if not values:
        return None
    wanted = {_BOOLEANS.get(value) for value in values}
    if len(wanted) != 1 or None in wanted:
        raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
    return wanted.pop()


def has_label(record: Record, wanted: str) -> bool:
    """`key`, or `key=value`."""
    key, separator, value = wanted.partition("=")
    labels = record.labels or {}
    return key in labels and (not separator or labels[key] == value)


def has_name(record: Record, wanted: str) -> bool:
    """The name itself, a part of it, or a regular expression that is found in it."""
    if wanted in record.name:
        return True
    try:
        return re.search(wanted, record.name) is not None
    except re.error:
        return False


def listed(record: Record, filters: Filters, *, in_use: bool) -> bool:
    """Does `GET /volumes` with these filters show it? Values of a name are alternatives, but of `label` all count."""
    dangling = boolean(filters, "dangling")
    if dangling is not None and dangling == in_use:
        return False
    if (drivers := filters.get("driver")) and record.driver not in drivers:
        return False
    if (names := filters.get("name")) and not any(has_name(record, wanted) for wanted in names):
        return False
    return all(has_label(record, wanted) for wanted in filters.get("label") or ())


def pruned(record: Record, filters: Filters) -> bool:
    """Does a prune with these filters take it, once nobody uses it? Without `all`, only volumes that nobody named."""
    if not boolean(filters, "all") and not record.anonymous:
        return False
    if not all(has_label(record, wanted) for wanted in filters.get("label") or ()):
        return False
    unwanted = filters.get("label!")
    return not (unwanted and all(has_label(record, wanted) for wanted in unwanted))
