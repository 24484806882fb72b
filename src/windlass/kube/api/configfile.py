"""Configuration files of the API server (apiserver.config.k8s.io): read strictly, told by path where they are wrong.

Source: https://kubernetes.io/docs/reference/config-api/
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from windlass.errors import InvalidParameter
from windlass.kube.api import times, yamlform


class BadConfiguration(InvalidParameter):
    """The file says what it may not; the message has the path of the field."""


def load(path: Path, kind: str, versions: Collection[str]) -> Node:
    """The document of a file.

    Args:
        kind: what it must say of itself.
        versions: the API versions that it may have.

    Raises:
        BadConfiguration: it cannot be read, is no YAML, of another kind, or has a key twice.
    """
    duplicates: list[str] = []
    try:
        found = yamlform.load(path.read_bytes(), duplicates)
    except (OSError, yamlform.BadYAML) as error:
        raise BadConfiguration(f"{path}: {error}") from None
    if duplicates:
        raise BadConfiguration(f"{path}: {duplicates[0]}: the key occurs twice")
    if not isinstance(found, dict) or found.get("kind") != kind or found.get("apiVersion") not in versions:
        raise BadConfiguration(f"{path}: expected kind {kind} of {' or '.join(versions)}")
    return Node(found, str(path), "")


class Node:
    """An object of the file, and where it is. `known` fields are taken out; `done` refuses what is left."""

    def __init__(self, found: Any, file: str, path: str) -> None:
        if not isinstance(found, dict):
            raise BadConfiguration(f"{file}: {path}: expected an object")
        self._left = dict(found)
        self._file = file
        self.path = path

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def error(self, name: str, text: str) -> BadConfiguration:
        """To raise: what is wrong with a field."""
        return BadConfiguration(f"{self._file}: {self.at(name) if name else self.path}: {text}")

    def _take(self, name: str, kind: type, wanted: str) -> Any:
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, kind):
            raise self.error(name, f"expected {wanted}")
        return value

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        """A string."""
        value = self._take(name, str, "a string")
        if required and not value:
            raise self.error(name, "Required value")
        return default if value is None else value

    def optional_text(self, name: str) -> str | None:
        """A string, None where it is absent."""
        value: str | None = self._take(name, str, "a string")
        return value

    def choice(self, name: str, choices: Collection[str], default: str = "") -> str:
        """One of some strings; the first one where nothing is said and there is no default."""
        value = self.text(name) or default
        if value not in choices:
            shown = ", ".join(f'"{each}"' for each in choices)
            raise self.error(name, f'Unsupported value: "{value}": supported values: {shown}')
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean."""
        value = self._take(name, bool, "true or false")
        return default if value is None else value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._take(name, list, "a list") or []
        if not all(isinstance(each, str) for each in value):
            raise self.error(name, "expected a list of strings")
        return tuple(value)

    def seconds(self, name: str, default: float) -> float:
        """A duration in Go's form."""
        value = self.text(name)
        try:
            return times.parse_duration(value) if value else default
        except ValueError as error:
            raise self.error(name, f"Invalid value: {error}") from None

    def child(self, name: str) -> Node:
        """An object; an empty one where it is absent."""
        return Node(self._left.pop(name, None) or {}, self._file, self.at(name))

    def children(self, name: str) -> Iterator[Node]:
        """A list of objects."""
        value = self._take(name, list, "a list") or []
        for index, each in enumerate(value):
            yield Node(each, self._file, f"{self.at(name)}[{index}]")

    def any(self, name: str) -> Any:
        """A field as it is, None where it is absent."""
        return self._left.pop(name, None)

    def has(self, name: str) -> bool:
        """Whether the field is there and was not taken yet."""
        return self._left.get(name) is not None

    def done(self) -> None:
        """Refuse unknown fields. Raises BadConfiguration."""
        left = [name for name in self._left if self.path or name not in ("kind", "apiVersion")]
        if left:
            raise self.error(left[0], "unknown field")

    def json(self) -> Mapping[str, Any]:
        """What is left, as it is."""
        left, self._left = self._left, {}
        return left
