"""Structural schemas: what a CustomResourceDefinition may say of its objects, and the `Schema` that it becomes.

A schema is structural if every field has a type outside of the value validations (allOf, anyOf, oneOf, not), which may
not introduce fields of their own. Only then pruning, defaulting and server-side apply know what they walk over.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.kube.api.status import FieldError, forbidden_field, invalid_value, not_supported, required
from windlass.kube.schema.catalogue import OBJECT_META, Catalogue
from windlass.kube.schema.node import Schema

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_FORBIDDEN = ("$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id", "$schema")
_LOGIC = ("allOf", "anyOf", "oneOf")
_NO_LOGIC = (
    "description",
    "type",
    "default",
    "additionalProperties",
    "nullable",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
)
_DEEPEST = 100


def build(node: Mapping[str, Any], catalogue: Catalogue, *, root: bool = True) -> Schema:
    """The `Schema` of a structural schema that was checked; at its root the object's metadata has its own."""
    found = build_node(node)
    if not root:
        return found
    properties = dict(found.properties)
    properties["apiVersion"] = properties["kind"] = Schema("string")
    properties["metadata"] = catalogue.schema(OBJECT_META)
    return found.replaced(properties=properties, type="object")


def build_node(node: Mapping[str, Any]) -> Schema:
    arguments: dict[str, Any] = {"source": node}
    kind = node.get("type", "")
    if node.get("x-kubernetes-int-or-string"):
        arguments["int_or_string"] = True
        kind = ""
    if node.get("x-kubernetes-preserve-unknown-fields"):
        arguments["preserve_unknown"] = True
    if node.get("x-kubernetes-embedded-resource"):
        arguments["embedded"] = True
    if node.get("nullable"):
        arguments["nullable"] = True
    if "default" in node:
        arguments["default"] = node["default"]
    if node.get("format"):
        arguments["format"] = node["format"]
    if properties := node.get("properties"):
        arguments["properties"] = {name: build_node(child) for name, child in properties.items()}
    additional = node.get("additionalProperties")
    if isinstance(additional, Mapping):
        arguments["additional"] = build_node(additional)
    elif additional is True:
        arguments["additional"] = Schema(preserve_unknown=True)
    if isinstance(node.get("items"), Mapping):
        arguments["items"] = build_node(node["items"])
    if node.get("required"):
        arguments["required"] = frozenset(node["required"])
    if node.get("x-kubernetes-list-type"):
        arguments["list_type"] = node["x-kubernetes-list-type"]
    if node.get("x-kubernetes-list-map-keys"):
        arguments["list_map_keys"] = tuple(node["x-kubernetes-list-map-keys"])
    if node.get("x-kubernetes-map-type"):
        arguments["map_type"] = node["x-kubernetes-map-type"]
    return Schema(kind, **arguments)


def has_defaults(schema: Schema) -> bool:
    """Whether something below gets a value where it is absent."""
    return (
        schema.has_default
        or any(has_defaults(child) for child in schema.properties.values() if not child.ref)
        or (schema.additional is not None and has_defaults(schema.additional))
        or (schema.items is not None and has_defaults(schema.items))
    )


def check(node: Any, path: str) -> list[FieldError]:
    """What keeps a schema from being structural."""
    errors: list[FieldError] = []
    if not isinstance(node, Mapping):
        return [required(path, "schemas are required")]
    if not node.get("type"):
        errors.append(required(f"{path}.type", "must not be empty at the root"))
    elif node["type"] != "object":
        errors.append(invalid_value(f"{path}.type", node["type"], "must be object at the root"))
    _check(node, path, errors, 0, root=True)
    return errors


