"""`WWW-Authenticate`: how a registry asks for credentials (RFC 9110, section 11.6.1).

    Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"
    Basic realm="Registry"

One header may hold several challenges, and there may be several headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME: Final = re.compile(rf"[\s,]*({_WORD})(?=\s|,|$)")
_PARAMETER: Final = re.compile(rf'[\s,]*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_ESCAPE: Final = re.compile(r"\\(.)")


@dataclass(frozen=True)
class Challenge:
    """One challenge; scheme and parameter names are in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of all headers, in order. What cannot be parsed ends its header: it is a foreign text."""
    return [challenge for header in headers for challenge in _parse(header)]


def _parse(header: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    position = 0
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            quoted, bare = parameter[2], parameter[3]
            value = _ESCAPE.sub(r"\1", quoted) if quoted is not None else bare
            parameters.setdefault(parameter[1].lower(), value)
            position = parameter.end()
        challenges.append(Challenge(scheme[1].lower(), parameters))
    return challenges
