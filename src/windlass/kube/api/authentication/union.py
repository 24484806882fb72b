"""All ways to prove who asks, in order, with a memory for tokens.

    front proxy ─▶ client certificate ─▶ token: cache ─▶ each token authenticator ─▶ anonymous

The first user found is the answer. Wrong credentials are 401 even where anonymous requests are allowed, unless a later
authenticator accepts them. A verified token is known for ten seconds, a refused one for one, by a hash under a key of
this process: the cache holds no tokens.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from windlass.kube.api.authentication.credentials import (
    Credentials,
    Found,
    Rejected,
    RequestAuthenticator,
    TokenAuthenticator,
)
from windlass.kube.api.identity import ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, User
from windlass.kube.api.status import unauthorized

_SUCCESS_SECONDS = 10.0
_FAILURE_SECONDS = 1.0
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class AnonymousRule:
    """Whether requests without credentials go on as system:anonymous; `paths`, where given, say for which."""

    enabled: bool = True
    paths: tuple[str, ...] | None = None

    def admits(self, path: str) -> bool:
        """Whether this path may be asked without credentials."""
        return self.enabled and (self.paths is None or path in self.paths)


class Union:
    """The server's authenticator. `clock` is monotonic seconds."""

    def __init__(
        self,
        requests: Sequence[RequestAuthenticator],
        tokens: Sequence[TokenAuthenticator],
        *,
        anonymous: AnonymousRule | None = None,
        clock: Callable[[], float],
    ) -> None:
        self._requests = tuple(requests)
        self._tokens = tuple(tokens)
        self._anonymous = anonymous or AnonymousRule()
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._known: dict[bytes, tuple[float, Found | None, str]] = {}

    def replace(self, tokens: Sequence[TokenAuthenticator], anonymous: AnonymousRule) -> None:
        """Trust others from the next request on; nothing that was known of tokens is."""
        self._tokens = tuple(tokens)
        self._anonymous = anonymous
        self._known.clear()

    def quick(self, credentials: Credentials) -> User | None:
        """The answer where nothing has to be awaited: certificates, known tokens. `None`: call `authenticate`."""
        for authenticator in self._requests:
            try:
                user = authenticator.authenticate(credentials)
            except Rejected:
                return None
            if user is not None:
                return _complete(user)
        token = credentials.token
        if not token:
            return None
        known = self._known.get(self._hash(token, ()))
        return known[1].user if known is not None and known[1] is not None and self._clock() < known[0] else None

    async def authenticate(self, credentials: Credentials) -> User:
        """The user. Raises StatusError 401."""
        refused = False
        for authenticator in self._requests:
            try:
                user = authenticator.authenticate(credentials)
            except Rejected:
                refused = True
                continue
            if user is not None:
                return _complete(user)
        token = credentials.token
        if token:
            try:
                found = await self.check_token(token, ())
            except PermissionError:
                found = None
            if found is not None:
                return found.user
            refused = True
        if refused or not self._anonymous.admits(credentials.path):
            raise unauthorized()
        return User(ANONYMOUS, groups=(ALL_UNAUTHENTICATED,))

    async def check_token(self, token: str, audiences: Sequence[str]) -> Found | None:
        """Whose token it is; raises PermissionError with the reason where it is known and wrong."""
        key = self._hash(token, audiences)
        known = self._known.get(key)
        if known is None or self._clock() >= known[0]:
            known = await self._ask(token, audiences)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = known
        if known[1] is None and known[2]:
            raise PermissionError(known[2])
        return known[1]

    async def _ask(self, token: str, audiences: Sequence[str]) -> tuple[float, Found | None, str]:
        reasons: list[str] = []
        for authenticator in self._tokens:
            try:
                answer = authenticator.authenticate_token(token, audiences)
                found = answer if answer is None or isinstance(answer, Found) else await answer
            except Rejected as error:
                reasons.append(str(error))
                continue
            if found is not None:
                found = Found(_complete(found.user), found.audiences)
                return self._clock() + _SUCCESS_SECONDS, found, ""
        return self._clock() + _FAILURE_SECONDS, None, ", ".join(reasons)

    def _hash(self, token: str, audiences: Sequence[str]) -> bytes:
        text = "\0".join((token, *audiences)).encode(errors="surrogateescape")
        return hashlib.blake2b(text, key=self._salt, digest_size=32).digest()


def _complete(user: User) -> User:
    if ALL_AUTHENTICATED in user.groups or ALL_UNAUTHENTICATED in user.groups:
        return user
    return replace(user, groups=(*user.groups, ALL_AUTHENTICATED))
