"""YAML for objects: read as kubectl's and the server's Go library reads it, written so that people can read it.

Only JSON's types come out: `yes`, `on` and times are strings or booleans by YAML 1.2's core schema, save that Go's
library takes 1.1's octal numbers. A document may not be a bomb: aliases are counted, depth and size are bounded.

Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

_MOST_NODES = 500_000
_DEEPEST = 150
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BaseDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class BadYAML(ValueError):
    """The text is no YAML, or more than may be."""


class _Loader(_Base):  # type: ignore[misc]
    """The core schema: null, booleans, integers, floats; everything else is a string."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0o?[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
    )


def _integer(loader: Any, node: Any) -> int:
    text = node.value.replace("_", "")
    digits = text.lstrip("+-")
    if digits.startswith("0x"):
        return int(text, 16)
    if digits.startswith("0o"):
        return int(digits[2:], 8)
    return int(text, 8 if len(digits) > 1 and digits[0] == "0" else 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value))


def load(text: bytes | str, duplicates: list[str] | None = None) -> Any:
    """The first document of a text, None where it is empty. Duplicate keys go to `duplicates`, the last one counts.

    Raises:
        BadYAML
    """
    documents = load_all(text, duplicates, only_first=True)
    return documents[0] if documents else None


def load_all(text: bytes | str, duplicates: list[str] | None = None, *, only_first: bool = False) -> list[Any]:
    """All documents of a text. Raises BadYAML."""
    found: list[Any] = []
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                found.append(_Builder(loader, duplicates).build(node, "", 0))
            if only_first:
                break
    except yaml.YAMLError as error:
        raise BadYAML(f"error converting YAML to JSON: yaml: {_where(error)}") from None
    except (RecursionError, UnicodeError) as error:
        raise BadYAML(f"error converting YAML to JSON: yaml: {error}") from None
    finally:
        loader.dispose()
    return found


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)


class _Builder:
    """Nodes to values, counting: an alias costs as much as what it stands for."""

    def __init__(self, loader: Any, duplicates: list[str] | None) -> None:
        self._loader = loader
        self._duplicates = duplicates
        self._count = 0

    def build(self, node: Any, path: str, depth: int) -> Any:
        self._count += 1
        if self._count > _MOST_NODES:
            raise BadYAML("error converting YAML to JSON: yaml: document contains excessive aliasing")
        if depth > _DEEPEST:
            raise BadYAML("error converting YAML to JSON: yaml: exceeded max depth")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise BadYAML("error converting YAML to JSON: yaml: invalid map key")
            if key_node.value == "<<" and key_node.style is None:
                merged = self.build(value_node, path, depth + 1)
                for each in merged if isinstance(merged, list) else [merged]:
                    for name, value in each.items() if isinstance(each, dict) else ():
                        result.setdefault(name, value)
                continue
            key = self._scalar(key_node)
            name = key if isinstance(key, str) else _key_text(key)
            where = f"{path}.{name}" if path else name
            if name in result and self._duplicates is not None:
                self._duplicates.append(where)
            result[name] = self.build(value_node, where, depth + 1)
        return result

    def _scalar(self, node: Any) -> Any:
        tag = node.tag
        if tag in ("tag:yaml.org,2002:str", "!"):
            return node.value
        if tag == "tag:yaml.org,2002:null":
            return None
        if tag == "tag:yaml.org,2002:bool":
            return node.value[0] in "tT"
        if tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            try:
                number = self._loader.yaml_constructors[tag](self._loader, node)
            except ValueError:
                return node.value
            return number if isinstance(number, int) and -(2**63) <= number < 2**64 else _finite(number, node.value)
        if tag == "tag:yaml.org,2002:binary":
            return node.value
        raise BadYAML(f"error converting YAML to JSON: yaml: unknown tag {tag}")


def _finite(number: float, text: str) -> float:
    """A number as JSON has it: what no integer of 64 bits holds is a float."""
    try:
        found = float(number)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise BadYAML(f"error converting YAML to JSON: json: unsupported value: {text[:40]}")
    return found


def _key_text(key: Any) -> str:
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


class _Dumper(_BaseDumper):  # type: ignore[misc]
    """Block style, multi-line strings as literals, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text and not re.search(r"[ \t]\n|\r|\t", text) else None
    if style is None and re.fullmatch(r"(?i)y|n|yes|no|on|off", text):
        style = '"'  # other readers take these for booleans
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)


def dump(value: Any) -> bytes:
    """A value as YAML, keys in order of the alphabet as Kubernetes' tools print them."""
    text: bytes = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=False,
        sort_keys=True,
        allow_unicode=True,
        encoding="utf-8",
        width=2**20,
    )
    return text
