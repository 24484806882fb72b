"""A conversation with one endpoint about one resource: permission, then requests, tried again where that may help.

ping      GET /v2/                  finds out whether anyone answers, and how it wants us to authorize
exchange  any request               adds the authorization; renews it once after a 401; waits and repeats after
                                    connection failures, 408, 429 and 5xx (with `Retry-After`, with back-off)
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlencode

from windlass.images.registry.challenge import Challenge
from windlass.images.registry.credentials import Credentials
from windlass.images.registry.failures import (
    AuthorizationFailure,
    ConnectionFailure,
    RegistryFailure,
    describe_request,
)
from windlass.images.registry.settings import Endpoint
from windlass.images.registry.tokens import TokenRequest, Tokens, token_request
from windlass.images.registry.transport import Answer, Body, Request, Transport, origin

Sleep = Callable[[float], Awaitable[None]]

_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 10.0
_LONGEST_RETRY_AFTER: Final = 30.0
_PING_SECONDS: Final = 15.0


class Backoff:
    """Pauses that double, with jitter, so that many clients do not come back together."""

    def __init__(self, attempts: int, *, sleep: Sleep = asyncio.sleep) -> None:
        self._left = attempts - 1
        self._pause = _FIRST_PAUSE
        self._sleep = sleep

    async def again(self, retry_after: float | None = None) -> bool:
        """Wait and say yes, or say no at once: the tries are used up, or the server wants us away for long."""
        if self._left <= 0 or (retry_after is not None and retry_after > _LONGEST_RETRY_AFTER):
            return False
        self._left -= 1
        pause = self._pause * (0.5 + random.random() / 2) if retry_after is None else retry_after  # noqa: S311
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        await self._sleep(pause)
        return True


class RegistrySession:
    """One endpoint, one set of credentials, one list of scopes."""

    def __init__(
        self,
        transport: Transport,
        tokens: Tokens,
        endpoint: Endpoint,
        credentials: Credentials,
        scopes: Sequence[str],
        *,
        attempts: int = 5,
        sleep: Sleep = asyncio.sleep,
        offline: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.identity_token = ""
        """The refresh token that the token server gave at login, if any."""
        self._transport = transport
        self._tokens = tokens
        self._credentials = credentials
        self._scopes = list(scopes)
        self._attempts = attempts
        self._sleep = sleep
        self._offline = offline
        self._challenges: list[Challenge] = []

    def backoff(self) -> Backoff:
        """Fresh pauses for one transfer."""
        return Backoff(self._attempts, sleep=self._sleep)

    async def ping(self) -> None:
        """See that somebody answers and learn how to authorize. Raises `ConnectionFailure` at once: no retries."""
        request = Request("GET", f"{self.endpoint.url}/v2/", total_seconds=_PING_SECONDS)
        async with self._transport.send(self.endpoint, request) as answer:
            if answer.status == 401:
                self._challenges = answer.challenges

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: Body = None,
        extra_scopes: Sequence[str] = (),
        retry: bool = True,
        backoff: Backoff | None = None,
    ) -> AsyncIterator[Answer]:
        """One request and its answer, whatever its status. `path` is under `/v2/`, or a whole URL.

        `backoff` counts the tries where they are part of something larger.

        Raises `AuthorizationFailure` where permission cannot be had, `ConnectionFailure` where no answer comes.
        """
        url = path if "://" in path else f"{self.endpoint.url}/v2/{path}"
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query, safe=":/")
        request = Request(method, url, headers or {}, body, follow=method in ("GET", "HEAD"))
        backoff = backoff or Backoff(self._attempts if retry else 1, sleep=self._sleep)
        async with contextlib.AsyncExitStack() as held:
            yield await self._answer(held, request, extra_scopes, backoff)

    async def _answer(
        self, held: contextlib.AsyncExitStack, request: Request, extra_scopes: Sequence[str], backoff: Backoff
    ) -> Answer:
        """Send until there is an answer to give; its connection is then `held`."""
        renewed = False
        while True:
            authorization = await self._authorization(request, extra_scopes)
            async with contextlib.AsyncExitStack() as attempt:
                try:
                    answer = await attempt.enter_async_context(
                        self._transport.send(self.endpoint, request, authorization)
                    )
                except ConnectionFailure:
                    if await backoff.again():
                        continue
                    raise
                if answer.status == 401 and not renewed and self._renew(answer, authorization, extra_scopes):
                    renewed = True
                    continue
                if answer.status not in _RETRIED or not await backoff.again(_retry_after(answer)):
                    held.push_async_exit(attempt.pop_all())
                    return answer

    async def check(self) -> int:
        """GET /v2/ with authorization (login): the status of the answer."""
        async with self.exchange("GET", "", retry=False) as answer:
            return answer.status

    async def _authorization(self, request: Request, extra_scopes: Sequence[str]) -> str:
        """The `Authorization` header: bearer where offered, else basic, else none (and none for a foreign host)."""
        if origin(request.url) != origin(self.endpoint.url):
            return ""
        if self._credentials.registry_token and self._challenges:
            return f"Bearer {self._credentials.registry_token}"
        by_scheme = {challenge.scheme: challenge for challenge in reversed(self._challenges)}
        try:
            if challenge := by_scheme.get("bearer"):
                token = await self._tokens.get(self.endpoint, self._wanted(challenge, extra_scopes))
                self.identity_token = token.refresh or self.identity_token
                return f"Bearer {token.text}"
        except RegistryFailure as error:
            raise AuthorizationFailure(describe_request(request.method, request.url), error) from error
        if "basic" in by_scheme:
            if not self._credentials.basic:
                cause = RegistryFailure("no basic auth credentials")
                raise AuthorizationFailure(describe_request(request.method, request.url), cause)
            return self._credentials.basic
        return ""

    def _renew(self, answer: Answer, used: str, extra_scopes: Sequence[str]) -> bool:
        """After a 401: whether another try with what we have just learned makes sense."""
        challenges = answer.challenges
        if not challenges or used.startswith("Basic ") or (used and self._credentials.registry_token):
            return False
        self._challenges = challenges
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                if used:
                    self._tokens.forget(self._wanted(challenge, extra_scopes), used.removeprefix("Bearer "))
                if scope := challenge.parameters.get("scope", ""):
                    self._scopes.append(scope)
        return True

    def _wanted(self, challenge: Challenge, extra_scopes: Sequence[str]) -> TokenRequest:
        scopes = [*self._scopes, *extra_scopes]
        return token_request(challenge, self._credentials, scopes, offline=self._offline)


def _retry_after(answer: Answer) -> float | None:
    """Seconds that `Retry-After` asks for (a number or a date)."""
    value = answer.headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
