"""Who may ask a kubelet: the API server is asked, so that its users and roles hold here, too.

    request ─ client certificate of the cluster, or a token (TokenReview) ─▶ user        401
    user ─ nodes/proxy, nodes/log, nodes/stats, nodes/metrics … of this node (SubjectAccessReview)   403

Nobody is anonymous here. Answers of reviews are known for a while.

Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from windlass.cluster.pki import utc_now
from windlass.http import Request
from windlass.kube.api.authentication.credentials import Credentials, Found, Rejected, TokenAuthenticator
from windlass.kube.api.authentication.union import AnonymousRule, Union
from windlass.kube.api.authentication.x509 import ClientCertificates
from windlass.kube.api.authorization.chain import decide
from windlass.kube.api.identity import Attributes, Authorizer, Decision, User, Verdict
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient
from windlass.kube.node.server.ask import refused

Object = dict[str, Any]

_VERBS: Final = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PARTS: Final = (
    ("/stats", ("stats",)),
    ("/metrics", ("metrics",)),
    ("/logs", ("log",)),
    ("/checkpoint", ("checkpoint",)),
    ("/healthz", ("healthz", "proxy")),
    ("/configz", ("configz", "proxy")),
    ("/pods", ("pods", "proxy")),
    ("/runningpods", ("pods", "proxy")),
)
_ALLOWED_SECONDS: Final = 300.0
_REFUSED_SECONDS: Final = 30.0
_REMEMBERED: Final = 4096


class Access:
    """Lets requests of a node through. `authority` signs clients' certificates (PEM)."""

    def __init__(self, node: str, authority: bytes, tokens: TokenAuthenticator, authorizer: Authorizer) -> None:
        self._node = node
        self._authorizer = authorizer
        self._authenticator = Union(
            [ClientCertificates(authority, utc_now)],
            [tokens],
            anonymous=AnonymousRule(False),
            clock=time.monotonic,
        )

    async def check(self, request: Request) -> User:
        """Who asks, and may. Raises StatusError: 401, 403."""
        tls = request.extra("ssl_object")  # noqa: S610
        certificate = tls.getpeercert(True) if tls is not None else None
        credentials = Credentials(request.headers, certificate, request.path)
        user = self._authenticator.quick(credentials) or await self._authenticator.authenticate(credentials)
        verb, parts = _VERBS.get(request.method, ""), subresources(request.path)
        for part in parts:
            attributes = Attributes(user, verb, "", "v1", "nodes", part, "", self._node, request.path)
            if (await decide(self._authorizer, attributes)).allowed:
                return user
        about = f"user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(parts)}]"
        raise refused(403, f"Forbidden ({about})")


def subresources(path: str) -> Sequence[str]:
    """The parts of a node one of which a path needs. Pure."""
    for beginning, parts in _PARTS:
        if path == beginning or path.startswith(f"{beginning}/"):
            return parts
    return ("proxy",)


class ReviewedTokens:
    """Tokens that an API server elsewhere knows."""

    def __init__(self, client: APIClient) -> None:
        self._client = client

    async def authenticate_token(self, token: str, _audiences: Sequence[str], /) -> Found | None:
        """See `TokenAuthenticator`."""
        body: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        try:
            answer = await self._client.create("authentication.k8s.io", "tokenreviews", body)
        except StatusError as error:
            raise Rejected(error.message) from None
        found = answer.get("status") or {}
        if not found.get("authenticated"):
            return None
        user = found.get("user") or {}
        extra = {key: tuple(values) for key, values in (user.get("extra") or {}).items()}
        return Found(User(user.get("username", ""), user.get("uid", ""), tuple(user.get("groups") or ()), extra))


class ReviewedAccess:
    """What an API server elsewhere allows."""

    def __init__(self, client: APIClient) -> None:
        self._client = client
        self._known: dict[tuple[Any, ...], tuple[float, Verdict]] = {}

    async def authorize(self, attributes: Attributes, /) -> Verdict:
        """See `Authorizer`."""
        user = attributes.user
        key = (user.name, user.uid, user.groups, attributes.verb, attributes.subresource, attributes.name)
        found = self._known.get(key)
        if found is not None and time.monotonic() < found[0]:
            return found[1]
        spec: Object = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {name: list(values) for name, values in user.extra.items()},
            "resourceAttributes": {
                "verb": attributes.verb,
                "version": attributes.version,
                "resource": attributes.resource,
                "subresource": attributes.subresource,
                "name": attributes.name,
            },
        }
        body: Object = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = (await self._client.create("authorization.k8s.io", "subjectaccessreviews", body)).get("status") or {}
        allowed = bool(answer.get("allowed"))
        verdict = Verdict(Decision.ALLOW if allowed else Decision.NO_OPINION, str(answer.get("reason") or ""))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = time.monotonic() + (_ALLOWED_SECONDS if allowed else _REFUSED_SECONDS), verdict
        return verdict
