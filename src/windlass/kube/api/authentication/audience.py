"""Tokens that know no audience: good for the API server's own, and for nobody else's.

Source: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from windlass.kube.api.authentication.credentials import Found, TokenAuthenticator


class AudienceAgnostic:
    """Another authenticator, whose tokens are for `audiences`."""

    def __init__(self, inner: TokenAuthenticator, audiences: Sequence[str]) -> None:
        self._inner = inner
        self._audiences = tuple(audiences)

    def authenticate_token(self, token: str, audiences: Sequence[str], /) -> Found | Awaitable[Found | None] | None:
        """See `TokenAuthenticator`; None where the wanted audiences are others'."""
        shared = tuple(each for each in audiences if each in self._audiences)
        if audiences and not shared:
            return None
        answer = self._inner.authenticate_token(token, ())
        if answer is None or isinstance(answer, Found):
            return _with(answer, shared)
        return self._wait(answer, shared)

    async def _wait(self, answer: Awaitable[Found | None], shared: tuple[str, ...]) -> Found | None:
        return _with(await answer, shared)


def _with(found: Found | None, shared: tuple[str, ...]) -> Found | None:
    return Found(found.user, shared) if found is not None else None
