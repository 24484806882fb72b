"""The documents, built when they are asked for and kept until the registry changes."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from windlass.http import Request, Response
from windlass.kube.api import status
from windlass.kube.api.identity import User
from windlass.kube.api.registry import Registry
from windlass.kube.api.resource import Resource
from windlass.kube.openapi import definitions, gnostic, paths
from windlass.kube.schema.catalogue import Catalogue

_JSON = "application/json"
_METHODS = ("get", "post", "put", "patch", "delete")
_SECURITY = {
    "BearerToken": {
        "description": "Bearer Token authentication",
        "type": "apiKey",
        "name": "authorization",
        "in": "header",
    }
}


class Documents:
    """A page of `APIServer` below /openapi/."""

    def __init__(self, registry: Registry, catalogue: Catalogue, custom: definitions.Custom) -> None:
        self._registry = registry
        self._catalogue = catalogue
        self._custom = custom
        self._generation = -1
        self._known: dict[str, tuple[bytes, str]] = {}

    async def __call__(self, request: Request, user: User) -> Response:
        """Answer a request.

        Raises:
            StatusError: 404, 406.
        """
        if self._generation != self._registry.generation:
            self._known.clear()
            self._generation = self._registry.generation
        path = request.path.rstrip("/")
        accept = request.headers.get("accept", "*/*")
        kind = _JSON
        if path == "/openapi/v2" and gnostic.MEDIA_TYPE in accept:
            kind = gnostic.CONTENT_TYPE
        elif "json" not in accept and "*/*" not in accept:
            raise status.not_acceptable(f"only the following media types are accepted: {_JSON}")
        body, tag = self._document(path if kind == _JSON else f"{path}.pb")
        headers = [("Content-Type", kind), ("ETag", f'"{tag}"'), ("Vary", "Accept")]
        if any(name == "hash" and value == tag for name, value in request.query):
            headers.append(("Cache-Control", "public, immutable"))
        if request.headers.get("if-none-match") == f'"{tag}"':
            return Response(304, headers)
        return Response(200, headers, body)

    def _document(self, path: str) -> tuple[bytes, str]:
        found = self._known.get(path)
        if found is None:
            if path == "/openapi/v3":
                body = orjson.dumps(self._index())
                found = (body, hashlib.sha256(body).hexdigest().upper())
            elif path == "/openapi/v2":
                body = orjson.dumps(self._v2())
                found = (body, hashlib.sha256(body).hexdigest().upper())
            elif path == "/openapi/v2.pb":
                # Made from the same document, and known by the same tag.
                document, tag = self._document("/openapi/v2")
                found = (gnostic.encode(orjson.loads(document)), tag)
            else:
                resources = self._resources(path.removeprefix("/openapi/v3/"))
                found = (orjson.dumps(self._v3(resources)), self._hash(resources))
            self._known[path] = found
        return found

    def _resources(self, place: str) -> list[Resource]:
        parts = place.split("/")
        found: list[Resource] = []
        if len(parts) == 2 and parts[0] == "api":
            found = list(self._registry.resources("", parts[1]))
        elif len(parts) == 3 and parts[0] == "apis":
            found = list(self._registry.resources(parts[1], parts[2]))
        if not found:
            raise status.StatusError(404, "NotFound", "the server could not find the requested resource")
        return found

    def _hash(self, resources: list[Resource]) -> str:
        """By what a document is made of, so that it need not be made for its hash."""
        parts = [self._catalogue.version]
        for resource in resources:
            parts += [resource.plural, resource.kind, *resource.verbs, *resource.subresources]
            if resource.is_custom:
                parts.append(orjson.dumps(self._custom(resource)).decode())
        return hashlib.sha512("\0".join(parts).encode()).hexdigest().upper()

    def _index(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for group in self._registry.groups():
            for version in self._registry.versions(group):
                place = f"apis/{group}/{version}" if group else f"api/{version}"
                tag = self._hash(list(self._registry.resources(group, version)))
                found[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={tag}"}
        return {"paths": found}

    def _v3(self, resources: list[Resource]) -> dict[str, Any]:
        schemas = definitions.closure(self._catalogue, resources, self._custom)
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self._catalogue.version},
            "paths": {path: item for resource in resources for path, item in paths.of_resource(resource)},
            "components": {
                "schemas": {name: definitions.to_v3(node) for name, node in sorted(schemas.items())},
                "securitySchemes": _SECURITY,
            },
        }

    def _v2(self) -> dict[str, Any]:
        resources = list(self._registry.all())
        found = {path: _to_v2(item) for resource in resources for path, item in paths.of_resource(resource)}
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self._catalogue.version},
            "paths": found,
            "definitions": dict(sorted(definitions.closure(self._catalogue, resources, self._custom).items())),
            "securityDefinitions": _SECURITY,
            "security": [{"BearerToken": []}],
        }


def _to_v2(item: dict[str, Any]) -> dict[str, Any]:
    """A path of v3 in v2's form."""
    result: dict[str, Any] = {"parameters": [_parameter(each) for each in item["parameters"]]}
    for method in _METHODS:
        if method not in item:
            continue
        operation = {key: value for key, value in item[method].items() if key != "requestBody"}
        operation["parameters"] = [_parameter(each) for each in operation["parameters"]]
        operation["produces"] = [_JSON, "application/yaml", "application/vnd.kubernetes.protobuf"]
        operation["consumes"] = ["*/*"]
        operation["schemes"] = ["https"]
        if (body := item[method].get("requestBody")) is not None:
            media = next(iter(body["content"].values()))
            schema = {"$ref": media["schema"]["$ref"].replace("#/components/schemas/", "#/definitions/")}
            operation["parameters"].append(
                {"name": "body", "in": "body", "required": body["required"], "schema": schema}
            )
            operation["consumes"] = list(body["content"])
        responses = {}
        for code, answer in operation["responses"].items():
            responses[code] = {"description": answer["description"]}
            if "content" in answer:
                ref = answer["content"][_JSON]["schema"]["$ref"]
                responses[code]["schema"] = {"$ref": ref.replace("#/components/schemas/", "#/definitions/")}
        operation["responses"] = responses
        result[method] = operation
    return result


def _parameter(found: dict[str, Any]) -> dict[str, Any]:
    schema = found["schema"]
    return {**{key: value for key, value in found.items() if key != "schema"}, **schema}
