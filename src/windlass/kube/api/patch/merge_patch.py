"""Merge patch (RFC 7386): objects merge, null removes, everything else replaces.

Source: https://www.rfc-editor.org/rfc/rfc7386
"""

from __future__ import annotations

from typing import Any


def apply(target: Any, patch: Any) -> Any:
    """The target after a patch; objects of it are changed in place."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = apply(target.get(name), value)
    return target


def create(before: Any, after: Any) -> Any:
    """The patch that makes `after` of `before`; an empty object where they are equal."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        if name not in before:
            patch[name] = value
        elif before[name] != value or type(before[name]) is not type(value):
            patch[name] = create(before[name], value)
    return patch
