"""What strategies share: kinds without status or generation, and small rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from windlass.kube.api import names, quantity
from windlass.kube.api.identity import User
from windlass.kube.api.resource import Object, Strategy
from windlass.kube.api.status import FieldError, invalid_value, required

IMMUTABLE = "field is immutable"
Names = Callable[[str], list[str]]


class Plain(Strategy):
    """No status, no generation: data of the users'."""

    has_generation = False
    has_status = False

    def __init__(self, name_rule: Names = names.dns1123_subdomain) -> None:
        self._name_rule = name_rule

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        """See `Strategy.validate_name`."""
        return names.prefixed(self._name_rule, name, prefix=prefix)


class Generational(Plain):
    """A generation, but no status."""

    has_generation = True


class WithStatus(Plain):
    """A status, but no generation."""

    has_status = True


class Full(Plain):
    """Status and generation."""

    has_generation = True
    has_status = True


class Label63(Full):
    """Its name is a label, because it becomes one."""

    def __init__(self) -> None:
        super().__init__(names.dns1123_label)


def non_negative(value: Any, path: str) -> list[FieldError]:
    """A number that may not be below zero."""
    if isinstance(value, int) and value < 0:
        return [invalid_value(path, value, "must be greater than or equal to 0")]
    return []


def immutable(new: Any, old: Any, path: str, detail: str = IMMUTABLE) -> list[FieldError]:
    """A field that never changes."""
    return [] if new == old else [invalid_value(path, new, detail)]


def one_of(value: Any, allowed: Sequence[str], path: str, *, needed: bool = True) -> list[FieldError]:
    """A word of a few."""
    from windlass.kube.api.status import not_supported

    if value in (None, ""):
        return [required(path)] if needed else []
    return [] if value in allowed else [not_supported(path, value, allowed)]


def quantity_of(value: Any) -> quantity.Quantity:
    """A quantity that was checked when it was decoded."""
    return quantity.parse(value)


def drop(obj: Object, *fields: str) -> None:
    """Drop what a client may not set."""
    for name in fields:
        obj.pop(name, None)


def spec_of(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The spec, made where it is absent."""
    found = obj.get("spec")
    if not isinstance(found, dict):
        found = {}
        obj["spec"] = found  # type: ignore[index]  # objects are dictionaries
    return found


__all__ = ["IMMUTABLE", "Full", "Generational", "Label63", "Plain", "User", "WithStatus", "immutable", "one_of"]
