"""How the Engine API's filters match: a filter is a name with several values; values are alternatives, names add up.

The routes have checked the names already and hand over a mapping of name to values. A name without values matches
everything, like an absent one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from windlass.errors import InvalidParameter

Filters = Mapping[str, Sequence[str]]

NO_FILTERS: Filters = {}


def exact(filters: Filters, name: str, value: str) -> bool:
    """True if `value` is one of the wanted values."""
    wanted = filters.get(name)
    return not wanted or value in wanted


def pattern(filters: Filters, name: str, value: str) -> bool:
    """True if `value` equals one of the wanted values or contains a match of one as a regular expression."""
    wanted = filters.get(name)
    if not wanted or value in wanted:
        return True
    for expression in wanted:
        try:
            if re.search(expression, value):
                return True
        except re.error:
            continue
    return False


def fuzzy(filters: Filters, name: str, value: str) -> bool:
    """True if one of the wanted values is a prefix of `value`."""
    wanted = filters.get(name)
    return not wanted or any(value.startswith(prefix) for prefix in wanted)


def labels(filters: Filters, name: str, present: Mapping[str, str] | None) -> bool:
    """True if every wanted `key` or `key=value` is among the labels."""
    for wanted in filters.get(name) or ():
        key, separator, value = wanted.partition("=")
        if not present or key not in present or (separator and present[key] != value):
            return False
    return True


def prune_labels(filters: Filters, present: Mapping[str, str] | None) -> bool:
    """The `label` and `label!` filters of the prune endpoints."""
    if not labels(filters, "label", present):
        return False
    return not (filters.get("label!") and labels(filters, "label!", present))


def boolean(filters: Filters, name: str, *, default: bool) -> bool:
    """A filter that is true or false. Raises `InvalidParameter` when it is neither or both."""
    if name not in filters:
        return default
    values = filters[name]
    no = "0" in values or "false" in values
    yes = "1" in values or "true" in values
    if yes == no:
        shown = f"={'[' + ' '.join(values) + ']'}" if values else ""
        raise InvalidParameter(f"invalid filter '{name}{shown}'")
    return yes
