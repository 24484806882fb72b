"""A CustomResourceDefinition's versions as resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.kube.api import jsonpath
from windlass.kube.api.custom.conversion import Conversion
from windlass.kube.api.custom.embedded import Embedded
from windlass.kube.api.custom.strategy import CustomStrategy
from windlass.kube.api.printers.cells import AGE, NAME, age, name, printer, since
from windlass.kube.api.resource import (
    SCALE,
    Column,
    Object,
    Printer,
    Resource,
    ScalePaths,
    Storage,
    status_subresource,
)
from windlass.kube.cel.validation import Rules
from windlass.kube.schema import structural
from windlass.kube.schema.catalogue import OBJECT_META, Catalogue
from windlass.kube.schema.defaulting import apply_defaults


def storage_prefix(definition: Object) -> bytes:
    """Where the objects are."""
    return f"/registry/{definition['spec']['names']['plural']}.{definition['spec']['group']}/".encode()


def of_definition(definition: Object, catalogue: Catalogue, conversion: Conversion) -> list[Resource]:
    """The served versions of a definition whose names were accepted."""
    spec = definition["spec"]
    stored = next(each["name"] for each in spec["versions"] if each.get("storage"))
    storage = Storage(storage_prefix(definition), spec["group"], stored, spec["names"]["kind"])
    return [
        _resource(spec, version, storage, catalogue, conversion)
        for version in spec["versions"]
        if version.get("served")
    ]


def _resource(
    spec: Mapping[str, Any], version: Mapping[str, Any], storage: Storage, catalogue: Catalogue, conversion: Conversion
) -> Resource:
    source = (version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"}
    schema = structural.build(source, catalogue)
    parts = version.get("subresources") or {}
    has_status = parts.get("status") is not None
    selectable = [each.get("jsonPath", "") for each in version.get("selectableFields") or ()]
    embedded = Embedded(schema, catalogue.schema(OBJECT_META))
    strategy = CustomStrategy(schema, Rules(source), embedded, has_status=has_status, selectable=selectable)
    found = spec["names"]
    deprecation = ""
    if version.get("deprecated"):
        deprecation = version.get("deprecationWarning") or (
            f"{spec['group']}/{version['name']} {found['kind']} is deprecated"
        )
    reversed_group = ".".join(reversed(spec["group"].split(".")))
    resource = Resource(
        group=spec["group"],
        version=version["name"],
        kind=found["kind"],
        plural=found["plural"],
        namespaced=spec.get("scope") == "Namespaced",
        singular=found.get("singular") or "",
        short_names=tuple(found.get("shortNames") or ()),
        categories=tuple(found.get("categories") or ()),
        list_kind=found.get("listKind") or "",
        strategy=strategy,
        printer=_printer(version.get("additionalPrinterColumns") or ()),
        stored_as=storage,
        is_custom=True,
        deprecation=deprecation,
        definition=f"{reversed_group}.{version['name']}.{found['kind']}",
        load_schema=lambda: schema,
        shape=strategy.shape,
        convert=conversion.convert,
        on_read=(lambda obj: apply_defaults(obj, schema)) if structural.has_defaults(schema) else None,
        reset_fields={"": (("status",),)} if has_status else {},
    )
    if has_status:
        resource.subresources["status"] = status_subresource(resource)
        resource.reset_fields = {
            "": (("status",),),
            "status": tuple(
                (each,) for each in schema.properties if each not in ("status", "apiVersion", "kind", "metadata")
            ),
        }
    if (scale := parts.get("scale")) is not None:
        resource.subresources["scale"] = SCALE
        resource.scale = ScalePaths(
            _names(scale["specReplicasPath"]),
            _names(scale["statusReplicasPath"]),
            _names(scale.get("labelSelectorPath") or ""),
        )
    return resource


def _names(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split(".") if part)


def _printer(columns: Any) -> Printer:
    if not columns:
        return printer([NAME, AGE], lambda obj, now: [name(obj), age(obj, now)])
    found = [
        Column(
            each["name"],
            each["type"],
            each.get("format", ""),
            each.get("description") or f"Custom resource definition column (in JSONPath format): {each['jsonPath']}",
            each.get("priority", 0),
        )
        for each in columns
    ]
    paths = [(jsonpath.compile_path(each["jsonPath"]), each["type"]) for each in columns]

    def cells(obj: Object, now: float) -> list[Any]:
        return [name(obj), *(_cell(find(obj), kind, now) for find, kind in paths)]

    return printer([NAME, *found], cells)


def _cell(values: list[Any], kind: str, now: float) -> Any:
    if not values:
        return None
    value = values[0]
    if kind == "date":
        return since(value, now) if isinstance(value, str) else "<unknown>"
    if kind == "integer":
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind == "number":
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if len(values) > 1:
        return ",".join(str(each) for each in values)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        import orjson

        return orjson.dumps(value).decode()
    return str(value)


def openapi_definition(resource: Resource) -> Object:
    """The definition of a custom resource's kind, for OpenAPI documents."""
    source = dict(resource.schema.source)
    properties = dict(source.get("properties") or {})
    properties["apiVersion"] = {"type": "string", "description": "The version of this representation of an object."}
    properties["kind"] = {"type": "string", "description": "The kind of this object."}
    properties["metadata"] = {"$ref": f"#/definitions/{OBJECT_META}", "description": "Standard object's metadata."}
    source["properties"] = properties
    source["x-kubernetes-group-version-kind"] = [
        {"group": resource.group, "version": resource.version, "kind": resource.kind}
    ]
    return source
