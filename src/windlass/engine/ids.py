"""Identifiers: 32 random bytes as 64 hexadecimal digits, of which people type as few as are unique."""

from __future__ import annotations

import secrets


def new_id() -> str:
    """A fresh identifier whose short form cannot be mistaken for a number."""
    while True:
        identifier = secrets.token_hex(32)
        if not identifier[:12].isdecimal():
            return identifier


def short_id(identifier: str) -> str:
    """The twelve digits that are shown to people."""
    return identifier[:12]
