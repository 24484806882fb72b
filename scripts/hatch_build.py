"""Build hook: distil the published Kubernetes definitions into the one file that the API server reads.

The definitions come from the package `kubernetes-validate`, which carries those of each Kubernetes release with every
`x-kubernetes-*` key. It is needed when windlass is built, not when it runs: what is read then is

    definitions.jsonl    line 1: {"version": "v1.37.0", "index": {name: [offset, length]}}    offsets from line 2 on
                         then one JSON object for each definition

What that package adds for JSON Schema validators (null as a type, enum of one kind) is taken back here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VERSION = "v1.37.0"
TARGET = "src/windlass/kube/schema/data/definitions.jsonl"
_PREFIX = "#/$defs/"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_ANY = {
    f"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{name}"
    for name in ("JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray")
}


class DefinitionsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Writes the data file into the source tree, from where a wheel takes it and an editable install reads it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each build, editable ones included."""
        import kubernetes_validate

        source = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/{VERSION}-local/_definitions.json"
        found = json.loads(source.read_text())["$defs"]
        target = Path(self.root) / TARGET
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_suffix(".tmp")
        temporary.write_bytes(distil(found))
        temporary.replace(target)
        build_data["artifacts"].append(TARGET)


def distil(definitions: dict[str, Any]) -> bytes:
    """The data file's bytes."""
    index: dict[str, tuple[int, int]] = {}
    lines: list[bytes] = []
    offset = 0
    for name in sorted(definitions):
        line = json.dumps(_definition(name, definitions[name]), separators=(",", ":"), sort_keys=True).encode()
        index[name] = (offset, len(line))
        lines.append(line)
        offset += len(line) + 1
    head = json.dumps({"version": VERSION, "index": index}, separators=(",", ":")).encode()
    return b"\n".join([head, *lines, b""])


def _definition(name: str, node: dict[str, Any]) -> dict[str, Any]:
    description = {"description": node["description"]} if "description" in node else {}
    if name == _INT_OR_STRING:
        return {**description, "type": "string", "format": "int-or-string"}
    if name == _QUANTITY:
        return {**description, "type": "string"}
    if name in _ANY:
        return description
    return _clean(node)


def _clean(node: Any) -> Any:
    if isinstance(node, list):
        return [_clean(item) for item in node]
    if not isinstance(node, dict):
        return node
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            found[key] = {name: _property(name, child) for name, child in value.items()}
        elif key == "type" and isinstance(value, list):
            (found[key],) = [item for item in value if item != "null"]
        elif key == "$ref":
            found[key] = "#/definitions/" + value.removeprefix(_PREFIX)
        else:
            found[key] = _clean(value)
    return found


def _property(name: str, node: Any) -> Any:
    cleaned = _clean(node)
    if name in ("apiVersion", "kind"):
        cleaned.pop("enum", None)
    return cleaned
