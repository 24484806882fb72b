"""What printers share. A cell is a value of JSON; kubectl prints it as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from windlass.kube.api import selectors, times
from windlass.kube.api.resource import Column, Object, Printer

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"

NAME = Column(
    "Name",
    format="name",
    description="Name must be unique within a namespace. Is required when creating resources, although some resources "
    "may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for "
    "creation idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
)
AGE = Column(
    "Age",
    description="CreationTimestamp is a timestamp representing the server time when this object was created. It is not "
    "guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is "
    "represented in RFC3339 form and is in UTC.",
)


def column(name: str, type: str = "string", *, wide: bool = False, description: str = "") -> Column:
    """A column; a wide one is shown by `-o wide` alone."""
    return Column(name, type, description=description or f"{name} of the object", priority=1 if wide else 0)


def printer(columns: Sequence[Column | str], cells: Callable[[Object, float], list[Any]]) -> Printer:
    """A printer; columns given by their names are narrow strings."""
    return Printer(tuple(each if isinstance(each, Column) else column(each) for each in columns), cells)


def name(obj: Object) -> str:
    """The object's name."""
    return str(obj["metadata"].get("name", ""))


def age(obj: Object, now: float) -> str:
    """How long ago the object was made."""
    return since(obj["metadata"].get("creationTimestamp"), now)


def since(text: str | None, now: float) -> str:
    """How long ago a time was, as kubectl says it."""
    if not text:
        return UNKNOWN
    try:
        return times.human_duration(now - times.parse_time(text))
    except ValueError:
        return UNKNOWN


def get(obj: Mapping[str, Any] | None, *path: str) -> Any:
    """What stands at a path, None where something on it is absent."""
    found: Any = obj
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def number(obj: Mapping[str, Any], *path: str) -> int:
    """A number at a path, 0 where it is absent."""
    found = get(obj, *path)
    return found if isinstance(found, int) else 0


def joined(values: Sequence[Any] | None, separator: str = ",") -> str:
    """Values in one cell."""
    return separator.join(str(value) for value in values) if values else NONE


def selector(found: Any) -> str:
    """A LabelSelector, or a plain map of labels, as text."""
    if not found:
        return NONE
    if "matchLabels" in found or "matchExpressions" in found:
        return selectors.format_labels(selectors.from_label_selector(found) or []) or NONE
    return pairs(found)


def pairs(found: Mapping[str, Any] | None) -> str:
    """A map as `a=b,c=d`."""
    return ",".join(f"{key}={value}" for key, value in sorted(found.items())) if found else NONE


def containers(spec: Mapping[str, Any] | None) -> tuple[str, str]:
    """The names and the images of a pod's containers."""
    found = get(spec, "containers") or ()
    return ",".join(each.get("name", "") for each in found), ",".join(each.get("image", "") for each in found)


def condition(obj: Object, type: str) -> str:
    """A condition's status, "" where there is none."""
    for each in get(obj, "status", "conditions") or ():
        if each.get("type") == type:
            return str(each.get("status", ""))
    return ""


def plain_age(obj: Object, now: float) -> list[Any]:
    """The cells of a kind with no columns of its own."""
    return [name(obj), age(obj, now)]


DEFAULT = printer([NAME, AGE], plain_age)
CREATED_AT = printer(
    [NAME, Column("Created At")], lambda obj, now: [name(obj), obj["metadata"].get("creationTimestamp", "")]
)
