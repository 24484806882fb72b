"""Tokens that another service knows: it is asked by a TokenReview.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from windlass.kube.api.authentication.credentials import Found, Rejected
from windlass.kube.api.identity import User
from windlass.kube.api.kubeconfigfile import KubeconfigServer
from windlass.kube.api.webhooks import WebhookError

log = logging.getLogger(__name__)

_TRIES, _FIRST_PAUSE = 3, 0.2
_REMEMBERED = 4096
_DEADLINE = 10.0


class WebhookTokens:
    """Asks the server of a kubeconfig file.

    Args:
        version: "v1" or "v1beta1", of authentication.k8s.io.
        ttl: seconds for which an answer is good.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        server: KubeconfigServer,
        audiences: Sequence[str],
        *,
        version: str,
        ttl: float,
        clock: Callable[[], float],
    ) -> None:
        self._server = server
        self._audiences = tuple(audiences)
        self._version = version
        self._ttl = ttl
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._known: dict[bytes, tuple[float, Found | None, str]] = {}

    async def authenticate_token(self, token: str, audiences: Sequence[str], /) -> Found | None:
        """See `TokenAuthenticator`."""
        text = "\0".join((token, *audiences)).encode(errors="surrogateescape")
        key = hashlib.blake2b(text, key=self._salt, digest_size=32).digest()
        known = self._known.get(key)
        if known is None or self._clock() >= known[0]:
            found, reason = await self._ask(token, tuple(audiences) or self._audiences, implicit=not audiences)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[key] = (self._clock() + self._ttl, found, reason)
        if known[2]:
            raise Rejected(known[2])
        return known[1]

    async def _ask(self, token: str, audiences: tuple[str, ...], *, implicit: bool) -> tuple[Found | None, str]:
        review = {
            "kind": "TokenReview",
            "apiVersion": f"authentication.k8s.io/{self._version}",
            "metadata": {"creationTimestamp": None},
            "spec": {"token": token, "audiences": list(audiences)},
        }
        status = (await self._post(review)).get("status") or {}
        if not status.get("authenticated"):
            return None, str(status.get("error") or "")
        told = tuple(status.get("audiences") or ())
        shared = tuple(each for each in audiences if each in told) if told else audiences
        if told and not shared:
            return None, ""
        return Found(_user(status.get("user") or {}), () if implicit else shared), ""

    async def _post(self, review: dict[str, Any]) -> dict[str, Any]:
        pause = _FIRST_PAUSE
        for attempt in range(_TRIES):
            try:
                return await self._server.post(review, seconds=_DEADLINE)
            except WebhookError as error:
                if attempt + 1 == _TRIES:
                    log.error("the token webhook does not answer: %s", error)
                    raise Rejected(f"failed to make webhook authenticator request: {error}") from None
            await asyncio.sleep(pause)
            pause *= 1.5
        raise AssertionError("unreachable: the last try returns or raises")


def _user(found: dict[str, Any]) -> User:
    extra = {str(key).lower(): tuple(values) for key, values in (found.get("extra") or {}).items()}
    return User(found.get("username", ""), found.get("uid", ""), tuple(found.get("groups") or ()), extra)
