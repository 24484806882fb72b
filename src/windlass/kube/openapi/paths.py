"""The operations of resources, as OpenAPI v3 writes them (v2 is derived)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from windlass.kube.api.resource import Resource
from windlass.kube.openapi.definitions import list_name

Operation = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_MEDIA = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_PATCHES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_ACTIONS = {"create": "post", "update": "put", "deletecollection": "deletecollection"}


def _query(name: str, type: str = "string", description: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": description or f"The parameter {name} of the request.",
        "schema": {"type": type, "uniqueItems": True},
    }


_PRETTY = _query("pretty", description="If 'true', then the output is pretty printed.")
_DRY_RUN = _query("dryRun", description="When present, indicates that modifications should not be persisted.")
_MANAGER = _query("fieldManager", description="The name associated with the actor making these changes.")
_VALIDATION = _query(
    "fieldValidation",
    description="What the server does about unknown or duplicate fields: Ignore, Warn or Strict.",
)
_FORCE = _query("force", "boolean", "Take over fields that other managers own (apply patches alone).")
_LIST = [
    _query("allowWatchBookmarks", "boolean"),
    _query("continue"),
    _query("fieldSelector"),
    _query("labelSelector"),
    _query("limit", "integer"),
    _query("resourceVersion"),
    _query("resourceVersionMatch"),
    _query("sendInitialEvents", "boolean"),
    _query("timeoutSeconds", "integer"),
    _query("watch", "boolean"),
]
_DELETE = [
    _DRY_RUN,
    _query("gracePeriodSeconds", "integer"),
    _query("orphanDependents", "boolean"),
    _query("propagationPolicy"),
]
_WRITE = [_DRY_RUN, _MANAGER, _VALIDATION]
_PARAMETERS = {
    "get": [],
    "list": _LIST,
    "create": _WRITE,
    "update": _WRITE,
    "patch": [*_WRITE, _FORCE],
    "delete": _DELETE,
    "deletecollection": [*_DELETE, *_LIST],
}


def _path_parameter(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "uniqueItems": True},
    }


def _content(name: str, media: tuple[str, ...] = _MEDIA) -> dict[str, Any]:
    return {each: {"schema": {"$ref": _SCHEMAS + name}} for each in media}


def _operation(resource: Resource, verb: str, kind: dict[str, str], body: str, answer: str, suffix: str) -> Operation:
    scope = "Namespaced" if resource.namespaced else ""
    group = "".join(part.capitalize() for part in (resource.group.split(".")[0] or "core",))
    name = f"{verb}{group}{resource.version.capitalize()}{scope}{resource.kind}{suffix}"
    responses = {"200": {"description": "OK", "content": _content(answer)}}
    if verb in ("create", "update", "patch"):
        responses["201"] = {"description": "Created", "content": _content(answer)}
    if verb in ("create", "delete"):
        responses["202"] = {"description": "Accepted", "content": _content(answer)}
    responses["401"] = {"description": "Unauthorized"}
    operation: Operation = {
        "description": f"{verb} {resource.kind}{' ' + suffix if suffix else ''}",
        "operationId": name[:1].lower() + name[1:],
        "parameters": list(_PARAMETERS[verb]),
        "responses": responses,
        "tags": [f"{resource.group.replace('.', '_').replace('-', '_') or 'core'}_{resource.version}"],
        "x-kubernetes-action": _ACTIONS.get(verb, verb),
        "x-kubernetes-group-version-kind": kind,
    }
    if body:
        media = _PATCHES if verb == "patch" else ("*/*",)
        operation["requestBody"] = {"required": verb != "delete", "content": _content(body, media)}
    return operation


def of_resource(resource: Resource) -> Iterator[tuple[str, dict[str, Any]]]:
    """The paths of a resource and its subresources."""
    base = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    name = resource.definition
    namespace = _path_parameter("namespace", "object name and auth scope, such as for teams and projects")
    scoped = (
        f"{base}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{base}/{resource.plural}"
    )
    common = [namespace] if resource.namespaced else []
    status_name = f"{_META}.Status"
    collection: dict[str, Any] = {}
    item: dict[str, Any] = {}
    for verb in resource.verbs:
        if verb == "list":
            collection["get"] = _operation(resource, verb, kind, "", list_name(name), "")
        elif verb == "create":
            collection["post"] = _operation(resource, verb, kind, name, name, "")
        elif verb == "deletecollection":
            body = f"{_META}.DeleteOptions"
            collection["delete"] = _operation(resource, verb, kind, body, status_name, "")
        elif verb == "get":
            item["get"] = _operation(resource, verb, kind, "", name, "")
        elif verb == "update":
            item["put"] = _operation(resource, verb, kind, name, name, "")
        elif verb == "patch":
            item["patch"] = _operation(resource, verb, kind, f"{_META}.Patch", name, "")
        elif verb == "delete":
            item["delete"] = _operation(resource, verb, kind, f"{_META}.DeleteOptions", status_name, "")
    if collection:
        yield scoped, {**collection, "parameters": [*common, _PRETTY]}
    named = _path_parameter("name", f"name of the {resource.kind}")
    if item:
        yield f"{scoped}/{{name}}", {**item, "parameters": [named, *common, _PRETTY]}
    if resource.namespaced and "list" in resource.verbs:
        everywhere = _operation(resource, "list", kind, "", list_name(name), "ForAllNamespaces")
        yield f"{base}/{resource.plural}", {"get": everywhere, "parameters": [_PRETTY]}
    for part in resource.subresources.values():
        operations: dict[str, Any] = {}
        group, version, part_kind = part.group_version_kind
        part_gvk = {"group": group, "version": version, "kind": part_kind}
        for verb in part.verbs:
            method = {"create": "post", "update": "put"}.get(verb, verb)
            body = f"{_META}.Patch" if verb == "patch" else name if verb in ("create", "update") else ""
            operations[method] = _operation(resource, verb, part_gvk, body, name, part.name.capitalize())
        yield f"{scoped}/{{name}}/{part.name}", {**operations, "parameters": [named, *common, _PRETTY]}
