"""Names of volumes: what a client may choose, and what the engine makes up."""

from __future__ import annotations

import re
import secrets
from typing import Final

from windlass.errors import InvalidParameter

ALLOWED: Final = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME: Final = re.compile(f"{ALLOWED}+")
_LONGEST: Final = 255

ANONYMOUS_LABEL: Final = "com.docker.volume.anonymous"
"""Carried by volumes that nobody named: prune takes them first."""


def check_name(name: str) -> None:
    """Raises `InvalidParameter` unless `name` can be a volume's (and a directory's) name."""
    if len(name) == 1:
        raise InvalidParameter("volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f'"{name}" includes invalid characters for a local volume name, only "{ALLOWED}" are allowed. '
            "If you intended to pass a host directory, use absolute path"
        )
    if len(name) > _LONGEST:
        raise InvalidParameter(f"volume name is too long, names should be no more than {_LONGEST} characters")


def make_up_name() -> str:
    """A name for a volume that nobody named: 64 hexadecimal digits."""
    return secrets.token_hex(32)
