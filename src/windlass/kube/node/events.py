"""What the agent tells people about pods and the node: Event objects."""

from __future__ import annotations

from typing import Any, Protocol

Object = dict[str, Any]
NORMAL, WARNING = "Normal", "Warning"


class Recorder(Protocol):
    """Writes events without making anybody wait."""

    def event(self, obj: Object, type: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Tell of an object; `field_path` is the part of it that is meant."""


def field_path(pod: Object, name: str) -> str:
    """The part of a pod that a container is."""
    for field in ("containers", "initContainers", "ephemeralContainers"):
        if any(each.get("name") == name for each in pod["spec"].get(field) or ()):
            return f"spec.{field}{{{name}}}"
    return ""
