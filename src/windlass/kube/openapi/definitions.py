"""The schemas of kinds, in OpenAPI v2's form, and how v3 writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from windlass.kube.api.resource import Resource
from windlass.kube.schema.catalogue import Catalogue

Definition = dict[str, Any]
Custom = Callable[[Resource], Definition]
"""The definition of a custom resource's kind."""

_V2, _V3 = "#/definitions/", "#/components/schemas/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
ALWAYS = (
    f"{_META}.Status",
    f"{_META}.DeleteOptions",
    f"{_META}.Patch",
    f"{_META}.WatchEvent",
    f"{_META}.APIResourceList",
)


def list_name(definition: str) -> str:
    """The definition of a kind's list."""
    return f"{definition}List"


def custom_list(resource: Resource) -> Definition:
    """The definition of a custom resource's list."""
    return {
        "description": f"{resource.list_kind} is a list of {resource.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "items": {"type": "array", "items": {"$ref": _V2 + resource.definition}},
            "metadata": {"$ref": f"{_V2}{_META}.ListMeta"},
        },
        "x-kubernetes-group-version-kind": [
            {"group": resource.group, "version": resource.version, "kind": resource.list_kind}
        ],
    }


def closure(catalogue: Catalogue, resources: Iterable[Resource], custom: Custom) -> dict[str, Definition]:
    """The definitions of some resources, and all that these refer to."""
    found: dict[str, Definition] = {}
    wanted = list(ALWAYS)
    for resource in resources:
        if resource.is_custom:
            found[resource.definition] = custom(resource)
            found[list_name(resource.definition)] = custom_list(resource)
        else:
            wanted.append(resource.definition)
            if list_name(resource.definition) in catalogue:
                wanted.append(list_name(resource.definition))
        for part in resource.subresources.values():
            name = catalogue.kinds().get(part.group_version_kind)
            if name is not None:
                wanted.append(name)
    for definition in list(found.values()):
        wanted += _references(definition)
    while wanted:
        name = wanted.pop()
        if name in found or name not in catalogue:
            continue
        definition = found[name] = catalogue.definition(name)
        wanted += _references(definition)
    return found


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for item in node for name in _references(item)]
    if not isinstance(node, dict):
        return []
    names = [name for key, value in node.items() if key != "$ref" for name in _references(value)]
    if isinstance(ref := node.get("$ref"), str):
        names.append(ref.removeprefix(_V2))
    return names


def to_v3(node: Any) -> Any:
    """The same in OpenAPI v3's form: other references, and siblings of a reference by `allOf`."""
    if isinstance(node, list):
        return [to_v3(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(ref := node.get("$ref"), str):
        target = {"$ref": ref.replace(_V2, _V3)}
        others = {key: to_v3(value) for key, value in node.items() if key != "$ref"}
        return {**others, "allOf": [target]} if others else target
    result = {key: to_v3(value) for key, value in node.items()}
    if result.get("format") == "int-or-string":
        del result["type"]
        result["oneOf"] = [{"type": "integer"}, {"type": "string"}]
    return result
