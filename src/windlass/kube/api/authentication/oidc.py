"""Tokens of OpenID Connect issuers: any number of them, each with its own mapping of claims to users.

    token ─ issuer? ─▶ keys by discovery ─▶ signature, audience, time ─▶ claim rules ─▶ user ─▶ user rules

Keys are fetched when the first token comes and again when a token names one that is not known, but not more often than
every few seconds, so that forged tokens cannot make this server flood the issuer.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens and OpenID Connect
Discovery 1.0.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from windlass.kube.api.authentication.credentials import Found, Rejected
from windlass.kube.api.authentication.jwt import BadToken, VerifyingKey, load_key_set, peek, verify
from windlass.kube.api.identity import User
from windlass.kube.cel import EvaluationError, Program

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
WELL_KNOWN = "/.well-known/openid-configuration"
_REFRESH_SECONDS = 5.0
_DEADLINE = 10.0
_LARGEST_ANSWER = 1024 * 1024
_NOT_BEFORE_LEEWAY = 300.0


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where a part of the user comes from: a claim with a prefix, or an expression; neither: nothing."""

    claim: str = ""
    prefix: str = ""
    program: Program | None = None


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """What a token must say: a claim with a value, or an expression that holds."""

    claim: str = ""
    value: str = ""
    program: Program | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """One issuer.

    Attributes:
        url: the issuer's, as tokens name it.
        discovery_url: where its configuration is; "" for the well-known place below `url`.
        authority: PEM certificates that its server is checked by; "" for the system's.
        audiences: a token must be for one of them.
        extra: keys and the programs of their values.
        user_rules: programs over `user` that must hold, with the message where they do not.
    """

    url: str
    audiences: tuple[str, ...]
    username: Mapped
    groups: Mapped = Mapped()
    uid: Mapped = Mapped()
    extra: tuple[tuple[str, Program], ...] = ()
    claim_rules: tuple[ClaimRule, ...] = ()
    user_rules: tuple[tuple[Program, str], ...] = ()
    discovery_url: str = ""
    authority: str = ""
    algorithms: tuple[str, ...] = ALGORITHMS


