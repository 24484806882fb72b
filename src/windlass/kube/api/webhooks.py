"""Calls to webhooks: POST of a review over HTTPS, by URL or through a service.

Certificates are checked against the configuration's CA bundle (the system's authorities without one). A service is
reached by a resolver, which knows where its endpoints are. Answers are bounded.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson

Resolver = Callable[[str, str, int], Awaitable[tuple[str, int]]]
"""Namespace, name and port of a service → host and port to connect to. Raises LookupError."""

_LARGEST_ANSWER = 8 * 1024 * 1024


class WebhookError(Exception):
    """The call failed; the message says how, in the words of an HTTP client."""


class WebhookCaller:
    """Makes calls, with one pool of connections for each CA bundle."""

    def __init__(self, resolve: Resolver) -> None:
        self._resolve = resolve
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def call(self, config: dict[str, Any], review: dict[str, Any], *, seconds: float) -> dict[str, Any]:
        """Send a review as a WebhookClientConfig says; the answer.

        Raises:
            WebhookError
        """
        url, server_name = await self._address(config)
        session = self._session(config.get("caBundle") or "")
        shown = _shown(config)
        try:
            async with session.post(
                f"{url}{'&' if '?' in url else '?'}timeout={round(seconds)}s",
                data=orjson.dumps(review),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                timeout=aiohttp.ClientTimeout(total=seconds),
                server_hostname=server_name,
                allow_redirects=False,
            ) as answer:
                body = await answer.content.read(_LARGEST_ANSWER + 1)
                if len(body) > _LARGEST_ANSWER:
                    raise WebhookError(f"Post {shown}: the answer is too large")
                if answer.status != 200:
                    raise WebhookError(
                        f"the server rejected our request: Post {shown}: {answer.status} {answer.reason}"
                    )
        except TimeoutError:
            raise WebhookError(f"Post {shown}: context deadline exceeded") from None
        except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
            raise WebhookError(f"Post {shown}: {error}") from None
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise WebhookError(f"Post {shown}: {error}") from None
        if not isinstance(found, dict):
            raise WebhookError(f"Post {shown}: the answer is no object")
        return found

    async def _address(self, config: dict[str, Any]) -> tuple[str, str | None]:
        if config.get("url"):
            return config["url"], None
        service = config["service"]
        namespace, name, port = service["namespace"], service["name"], service.get("port", 443)
        try:
            host, number = await self._resolve(namespace, name, port)
        except LookupError as error:
            raise WebhookError(f"Post {_shown(config)}: {error}") from None
        shown = f"[{host}]" if ":" in host else host
        return f"https://{shown}:{number}{service.get('path') or '/'}", f"{name}.{namespace}.svc"

    def _session(self, bundle: str) -> aiohttp.ClientSession:
        session = self._sessions.get(bundle)
        if session is None:
            try:
                data = base64.b64decode(bundle).decode() if bundle else None
                context = ssl.create_default_context(cadata=data)
            except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
                raise WebhookError(f"unable to load root certificates: {error}") from None
            connector = aiohttp.TCPConnector(ssl=context, limit=64)
            session = self._sessions[bundle] = aiohttp.ClientSession(connector=connector)
        return session

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def _shown(config: dict[str, Any]) -> str:
    if config.get("url"):
        return f'"{config["url"]}"'
    service = config.get("service") or {}
    name, namespace = service.get("name"), service.get("namespace")
    return f'"https://{name}.{namespace}.svc:{service.get("port", 443)}{service.get("path") or "/"}"'
