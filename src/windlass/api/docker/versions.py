"""API versions: what we speak, how clients ask for it, and dockerd's words for too old and too new."""

from __future__ import annotations

from typing import Final

from windlass.errors import InvalidParameter

Version = tuple[int, ...]

API_VERSION: Final = "1.51"
MIN_API_VERSION: Final = "1.24"
COMPATIBLE_ENGINE: Final = "28.5.2"  # the release of Docker whose API this is; clients read it in the Server header
OLDEST_WITH_JSON_ERRORS: Final[Version] = (1, 24)


def parse_version(text: str) -> Version:
    """`1.24` as `(1, 24)`. As dockerd compares: parts that are no numbers count as 0, trailing zeros say nothing."""
    parts = [int(part) if part.isdigit() and len(part) < 10 else 0 for part in text.split(".")]
    while len(parts) > 2 and not parts[-1]:
        parts.pop()
    return tuple(parts)


LATEST: Final[Version] = parse_version(API_VERSION)
OLDEST: Final[Version] = parse_version(MIN_API_VERSION)


def check_version(text: str) -> Version:
    """The version of a request's path. Raises `InvalidParameter` when we do not speak it."""
    version = parse_version(text)
    if version < OLDEST:
        raise InvalidParameter(
            f"client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )
    if version > LATEST:
        raise InvalidParameter(f"client version {text} is too new. Maximum supported API version is {API_VERSION}")
    return version
