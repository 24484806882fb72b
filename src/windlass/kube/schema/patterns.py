"""Regular expressions of users', in Go's syntax (RE2): matched in time linear in the text, whatever the pattern.

Python's own engine goes back over what it has read, so a pattern such as `(a+)+$` would hold up the server for hours.

Source: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import functools
from typing import Any

import re2


class BadPattern(ValueError):
    """The text is no pattern."""


_LONGEST = 10_000


@functools.lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Any:
    """A compiled pattern with `search`, `fullmatch`, `finditer` of Python's `re`.

    Raises:
        BadPattern
    """
    if len(pattern) > _LONGEST:
        raise BadPattern("the pattern is too long")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        raise BadPattern(str(error)) from None


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern occurs in the text."""
    return compile_pattern(pattern).search(text) is not None
