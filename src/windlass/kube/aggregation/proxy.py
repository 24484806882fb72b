"""Passes requests on to the server of an APIService.

    client ─▶ authenticated, authorized here ─▶ X-Remote-User, X-Remote-Group, X-Remote-Extra-… ─▶ the service's
    endpoint
                                                 TLS with the front-proxy certificate, the service's name checked

Bodies and answers are streamed, so watches pass. Credentials of the client's are not passed on.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from windlass.http import Request, Response, StreamResponse
from windlass.kube.api import status
from windlass.kube.api.identity import User
from windlass.kube.api.proxying import HOP_BY_HOP
from windlass.kube.api.reader import Object, Reader
from windlass.kube.api.request import RequestInfo
from windlass.kube.api.webhooks import Resolver

GROUP = "apiregistration.k8s.io"
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=None)
_DISCOVERY_TIMEOUT = aiohttp.ClientTimeout(total=5)


class Unreachable(Exception):  # named for what is the matter
    """A service does not answer; the message says how."""


class Aggregator:
    """Knows which groups are served elsewhere, and passes requests on."""

    def __init__(self, reader: Reader, resolve: Resolver, certificate: Path, key: Path) -> None:
        self._reader = reader
        self._resolve = resolve
        self._certificate, self._key = certificate, key
        self._sessions: dict[tuple[str, bool], aiohttp.ClientSession] = {}
        self._discovered: dict[str, dict[str, Any]] = {}

    def service(self, group: str, version: str) -> Object | None:
        """The APIService of a group and version that another server answers."""
        found = self._reader.get(GROUP, "apiservices", "", f"{version}.{group}")
        return found if found is not None and (found.get("spec") or {}).get("service") else None

    def outside(self, info: RequestInfo) -> Aggregator | None:
        """Ourselves, where a request's group is answered elsewhere."""
        return self if info.group and self.service(info.group, info.version) is not None else None

    async def page(self, request: Request, user: User) -> Response | StreamResponse | None:
        """Discovery below /apis of a group that is answered elsewhere; None for others."""
        parts = request.path.strip("/").split("/")
        if parts[0] != "apis" or len(parts) not in (2, 3):
            return None
        services = [
            each
            for each in self._reader.list(GROUP, "apiservices")
            if each["spec"].get("service") and each["spec"].get("group") == parts[1]
        ]
        if len(parts) == 3:
            services = [each for each in services if each["spec"]["version"] == parts[2]]
            return await self._pass_on(request, services[0], user) if services else None
        if not services:
            return None
        services.sort(key=lambda each: -each["spec"].get("versionPriority", 0))
        versions = [
            {"groupVersion": f"{parts[1]}/{each['spec']['version']}", "version": each["spec"]["version"]}
            for each in services
        ]
        group = {"kind": "APIGroup", "apiVersion": "v1", "name": parts[1], "versions": versions}
        return Response(
            200, [("Content-Type", "application/json")], orjson.dumps({**group, "preferredVersion": versions[0]})
        )

    async def __call__(self, request: Request, info: RequestInfo, user: User) -> Response | StreamResponse:
        """Pass a request to a resource on."""
        service = self.service(info.group, info.version)
        assert service is not None
        return await self._pass_on(request, service, user)

    def discovered(self) -> list[dict[str, Any]]:
        """APIGroupDiscovery documents of what is answered elsewhere and was seen to answer."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for name, document in self._discovered.items():
            service = self._reader.get(GROUP, "apiservices", "", name)
            if service is not None:
                groups.setdefault(service["spec"]["group"], []).append(document)
        return [
            {"metadata": {"name": group, "creationTimestamp": None}, "versions": versions}
            for group, versions in sorted(groups.items())
        ]

    async def probe(self, service: Object) -> bool:
        """Ask a service for its resources; whether what it serves has changed.

        Raises:
            Unreachable
        """
        spec = service["spec"]
        name = service["metadata"]["name"]
        url, server_name, session = await self._target(service)
        path = f"/apis/{spec['group']}/{spec['version']}"
        try:
            async with session.get(
                url + path, timeout=_DISCOVERY_TIMEOUT, server_hostname=server_name, headers=_identity(_PROBER)
            ) as answer:
                body = await answer.content.read(4 * 1024 * 1024)
                if not 200 <= answer.status < 300:
                    raise Unreachable(f"bad status from {url}{path}: {answer.status}")
                found = orjson.loads(body)
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError, orjson.JSONDecodeError) as error:
            self._discovered.pop(name, None)
            raise Unreachable(f"failing or missing response from {url}{path}: {error}") from None
        document = _discovery(spec["version"], spec["group"], found.get("resources") or ())
        changed = self._discovered.get(name) != document
        self._discovered[name] = document
        return changed

    def forget(self, name: str) -> None:
        """A service went."""
        self._discovered.pop(name, None)

    async def _target(self, service: Object) -> tuple[str, str, aiohttp.ClientSession]:
        spec = service["spec"]
        place = spec["service"]
        try:
            host, port = await self._resolve(place["namespace"], place["name"], place.get("port", 443))
        except LookupError as error:
            raise Unreachable(str(error)) from None
        shown = f"[{host}]" if ":" in host else host
        session = self._session(spec.get("caBundle") or "", bool(spec.get("insecureSkipTLSVerify")))
        return f"https://{shown}:{port}", f"{place['name']}.{place['namespace']}.svc", session

    def _session(self, bundle: str, insecure: bool) -> aiohttp.ClientSession:
        key = (bundle, insecure)
        session = self._sessions.get(key)
        if session is None:
            context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode() if bundle else None)
            if insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            context.load_cert_chain(self._certificate, self._key)
            connector = aiohttp.TCPConnector(ssl=context, limit=0)
            session = self._sessions[key] = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, read_bufsize=1 << 20
            )
        return session

    async def _pass_on(self, request: Request, service: Object, user: User) -> Response | StreamResponse:
        try:
            url, server_name, session = await self._target(service)
        except Unreachable as error:
            raise status.service_unavailable(str(error)) from None
        headers = {name: value for name, value in request.headers.items() if not _is_ours(name)}
        headers.update(_identity(user))
        try:
            answer = await session.request(
                request.method,
                url + request.target,
                headers=headers,
                data=request.body if request.has_body else None,
                timeout=_TIMEOUT,
                server_hostname=server_name,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError) as error:
            raise status.service_unavailable(f"error trying to reach service: {error}") from None
        passed = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
        return StreamResponse(answer.status, passed, _chunks(answer))

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


_PROBER = User("system:kube-aggregator", groups=("system:masters",))


def _is_ours(name: str) -> bool:
    return name in HOP_BY_HOP or name.startswith(("x-remote-", "impersonate-"))


def _identity(user: User) -> dict[str, str]:
    found: dict[str, str] = {"X-Remote-User": user.name}
    if user.uid:
        found["X-Remote-Uid"] = user.uid
    if user.groups:
        found["X-Remote-Group"] = ", ".join(user.groups)
    for key, values in user.extra.items():
        found[f"X-Remote-Extra-{quote(key, safe='')}"] = ", ".join(values)
    return found


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    finally:
        answer.close()


def _discovery(version: str, group: str, resources: Any) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = {}
    parts: list[tuple[str, dict[str, Any]]] = []
    for each in resources:
        name, _, part = str(each.get("name", "")).partition("/")
        kind = {
            "group": each.get("group") or group,
            "version": each.get("version") or version,
            "kind": each.get("kind", ""),
        }
        if part:
            parts.append((name, {"subresource": part, "responseKind": kind, "verbs": each.get("verbs") or []}))
            continue
        entry: dict[str, Any] = {
            "resource": name,
            "responseKind": kind,
            "scope": "Namespaced" if each.get("namespaced") else "Cluster",
            "singularResource": each.get("singularName") or "",
            "verbs": each.get("verbs") or [],
        }
        for field in ("shortNames", "categories"):
            if each.get(field):
                entry[field] = each[field]
        entries[name] = entry
    for name, part_entry in parts:
        if name in entries:
            entries[name].setdefault("subresources", []).append(part_entry)
    return {"version": version, "resources": list(entries.values()), "freshness": "Current"}
