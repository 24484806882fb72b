"""metrics.k8s.io/v1beta1 over HTTP: nodes and pods, get and list, with selectors, as JSON, YAML or a Table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from windlass.http import Request, Response
from windlass.kube.api import selectors, status
from windlass.kube.api.handlers import encoding
from windlass.kube.api.handlers.lists import LIST_TRANSFORMS
from windlass.kube.api.identity import User
from windlass.kube.api.negotiation import negotiate
from windlass.kube.api.printers import table
from windlass.kube.api.quantity import parse
from windlass.kube.api.request import Options, RequestInfo
from windlass.kube.api.resource import Column, Printer, Resource
from windlass.kube.metrics.source import ResourceMetrics

Object = dict[str, Any]

GROUP: Final = "metrics.k8s.io"
VERSION: Final = "v1beta1"
_VERBS: Final = ("get", "list")
_ONE_TRANSFORMS: Final = frozenset({"Table", "PartialObjectMetadata"})
_COLUMNS: Final = (
    Column("Name", format="name"),
    Column("cpu"),
    Column("memory"),
    Column("Window", format="duration"),
)


def _cells(obj: Object, _now: float) -> list[Any]:
    usages = [obj["usage"]] if "usage" in obj else [each["usage"] for each in obj["containers"]]
    cpu, memory = (sum((parse(each[name]).nano for each in usages), 0) for name in ("cpu", "memory"))
    return [obj["metadata"]["name"], f"{cpu // 10**6}m", f"{memory // 10**9 // 1024}Ki", obj["window"]]


def _resource(kind: str, plural: str, *, namespaced: bool) -> Resource:
    printer = Printer(_COLUMNS, _cells)
    return Resource(GROUP, VERSION, kind, plural, namespaced=namespaced, verbs=_VERBS, printer=printer, is_custom=True)


_RESOURCES: Final = {
    "nodes": _resource("NodeMetrics", "nodes", namespaced=False),
    "pods": _resource("PodMetrics", "pods", namespaced=True),
}


class ResourceMetricsAPI:
    """Answers for the group where nobody else does: `service` finds the APIService of another server."""

    def __init__(self, metrics: ResourceMetrics, service: Callable[[str, str], Object | None]) -> None:
        self._metrics = metrics
        self._service = service

    def outside(self, info: RequestInfo) -> ResourceMetricsAPI | None:
        """Ourselves, for requests to the group."""
        return self if (info.group, info.version) == (GROUP, VERSION) else None

    def discovered(self) -> list[Object]:
        """The group's APIGroupDiscovery document."""
        if self._service(GROUP, VERSION) is not None:
            return []
        resources = [
            {
                "resource": each.plural,
                "responseKind": {"group": GROUP, "version": VERSION, "kind": each.kind},
                "scope": "Namespaced" if each.namespaced else "Cluster",
                "singularResource": "",
                "verbs": list(each.verbs),
            }
            for each in _RESOURCES.values()
        ]
        versions = [{"version": VERSION, "resources": resources, "freshness": "Current"}]
        return [{"metadata": {"name": GROUP, "creationTimestamp": None}, "versions": versions}]

    async def page(self, request: Request, _user: User) -> Response | None:
        """Discovery below /apis of the group; None for others."""
        match request.path.strip("/").split("/"):
            case ["apis", "metrics.k8s.io"]:
                version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
                found: Object = {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP}
                found |= {"versions": [version], "preferredVersion": version}
            case ["apis", "metrics.k8s.io", "v1beta1"]:
                found = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}"}
                found["resources"] = [
                    {
                        "name": each.plural,
                        "singularName": "",
                        "namespaced": each.namespaced,
                        "kind": each.kind,
                        "verbs": list(each.verbs),
                    }
                    for each in _RESOURCES.values()
                ]
            case _:
                return None
        return Response(200, [("Content-Type", "application/json")], orjson.dumps(found))

    async def __call__(self, request: Request, info: RequestInfo, _user: User) -> Response:
        """GET of one or all. Raises StatusError."""
        resource = _RESOURCES.get(info.resource)
        if resource is None or info.subresource or (info.name and resource.namespaced and not info.namespace):
            raise status.StatusError(404, "NotFound", "the server could not find the requested resource")
        if info.verb not in _VERBS:
            raise status.method_not_supported(info.resource, GROUP, info.verb)
        options = Options(request.query)
        name = info.name
        matches = None
        if text := options.text("labelSelector"):
            matches = selectors.label_matcher(selectors.parse_labels(text))
        fields = selectors.parse_fields(options.text("fieldSelector")) if options.text("fieldSelector") else []
        if info.resource == "nodes":
            items = await self._metrics.nodes(matches, name)
        else:
            items = await self._metrics.pods(info.namespace, matches, name)
        items = [each for each in items if _fits(each, fields)]
        if not name:
            return _list(request, options, resource, items)
        if not items:
            shown = f"{info.namespace}/{name}" if info.namespace else name
            raise status.not_found("podmetrics" if resource.namespaced else "nodemetrics", GROUP, shown)
        form = negotiate(request.headers.get("accept", ""), _ONE_TRANSFORMS, False)
        if form.kind == "Table":
            body = table.of_objects(resource, items, time.time(), include=options.text("includeObject"))
        else:
            body = table.partial_metadata(items[0], form.version) if form.kind else items[0]
        return Response(200, [("Content-Type", form.content_type)], encoding.encode(form, body))


def _list(request: Request, options: Options, resource: Resource, items: Sequence[Object]) -> Response:
    form = negotiate(request.headers.get("accept", ""), LIST_TRANSFORMS, False)
    body: Object
    if form.kind == "Table":
        include = options.text("includeObject")
        body = table.of_objects(resource, items, time.time(), include=include, version=form.version)
    elif form.kind:
        body = table.partial_list(items, {}, form.version)
    else:
        body = {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": {},
            "items": [_without_type(each) for each in items],
        }
    return Response(200, [("Content-Type", form.content_type)], encoding.encode(form, body))


def _without_type(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}


def _fits(obj: Object, requirements: Sequence[selectors.Requirement]) -> bool:
    """Whether an object's name and namespace are those asked for. Raises StatusError: 400."""
    for each in requirements:
        if each.key not in ("metadata.name", "metadata.namespace"):
            raise status.bad_request(f"field label not supported: {each.key}")
        value = obj["metadata"].get(each.key.removeprefix("metadata."), "")
        if (value in each.values) != (each.operator == "In"):
            return False
    return True
