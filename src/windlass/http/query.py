"""Percent-encoding and query strings, with the rules that Go's `net/url` applies (clients were written against it)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from windlass.errors import InvalidParameter

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)


def unquote(text: str) -> str:
    """Decode percent escapes as UTF-8; raises `InvalidParameter` for a malformed escape."""
    if "%" not in text:
        return text
    bad = _BAD_ESCAPE.search(text)
    if bad:
        raise InvalidParameter(f'invalid URL escape "{bad[0]}"')
    return unquote_to_bytes(text).decode("utf-8", "replace")


def parse_query(raw: str) -> list[tuple[str, str]]:
    """The pairs of a query string in their order; raises `InvalidParameter` for what Go refuses."""
    pairs: list[tuple[str, str]] = []
    for part in raw.split("&"):
        if not part:
            continue
        if ";" in part:
            raise InvalidParameter("invalid semicolon separator in query")
        key, _, value = part.partition("=")
        if "+" in part:
            key, value = key.replace("+", " "), value.replace("+", " ")
        pairs.append((unquote(key), unquote(value)))
    return pairs
