"""The API server: one readable way for every request.

    request ─ authenticate ─ impersonate ─ authorize ─ queue ─ dispatch ─▶ answer
                 401            403           403        429

What is no resource (health, version, discovery, OpenAPI, metrics) takes the same way and ends at `_other`. Whatever
goes wrong leaves as a Status object.

Source: https://kubernetes.io/docs/concepts/security/controlling-access/
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import orjson

from windlass.errors import InvalidParameter
from windlass.http import Request, Response
from windlass.http.message import BodyTimeoutError, BodyTooLarge, ClientGoneError
from windlass.kube.api import objects, selectors, status
from windlass.kube.api.audit.recorder import Entry, Recorder
from windlass.kube.api.authentication.credentials import Credentials
from windlass.kube.api.authentication.impersonation import impersonate
from windlass.kube.api.authentication.union import Union
from windlass.kube.api.authorization.chain import decide, refusal
from windlass.kube.api.discovery import Discovery
from windlass.kube.api.dispatch import Answer, Dispatcher
from windlass.kube.api.flowcontrol.gate import Gate
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.health import Health
from windlass.kube.api.identity import MASTERS, Attributes, Authorizer, Requirement, User
from windlass.kube.api.metrics import Metrics
from windlass.kube.api.operations.environment import Environment
from windlass.kube.api.request import Options, RequestInfo, parse_request
from windlass.kube.api.resource import Resource
from windlass.store import StoreError

log = logging.getLogger("windlass.kube.api")

_NOT_FOUND = "the server could not find the requested resource"
_CACHING = ("Cache-Control", "no-cache, private")

Page = Callable[[Request, User], Awaitable[Response]]
Outside = Callable[[Request, RequestInfo, User], Awaitable[Answer]]


@dataclass(slots=True)
class APIServer:
    """A handler for `windlass.http.Server`.

    Attributes:
        elsewhere: discovery documents of groups that other servers answer.
        pages: what answers paths that are no resources, by their beginning ("/openapi/").
        outside: answers for groups that other servers serve; None where a group is not one of them.
    """

    env: Environment
    authenticator: Union
    authorizer: Authorizer
    dispatcher: Dispatcher
    discovery: Discovery
    health: Health
    version: Mapping[str, str]
    pages: dict[str, Page] = field(default_factory=dict)
    metrics: Metrics | None = None
    gate: Gate | None = None
    recorder: Recorder | None = None
    outside: Callable[[RequestInfo], Outside | None] = lambda _info: None
    elsewhere: Callable[[Request, User], Awaitable[Answer]] | None = None

    async def __call__(self, request: Request) -> Answer:
        """Answer a request."""
        track = _Track()
        begun = time.perf_counter()
        try:
            answer = await self._answer(request, track)
        except (ClientGoneError, asyncio.CancelledError):
            raise
        except BaseException as error:
            refusal = _refusal(error)
            if refusal is None:
                if not isinstance(error, Exception):
                    raise
                log.exception("a request failed: %s %s", request.method, request.target)
                refusal = status.internal_error("an internal failure, see the server's log")
            answer = failure(refusal)
            track.message, track.reason = refusal.message, refusal.reason
        self._account(track, answer, time.perf_counter() - begun)
        return answer

    def _account(self, track: _Track, answer: Answer, seconds: float) -> None:
        """Metrics and audit of a request that has its answer."""
        code = answer.status if answer is not None else 101
        if self.metrics is not None and track.info is not None:
            self.metrics.observe(track.info, code, seconds)
        if track.entry is not None:
            body = answer.body if isinstance(answer, Response) else b""
            if track.call is not None:
                track.entry.request(track.call.body)
            annotations = track.call.actor.annotations if track.call is not None else {}
            track.entry.complete(code, body, annotations, track.message, track.reason)

    async def _answer(self, request: Request, track: _Track) -> Answer:
        path, query = request.path, request.query
        tls = request.extra("ssl_object")  # noqa: S610
        credentials = Credentials(request.headers, tls.getpeercert(True) if tls is not None else None, path)
        user = self.authenticator.quick(credentials)
        if user is None:
            user = await self.authenticator.authenticate(credentials)
        impersonator = None
        if "impersonate-user" in request.headers or any(name.startswith("impersonate-") for name in request.headers):
            wanted = await impersonate(user, request.headers, self.authorizer)
            if wanted is not None:
                user, impersonator = wanted, user
        info = track.info = parse_request(request.method, path, query)
        attributes = None
        if self.recorder is not None:
            attributes = attributes_of(info, user, query)
            peer = request.extra("peername")  # noqa: S610
            source = peer[0] if isinstance(peer, tuple) else ""
            agent = request.headers.get("user-agent", "")
            track.entry = self.recorder.begin(attributes, request.target, source, agent, impersonator)
        if MASTERS not in user.groups:
            attributes = attributes or attributes_of(info, user, query)
            verdict = await decide(self.authorizer, attributes)
            if not verdict.allowed:
                raise refusal(attributes, verdict.reason)
            if self.gate is not None and info.subresource not in _ENDLESS:
                return await self._through_gate(self.gate, attributes, request, info, user, track)
        return await self._serve(request, info, user, track)

    async def _through_gate(
        self, gate: Gate, attributes: Attributes, request: Request, info: RequestInfo, user: User, track: _Track
    ) -> Answer:
        """Wait for a seat, and give it back with the answer: a stream has begun then."""
        ticket = gate.enter(attributes)
        if ticket is not None:
            await gate.wait(ticket)
        try:
            return await self._serve(request, info, user, track)
        finally:
            if ticket is not None:
                gate.leave(ticket)

    async def _serve(self, request: Request, info: RequestInfo, user: User, track: _Track) -> Answer:
        path, query = request.path, request.query
        if not info.is_resource:
            return await self._other(request, path, query, user)
        resource = self.env.registry.get(info.group, info.version, info.resource)
        if resource is None:
            if (outside := self.outside(info)) is not None:
                return await outside(request, info, user)
            raise status.StatusError(404, "NotFound", _NOT_FOUND)
        self._check_scope(info, resource)
        call = track.call = Call(self.env, request, info, Options(query), user, resource)
        if resource.deprecation:
            call.actor.warn(resource.deprecation)
        handler = self.dispatcher.handler(call)
        if info.verb in _READS:
            return await handler(call)
        # A write that has begun goes to its end: a client that goes away does not undo it half-way.
        request.cancel_on_disconnect = False
        return await handler(call)

    @staticmethod
    def _check_scope(info: RequestInfo, resource: Resource) -> None:
        if resource.namespaced and not info.namespace and (info.name or info.verb == "create"):
            raise status.StatusError(404, "NotFound", _NOT_FOUND)
        if not resource.namespaced and info.namespace and resource.plural != "namespaces":
            raise status.StatusError(404, "NotFound", _NOT_FOUND)

    async def _other(self, request: Request, path: str, query: list[tuple[str, str]], user: User) -> Answer:
        if request.method not in ("GET", "HEAD"):
            raise status.StatusError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        if (found := self.health.answer(path, query)) is not None:
            return found
        if (found := self.discovery.answer(path.rstrip("/") or "/", request.headers)) is not None:
            return found
        if path == "/version":
            return Response(200, [("Content-Type", "application/json")], orjson.dumps(dict(self.version)))
        if path == "/":
            return Response(200, [("Content-Type", "application/json")], orjson.dumps({"paths": self._paths()}))
        for prefix, page in self.pages.items():
            if path == prefix or (prefix.endswith("/") and path.startswith(prefix)):
                return await page(request, user)
        if self.elsewhere is not None and (answer := await self.elsewhere(request, user)) is not None:
            return answer
        raise status.StatusError(404, "NotFound", _NOT_FOUND)

    def _paths(self) -> list[str]:
        registry = self.env.registry
        paths = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"]
        for group in registry.groups():
            if group:
                paths.append(f"/apis/{group}")
                paths += [f"/apis/{group}/{version}" for version in registry.versions(group)]
        return sorted({*paths, *(prefix.rstrip("/") for prefix in self.pages)})


_READS = frozenset({"get", "list", "watch"})
_ENDLESS = frozenset({"attach", "exec", "log", "portforward", "proxy"})
"""Subresources whose answers take as long as their clients like: they hold no seat."""


class _Track:
    """What is known of a request while it is answered, for metrics and the audit log."""

    __slots__ = ("call", "entry", "info", "message", "reason")

    def __init__(self) -> None:
        self.info: RequestInfo | None = None
        self.call: Call | None = None
        self.entry: Entry | None = None
        self.message = self.reason = ""


def _refusal(error: BaseException) -> status.StatusError | None:
    """What a client hears of an error; None for our own failures."""
    if isinstance(error, status.StatusError):
        return error
    if isinstance(error, BodyTooLarge):
        return status.too_large(str(error))
    if isinstance(error, BodyTimeoutError):
        return status.StatusError(408, "Timeout", "the body did not arrive in time")
    if isinstance(error, InvalidParameter):
        return status.bad_request(str(error))
    if isinstance(error, StoreError):
        return status.internal_error(str(error))
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            if (found := _refusal(each)) is not None:
                return found
    return None


_SELECTING = frozenset({"list", "watch", "deletecollection"})


def attributes_of(info: RequestInfo, user: User, query: list[tuple[str, str]]) -> Attributes:
    """What an authorizer is asked."""
    if not info.is_resource:
        return Attributes(user, info.verb, path=info.path, is_resource=False)
    fields = labels = None
    name = info.name
    if query and info.verb in _SELECTING:
        for parameter, value in query:
            if value and parameter == "fieldSelector":
                fields = _parsed(selectors.parse_fields, value)
            elif value and parameter == "labelSelector":
                labels = _parsed(selectors.parse_labels, value)
        if not name and fields is not None and len(fields) == 1:
            name = _selected_name(fields[0])
    return Attributes(
        user,
        info.verb,
        info.group,
        info.version,
        info.resource,
        info.subresource,
        info.namespace,
        name,
        info.path,
        field_selector=fields,
        label_selector=labels,
    )


def _parsed(parse: Callable[[str], list[Requirement]], text: str) -> list[Requirement] | None:
    """What a selector says; one that nobody can read is refused later, and says nothing here."""
    try:
        return parse(text)
    except status.StatusError:
        return None


def _selected_name(found: Requirement) -> str:
    """The one name that a list or watch asks for."""
    return found.values[0] if found.key == "metadata.name" and found.operator == "In" else ""


def failure(error: status.StatusError) -> Response:
    """A refusal as clients read it."""
    headers = [("Content-Type", "application/json"), _CACHING, ("Audit-Id", objects.new_uid())]
    if error.retry_after:
        headers.append(("Retry-After", str(error.retry_after)))
    if error.code == 401:
        headers.append(("WWW-Authenticate", 'Bearer realm="windlass"'))
    return Response(error.code, headers, orjson.dumps(error.to_json()))