def _check(node: Mapping[str, Any], path: str, errors: list[FieldError], depth: int, *, root: bool = False) -> None:
    if depth > _DEEPEST:
        errors.append(forbidden_field(path, "schema is nested too deeply"))
        return
    kind = node.get("type", "")
    if kind and kind not in _TYPES:
        errors.append(not_supported(f"{path}.type", kind, _TYPES))
    for name in _FORBIDDEN:
        if node.get(name):
            errors.append(forbidden_field(f"{path}.{name}", f"{name} is not supported"))
    if node.get("uniqueItems"):
        errors.append(
            forbidden_field(
                f"{path}.uniqueItems",
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            )
        )
    additional = node.get("additionalProperties")
    if additional is False:
        errors.append(forbidden_field(f"{path}.additionalProperties", "additionalProperties cannot be set to false"))
    if node.get("properties") and isinstance(additional, Mapping):
        detail = "additionalProperties and properties are mutual exclusive"
        errors.append(forbidden_field(f"{path}.additionalProperties", detail))
    if isinstance(node.get("items"), list):
        errors.append(forbidden_field(f"{path}.items", "items must be a schema object and not an array"))
    if node.get("x-kubernetes-int-or-string"):
        if kind:
            errors.append(invalid_value(f"{path}.x-kubernetes-int-or-string", True, "must be false if type is set"))
    elif not kind and not root and not node.get("x-kubernetes-preserve-unknown-fields"):
        errors.append(required(f"{path}.type", "must not be empty for specified object fields"))
    if kind == "array" and not node.get("items"):
        errors.append(required(f"{path}.items", "must be specified"))
    _check_list(node, path, errors)
    if root:
        _check_metadata(node, path, errors)
    if node.get("x-kubernetes-embedded-resource"):
        if kind != "object":
            errors.append(
                invalid_value(f"{path}.type", kind, "must be object if x-kubernetes-embedded-resource is true")
            )
        if not node.get("x-kubernetes-preserve-unknown-fields") and not node.get("properties"):
            errors.append(
                required(
                    f"{path}.properties",
                    "must not be empty if x-kubernetes-embedded-resource is "
                    "true without x-kubernetes-preserve-unknown-fields",
                )
            )
    if (pattern := node.get("pattern")) and (problem := _pattern_problem(pattern)):
        errors.append(
            invalid_value(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {problem}")
        )
    for name, child in (node.get("properties") or {}).items():
        if isinstance(child, Mapping):
            _check(child, f"{path}.properties[{name}]", errors, depth + 1)
    if isinstance(additional, Mapping):
        _check(additional, f"{path}.additionalProperties", errors, depth + 1)
    if isinstance(node.get("items"), Mapping):
        _check(node["items"], f"{path}.items", errors, depth + 1)
    for logic in _LOGIC:
        for index, child in enumerate(node.get(logic) or ()):
            _check_logic(child, f"{path}.{logic}[{index}]", errors, depth + 1, node)
    if isinstance(node.get("not"), Mapping):
        _check_logic(node["not"], f"{path}.not", errors, depth + 1, node)


def _check_list(node: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    kind = node.get("x-kubernetes-list-type")
    keys = node.get("x-kubernetes-list-map-keys")
    if kind is not None:
        if node.get("type") != "array":
            errors.append(
                invalid_value(
                    f"{path}.type", node.get("type") or "", "must be array if x-kubernetes-list-type is specified"
                )
            )
        if kind not in ("atomic", "map", "set"):
            errors.append(not_supported(f"{path}.x-kubernetes-list-type", kind, ["atomic", "map", "set"]))
    if kind == "map":
        if not keys:
            errors.append(
                required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
            )
        items = node.get("items") or {}
        if items.get("type") != "object":
            errors.append(
                invalid_value(
                    f"{path}.items.type",
                    items.get("type") or "",
                    "must be object if parent array's x-kubernetes-list-type is map",
                )
            )
        for key in keys or ():
            if key not in (items.get("properties") or {}):
                errors.append(
                    invalid_value(
                        f"{path}.x-kubernetes-list-map-keys",
                        keys,
                        f"entries must all be names of item properties: {key}",
                    )
                )
            elif key not in (items.get("required") or ()) and "default" not in items["properties"][key]:
                errors.append(
                    required(
                        f"{path}.items.properties[{key}].default",
                        "this property is in "
                        "x-kubernetes-list-map-keys, so it must have a default or be a required property",
                    )
                )
    elif keys:
        errors.append(
            forbidden_field(f"{path}.x-kubernetes-list-map-keys", "only allowed if x-kubernetes-list-type is map")
        )
    if (found := node.get("x-kubernetes-map-type")) is not None and found not in ("atomic", "granular"):
        errors.append(not_supported(f"{path}.x-kubernetes-map-type", found, ["atomic", "granular"]))


def _check_metadata(node: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    metadata = (node.get("properties") or {}).get("metadata")
    if metadata is None:
        return
    if metadata.get("type", "object") != "object":
        errors.append(invalid_value(f"{path}.properties[metadata].type", metadata["type"], "must be object"))
    for name in metadata.get("properties") or {}:
        if name not in ("name", "generateName"):
            errors.append(
                forbidden_field(
                    f"{path}.properties[metadata]",
                    "must not specify anything other than name and generateName, but metadata is implicitly specified",
                )
            )
            break


def _check_logic(node: Any, path: str, errors: list[FieldError], depth: int, parent: Mapping[str, Any]) -> None:
    """Inside logic only value validations, over fields that the structure has."""
    if not isinstance(node, Mapping) or depth > _DEEPEST:
        return
    for name in _NO_LOGIC:
        if name in node:
            is_int_or_string = parent.get("x-kubernetes-int-or-string") and name == "type"
            if not is_int_or_string:
                errors.append(forbidden_field(f"{path}.{name}", "must be empty to be structural"))
    known = parent.get("properties") or {}
    for name, child in (node.get("properties") or {}).items():
        if name not in known:
            where = f"{path}.properties[{name}]"
            if parent.get("type") == "object" and not isinstance(parent.get("additionalProperties"), Mapping):
                errors.append(
                    required(where.replace(path, path.rpartition(".")[0]), "because it is defined in " + where)
                )
        else:
            _check_logic(child, f"{path}.properties[{name}]", errors, depth + 1, known[name])
    if isinstance(node.get("items"), Mapping):
        _check_logic(node["items"], f"{path}.items", errors, depth + 1, parent.get("items") or {})
    for logic in _LOGIC:
        for index, child in enumerate(node.get(logic) or ()):
            _check_logic(child, f"{path}.{logic}[{index}]", errors, depth + 1, parent)
    if isinstance(node.get("not"), Mapping):
        _check_logic(node["not"], f"{path}.not", errors, depth + 1, parent)


def _pattern_problem(pattern: str) -> str:
    from windlass.kube.schema.patterns import BadPattern, compile_pattern

    try:
        compile_pattern(pattern)
    except BadPattern as error:
        return str(error)
    return ""
