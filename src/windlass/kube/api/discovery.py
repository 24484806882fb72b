"""Discovery: what is served, as clients ask for it before anything else.

    /api, /apis, /apis/<group>                   legacy, one document each
    /api/v1, /apis/<group>/<version>             the resources of a version
    /api, /apis with an Accept of
    g=apidiscovery.k8s.io;v=v2;as=…List          everything at once, with an ETag

Documents are built when they are asked for and kept until the registry changes.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from windlass.http import Response
from windlass.kube.api.registry import Registry
from windlass.kube.api.resource import Resource, Subresource

_AGGREGATED = "apidiscovery.k8s.io"
_STORAGE_HASH = "storageVersionHash"

Extra = Callable[[], list[dict[str, Any]]]
"""Groups that other servers answer: their APIGroupDiscovery documents."""


class Discovery:
    """The documents of one server. `address` is what /api names as the server's own."""

    def __init__(self, registry: Registry, address: str = "", extra: Extra = list) -> None:
        self._registry = registry
        self._address = address
        self._extra = extra
        self._generation = -1
        self._known: dict[str, tuple[bytes, str]] = {}

    def changed(self) -> None:
        """Groups of other servers came or went."""
        self._known.clear()

    def answer(self, path: str, headers: Mapping[str, str]) -> Response | None:
        """The document of a path; None where the path is none of discovery's."""
        if self._generation != self._registry.generation:
            self._known.clear()
            self._generation = self._registry.generation
        accept = headers.get("accept", "")
        version = _aggregated_version(accept) if path in ("/api", "/apis") else ""
        key = f"{path} {version}"
        found = self._known.get(key)
        if found is None:
            document = self._document(path, version)
            if document is None:
                return None
            body = orjson.dumps(document)
            found = self._known[key] = (body, f'"{hashlib.sha256(body).hexdigest().upper()}"')
        body, tag = found
        if version:
            kind = f"application/json;g={_AGGREGATED};v={version};as=APIGroupDiscoveryList"
            common = [("ETag", tag), ("Vary", "Accept"), ("Cache-Control", "public")]
            if headers.get("if-none-match") == tag:
                return Response(304, common)
            return Response(200, [("Content-Type", kind), *common], body)
        return Response(200, [("Content-Type", "application/json")], body)

    def _document(self, path: str, version: str) -> dict[str, Any] | None:
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            if len(parts) == 1:
                return self._aggregated(version, core=True) if version else self._legacy_versions()
            if len(parts) == 2:
                return self._resources("", parts[1])
        elif parts[0] == "apis":
            if len(parts) == 1:
                return self._aggregated(version, core=False) if version else self._groups()
            if len(parts) == 2:
                return self._group(parts[1])
            if len(parts) == 3:
                return self._resources(parts[1], parts[2])
        return None

    def _legacy_versions(self) -> dict[str, Any]:
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]
        return {
            "kind": "APIVersions",
            "versions": self._registry.versions(""),
            "serverAddressByClientCIDRs": addresses,
        }

    def _groups(self) -> dict[str, Any]:
        groups = [self._group_entry(group) for group in self._registry.groups() if group]
        for found in self._extra():
            versions = [
                {"groupVersion": f"{found['metadata']['name']}/{each['version']}", "version": each["version"]}
                for each in found["versions"]
            ]
            groups.append({"name": found["metadata"]["name"], "versions": versions, "preferredVersion": versions[0]})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _group_entry(self, group: str) -> dict[str, Any]:
        versions = [
            {"groupVersion": f"{group}/{version}", "version": version} for version in self._registry.versions(group)
        ]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _group(self, group: str) -> dict[str, Any] | None:
        if not self._registry.versions(group):
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group_entry(group)}

    def _resources(self, group: str, version: str) -> dict[str, Any] | None:
        found = list(self._registry.resources(group, version))
        if not found:
            return None
        entries: list[dict[str, Any]] = []
        for resource in found:
            entry: dict[str, Any] = {
                "name": resource.plural,
                "singularName": resource.singular,
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": list(resource.verbs),
            }
            if resource.short_names:
                entry["shortNames"] = list(resource.short_names)
            if resource.categories:
                entry["categories"] = list(resource.categories)
            if "list" in resource.verbs:
                entry[_STORAGE_HASH] = _storage_hash(resource)
            entries.append(entry)
            entries += [_legacy_part(resource, part) for part in resource.subresources.values()]
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": sorted(entries, key=lambda entry: str(entry["name"])),
        }

    def _aggregated(self, version: str, *, core: bool) -> dict[str, Any]:
        items = []
        for group in self._registry.groups():
            if bool(group) == core:
                continue
            versions = [
                {
                    "version": each,
                    "resources": [_entry(resource) for resource in self._registry.resources(group, each)],
                    "freshness": "Current",
                }
                for each in self._registry.versions(group)
            ]
            metadata: dict[str, Any] = {"creationTimestamp": None}
            if group:
                metadata["name"] = group
            items.append({"metadata": metadata, "versions": versions})
        if not core:
            items += self._extra()
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"{_AGGREGATED}/{version}",
            "metadata": {},
            "items": items,
        }


def _aggregated_version(accept: str) -> str:
    """The version of the aggregated form that a client asks for first, "" for the legacy form."""
    for clause in accept.split(","):
        parameters: dict[str, str] = {}
        for part in clause.split(";")[1:]:
            name, _, value = part.strip().partition("=")
            parameters[name] = value
        if parameters.get("g") == _AGGREGATED and parameters.get("as") == "APIGroupDiscoveryList":
            if parameters.get("v") in ("v2", "v2beta1"):
                return parameters["v"]
            continue
        if clause.split(";")[0].strip() in ("application/json", "*/*", "application/*") and "as" not in parameters:
            return ""
    return ""


def _storage_hash(resource: Resource) -> str:
    import base64

    storage = resource.storage
    text = f"{storage.group}/{storage.version}/{storage.kind}".encode()
    return base64.b64encode(hashlib.sha256(text).digest()[:8]).decode()


def _legacy_part(resource: Resource, part: Subresource) -> dict[str, Any]:
    group, version, kind = part.group_version_kind
    entry: dict[str, Any] = {
        "name": f"{resource.plural}/{part.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": kind,
        "verbs": list(part.verbs),
    }
    if (group, version) != (resource.group, resource.version):
        if group:
            entry["group"] = group
        entry["version"] = version
    return entry


def _kind(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}


def _entry(resource: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": _kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [
            {"subresource": part.name, "responseKind": _kind(*part.group_version_kind), "verbs": list(part.verbs)}
            for part in resource.subresources.values()
        ]
    return entry
