"""Bearer tokens: fetched from the realm that a registry names, kept until they expire.

    challenge   Bearer realm="https://auth.example/token",service="registry.example"
    GET  realm?service=…&scope=repository:a/b:pull        with Basic credentials, or anonymously
    POST realm  grant_type=refresh_token&refresh_token=…   with an identity token (OAuth2)
    answer      {"token" | "access_token", "expires_in", "refresh_token"}

(distribution's token and oauth specifications.) A token is kept for who asked, where, and for which scopes; concurrent
requests wait for one fetch. A lifetime is counted from the moment of receipt by our own clock, so a wrong clock at
either end does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import orjson

from windlass.images.registry.challenge import Challenge
from windlass.images.registry.credentials import Credentials
from windlass.images.registry.failures import RegistryFailure, UnexpectedAnswer
from windlass.images.registry.settings import Endpoint
from windlass.images.registry.transport import Answer, Request, Transport, join_url

CLIENT_ID: Final = "windlass"
_MIN_LIFETIME: Final = 60.0
_MARGIN: Final = 5.0
_MAX_ANSWER: Final = 1 << 20
_MAX_TOKEN: Final = 64 << 10
_SECONDS: Final = 15.0
_MAX_KEPT: Final = 1000

Clock = Callable[[], float]


@dataclass(frozen=True)
class TokenRequest:
    """What a token is asked for; the key of the cache."""

    realm: str
    service: str
    scopes: tuple[str, ...]
    credentials: Credentials
    offline: bool = False
    """Whether a refresh token is wanted too (login)."""


@dataclass(frozen=True)
class Token:
    """A token and, where asked for and granted, the refresh token that comes with it."""

    text: str = field(repr=False)
    expires: float
    refresh: str = field(default="", repr=False)


def repository_scope(path: str, *actions: str) -> str:
    """`repository:library/debian:pull,push`."""
    return f"repository:{path}:{','.join(actions)}"


def merge_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """One scope for each resource, actions joined, sorted: equal wishes become equal keys."""
    merged: dict[tuple[str, str], set[str]] = {}
    for scope in scopes:
        for single in scope.split():
            kind, _, rest = single.partition(":")
            name, _, actions = rest.rpartition(":")
            merged.setdefault((kind, name), set()).update(filter(None, actions.split(",")))
    return tuple(f"{kind}:{name}:{','.join(sorted(actions))}" for (kind, name), actions in sorted(merged.items()))


class Tokens:
    """The cache of tokens."""

    def __init__(self, transport: Transport, *, clock: Clock = time.monotonic) -> None:
        self._transport = transport
        self._clock = clock
        self._kept: dict[TokenRequest, Token] = {}
        self._locks: dict[TokenRequest, asyncio.Lock] = {}

    async def get(self, endpoint: Endpoint, wanted: TokenRequest) -> Token:
        """A token that is still good. Raises `RegistryFailure`."""
        lock = self._locks.setdefault(wanted, asyncio.Lock())
        try:
            async with lock:
                token = self._kept.get(wanted)
                if token is None or token.expires <= self._clock():
                    token = await self._fetch(endpoint, wanted)
                    self._keep(wanted, token)
                return token
        finally:
            if not lock.locked() and self._locks.get(wanted) is lock:
                del self._locks[wanted]

    def forget(self, wanted: TokenRequest, text: str) -> None:
        """The registry refused this token: do not use it again."""
        token = self._kept.get(wanted)
        if token is not None and token.text == text:
            del self._kept[wanted]

    def _keep(self, wanted: TokenRequest, token: Token) -> None:
        if len(self._kept) >= _MAX_KEPT:
            now = self._clock()
            self._kept = {key: kept for key, kept in self._kept.items() if kept.expires > now}
            while len(self._kept) >= _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        self._kept[wanted] = token

    async def _fetch(self, endpoint: Endpoint, wanted: TokenRequest) -> Token:
        _check_realm(endpoint, wanted)
        if wanted.credentials.identity_token:
            request, authorization = _oauth_request(wanted), ""
        else:
            request, authorization = _basic_request(wanted), wanted.credentials.basic
        # The realm may live elsewhere: the transport gives it its own certificates and its own right to be insecure.
        async with self._transport.send(endpoint, request, authorization) as answer:
            if not answer.ok:
                raise await answer.failure()
            return await self._read(answer)

    async def _read(self, answer: Answer) -> Token:
        try:
            document = orjson.loads(await answer.read(_MAX_ANSWER))
        except orjson.JSONDecodeError as error:
            raise UnexpectedAnswer(f"unable to decode token response: {error}") from None
        if not isinstance(document, dict):
            raise UnexpectedAnswer("unable to decode token response: not an object")
        text = document.get("access_token") or document.get("token")
        if not text:
            raise UnexpectedAnswer("authorization server did not include a token in the response")
        if not isinstance(text, str) or len(text) > _MAX_TOKEN or not text.isascii() or not text.isprintable():
            raise UnexpectedAnswer("unable to decode token response: the token is not a header value")
        lifetime, refresh = document.get("expires_in"), document.get("refresh_token")
        seconds = float(lifetime) if isinstance(lifetime, int | float) else 0.0
        expires = self._clock() + max(seconds, _MIN_LIFETIME) - _MARGIN
        return Token(text, expires, refresh if isinstance(refresh, str) else "")


def token_request(
    challenge: Challenge, credentials: Credentials, scopes: Iterable[str], *, offline: bool = False
) -> TokenRequest:
    """What to ask for, given a registry's challenge. Raises `UnexpectedAnswer` for a challenge without a realm."""
    realm = challenge.parameters.get("realm", "")
    if not realm:
        raise UnexpectedAnswer("no realm specified for token auth challenge")
    try:
        realm = join_url("", realm)
    except UnexpectedAnswer:
        raise UnexpectedAnswer(f"invalid token auth challenge realm: {realm[:200]!r}") from None
    return TokenRequest(
        realm, challenge.parameters.get("service", ""), merge_scopes(scopes), credentials, offline=offline
    )


def _check_realm(endpoint: Endpoint, wanted: TokenRequest) -> None:
    if wanted.realm.startswith("http://") and endpoint.verify and wanted.credentials:
        # A registry behind TLS must not make us send a password in the clear.
        raise RegistryFailure(
            f"refusing to send credentials to {wanted.realm[:200]}: the registry uses TLS, its realm does not"
        )


def _basic_request(wanted: TokenRequest) -> Request:
    parameters = [("service", wanted.service)] if wanted.service else []
    parameters += [("scope", scope) for scope in wanted.scopes]
    if wanted.offline:
        parameters += [("offline_token", "true"), ("client_id", CLIENT_ID)]
    if wanted.credentials.basic:
        parameters.append(("account", wanted.credentials.username))
    parts = urlsplit(wanted.realm)
    query = urlencode(parse_qsl(parts.query, keep_blank_values=True) + parameters)
    return Request("GET", urlunsplit(parts._replace(query=query, fragment="")), total_seconds=_SECONDS)


def _oauth_request(wanted: TokenRequest) -> Request:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": wanted.credentials.identity_token,
        "service": wanted.service,
        "scope": " ".join(wanted.scopes),
        "client_id": CLIENT_ID,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request("POST", wanted.realm, headers, urlencode(form).encode(), follow=False, total_seconds=_SECONDS)