class OIDCTokens:
    """Verifies the tokens of one issuer. `wall_clock` gives seconds since 1970, `clock` monotonic seconds."""

    def __init__(self, settings: Settings, *, wall_clock: Callable[[], float], clock: Callable[[], float]) -> None:
        self._settings = settings
        self._wall_clock = wall_clock
        self._clock = clock
        self._keys: Sequence[VerifyingKey] = ()
        self._fetched = float("-inf")
        self._lock = asyncio.Lock()

    def authenticate_token(self, token: str, _audiences: Sequence[str], /) -> Awaitable[Found | None] | None:
        """See `TokenAuthenticator`; None for tokens of other issuers."""
        try:
            _, claims = peek(token)
        except BadToken:
            return None
        return self._authenticate(token) if claims.get("iss") == self._settings.url else None

    async def _authenticate(self, token: str) -> Found:
        claims = await self._verify(token)
        self._check_times(claims)
        audiences = claims.get("aud")
        told = [audiences] if isinstance(audiences, str) else audiences if isinstance(audiences, list) else []
        if not any(each in self._settings.audiences for each in told):
            raise Rejected(f"oidc: expected audience in {list(self._settings.audiences)} got {told}")
        self._check_claims(claims)
        user = self._user(claims)
        self._check_user(user)
        return Found(user)

    # -- the token

    async def _verify(self, token: str) -> dict[str, Any]:
        algorithms = self._settings.algorithms
        try:
            return verify(token, self._keys, algorithms)
        except BadToken as error:
            if not await self._refresh():
                raise Rejected(f"oidc: verify token: {error}") from None
        try:
            return verify(token, self._keys, algorithms)
        except BadToken as error:
            raise Rejected(f"oidc: verify token: {error}") from None

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._wall_clock()
        expiry, begin = claims.get("exp"), claims.get("nbf")
        if isinstance(expiry, bool) or not isinstance(expiry, int | float) or now > expiry:
            raise Rejected("oidc: verify token: oidc: token is expired")
        if isinstance(begin, int | float) and now + _NOT_BEFORE_LEEWAY < begin:
            raise Rejected("oidc: verify token: oidc: current time is before the nbf (not before) time")

    async def _refresh(self) -> bool:
        """Fetch the keys again; whether they may be others now."""
        before = self._keys
        async with self._lock:
            if self._keys is not before:
                return True  # somebody else did while we waited
            if self._clock() - self._fetched < _REFRESH_SECONDS:
                return False
            self._fetched = self._clock()
            try:
                self._keys = await self._fetch()
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                log.warning("the keys of %s cannot be had: %s", self._settings.url, error)
                raise Rejected(f"oidc: authenticator for issuer {self._settings.url!r} is not initialized") from None
            return True

    async def _fetch(self) -> Sequence[VerifyingKey]:
        settings = self._settings
        context = ssl.create_default_context(cadata=settings.authority or None)
        timeout = aiohttp.ClientTimeout(total=_DEADLINE)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=timeout) as session:
            where = settings.discovery_url or settings.url.rstrip("/") + WELL_KNOWN
            document = await _get(session, where)
            if document.get("issuer") != settings.url:
                raise ValueError(f"{where} is of the issuer {document.get('issuer')!r}")
            place = document.get("jwks_uri")
            if not isinstance(place, str) or not place.startswith("https://"):
                raise ValueError(f"{where}: no jwks_uri with https")
            keys = load_key_set(await _get(session, place))
        if not keys:
            raise ValueError(f"{place}: no usable key")
        return keys

    # -- the user

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        for rule in self._settings.claim_rules:
            if rule.program is not None:
                if _value(rule.program, {"claims": claims}) is not True:
                    why = rule.message or f"validation expression '{rule.program.source}' failed"
                    raise Rejected(f"oidc: error evaluating claim validation expression: {why}")
            elif claims.get(rule.claim) != rule.value:
                if rule.claim not in claims:
                    raise Rejected(f"oidc: required claim {rule.claim} not present in ID token")
                raise Rejected(f"oidc: required claim {rule.claim} value does not match")

    def _user(self, claims: Mapping[str, Any]) -> User:
        settings = self._settings
        name = self._text(settings.username, claims, "username")
        if not name:
            raise Rejected("oidc: the username is empty")
        groups = _mapped(settings.groups, claims)
        if groups is None:
            groups = []
        elif isinstance(groups, str):
            groups = [groups] if groups or settings.groups.claim else []
        if not isinstance(groups, list) or not all(isinstance(each, str) for each in groups):
            raise Rejected("oidc: parse groups claim: expected a string or a list of strings")
        extra: dict[str, tuple[str, ...]] = {}
        for key, program in settings.extra:
            value = _value(program, {"claims": claims})
            values = [value] if isinstance(value, str) else value if value is not None else []
            if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
                raise Rejected(f"oidc: error evaluating extra {key}: expected a string or a list of strings")
            if found := tuple(each for each in values if each):
                extra[key] = found
        uid = self._text(settings.uid, claims, "uid") if settings.uid.claim or settings.uid.program else ""
        prefix = settings.groups.prefix
        return User(name, uid, tuple(prefix + each for each in groups), extra)

    @staticmethod
    def _text(mapped: Mapped, claims: Mapping[str, Any], what: str) -> str:
        value = _mapped(mapped, claims)
        if not isinstance(value, str):
            raise Rejected(f"oidc: parse {what} claim {mapped.claim!r}: not present or no string")
        if what == "username" and mapped.claim == "email" and claims.get("email_verified", True) is not True:
            raise Rejected("oidc: email not verified")
        return mapped.prefix + value

    def _check_user(self, user: User) -> None:
        told = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
        variables = {"user": {**told, "extra": {key: list(values) for key, values in user.extra.items()}}}
        for program, message in self._settings.user_rules:
            if _value(program, variables) is not True:
                why = message or f"validation expression '{program.source}' failed"
                raise Rejected(f"oidc: error evaluating user info validation rule: {why}")


async def _get(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise ValueError(f"{url}: {answer.status} {answer.reason}")
        body = await answer.content.read(_LARGEST_ANSWER + 1)
    if len(body) > _LARGEST_ANSWER:
        raise ValueError(f"{url}: the answer is too large")
    found = orjson.loads(body)
    if not isinstance(found, dict):
        raise ValueError(f"{url}: no object")
    return found


def _mapped(mapped: Mapped, claims: Mapping[str, Any]) -> Any:
    if mapped.program is not None:
        return _value(mapped.program, {"claims": claims})
    return claims.get(mapped.claim) if mapped.claim else None


def _value(program: Program, variables: Mapping[str, Any]) -> Any:
    try:
        return program.evaluate(variables)
    except EvaluationError as error:
        raise Rejected(f"oidc: error evaluating {program.source!r}: {error}") from None
