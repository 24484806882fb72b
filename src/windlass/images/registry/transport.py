"""HTTP towards registries: one session, a TLS context per host, redirects by our own rules, bounded answers.

aiohttp does the connections; the rules are ours, since each has been a hole in some client:

- Redirects are followed here, so that credentials go only to the origin (scheme, host, port) they were meant for.
- A redirect's host has its own certificate directory and its own right to be insecure.
- `.netrc` is never read; proxies come from the environment, but never for loopback.
- No transparent decompression: digests are of the bytes as stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
from yarl import URL

from windlass import __version__
from windlass.images.registry.certificates import tls_context
from windlass.images.registry.challenge import Challenge, parse_challenges
from windlass.images.registry.failures import (
    RegistryFailure,
    UnexpectedAnswer,
    failure_of_answer,
    failure_of_connection,
)
from windlass.images.registry.settings import Endpoint, RegistrySettings, is_secure

Body = Callable[[], AsyncIterator[bytes]] | bytes | None
"""What is sent; a stream is a function that makes it, since a request may have to be sent again."""

_CHUNK: Final = 256 << 10
_MAX_REDIRECTS: Final = 10
_MAX_ERROR_BODY: Final = 64 << 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CONNECT_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 60.0
_NETWORK_ERRORS: Final = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True)
class Request:
    """One request as this room sees it."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = None
    follow: bool = True
    """Whether redirects are followed (never with a body: uploads say where they want their bytes)."""
    total_seconds: float | None = None

    @classmethod
    def with_query(cls, method: str, url: str, query: Mapping[str, str]) -> Request:
        """A request without body whose query is encoded here."""
        return cls(method, f"{url}?{urlencode(query)}")


class Answer:
    """An answer whose body is still on its way. Valid inside `Transport.send`'s context."""

    def __init__(self, request: Request, response: aiohttp.ClientResponse) -> None:
        self.request = request
        self.status = response.status
        self.headers = response.headers
        self.url = str(response.url)
        """Where the answer came from, after redirects."""
        self._response = response

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def challenges(self) -> list[Challenge]:
        """How the server asks for credentials."""
        return parse_challenges(self.headers.getall("WWW-Authenticate", []))

    @property
    def length(self) -> int | None:
        """`Content-Length`, bytes."""
        return self._response.content_length

    async def chunk(self) -> bytes:
        """The next piece of the body, at most 256 KiB; empty at its end. Raises `ConnectionFailure`."""
        try:
            return await self._response.content.read(_CHUNK)
        except _NETWORK_ERRORS as error:
            raise failure_of_connection(self.request.method, self.request.url, error) from error

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `UnexpectedAnswer` beyond `limit` bytes, `ConnectionFailure`."""
        pieces, size = [], 0
        while chunk := await self.chunk():
            size += len(chunk)
            if size > limit:
                raise UnexpectedAnswer(f"{self.url}: the answer is larger than the allowed {limit} bytes")
            pieces.append(chunk)
        return b"".join(pieces)

    async def failure(self) -> RegistryFailure:
        """What this unsuccessful answer means."""
        try:
            body = await self.read(_MAX_ERROR_BODY)
        except RegistryFailure as error:
            return error
        return failure_of_answer(self.status, body, self.headers.get("Content-Type", ""), self.challenges)


class Transport:
    """Sends requests. Owns the connections; `close()` when done."""

    def __init__(self, settings: RegistrySettings, *, environment: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._environment = environment
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[Endpoint, tuple[object, ssl.SSLContext]] = {}

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    @contextlib.asynccontextmanager
    async def send(self, endpoint: Endpoint, request: Request, authorization: str = "") -> AsyncIterator[Answer]:
        """Send and follow redirects; the connection goes back when the context ends.

        Raises `ConnectionFailure` where no answer comes, `UnexpectedAnswer` for redirects that lead nowhere.
        """
        url = request.url
        for _ in range(_MAX_REDIRECTS + 1):
            allowed = authorization if origin(url) == origin(request.url) else ""
            async with self._once(endpoint, request, url, allowed) as response:
                location = response.headers.get("Location", "")
                if not (request.follow and response.status in _REDIRECTS and location):
                    yield Answer(request, response)
                    return
            url = join_url(url, location)
            if request.method not in ("GET", "HEAD"):
                raise UnexpectedAnswer(f"{request.url}: {request.method} was redirected")
        raise UnexpectedAnswer(f"{request.url}: stopped after {_MAX_REDIRECTS} redirects")

    @contextlib.asynccontextmanager
    async def _once(
        self, endpoint: Endpoint, request: Request, url: str, authorization: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept-Encoding": "identity", **request.headers}
        if authorization:
            headers["Authorization"] = authorization
        body = request.body() if callable(request.body) else request.body
        timeout = aiohttp.ClientTimeout(
            total=request.total_seconds, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS
        )
        context = await self._context(endpoint, url)
        try:
            response = await self._opened().request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                data=body,
                timeout=timeout,
                ssl=context,
                allow_redirects=False,
                proxy=proxy_for(url, self._environment),
            )
        except _NETWORK_ERRORS as error:
            raise failure_of_connection(request.method, url, error) from error
        except ValueError as error:  # a location that is no URL, a header that is no header
            raise UnexpectedAnswer(f"{url[:200]}: {error}") from None
        try:
            yield response
        finally:
            response.release()

    async def _context(self, endpoint: Endpoint, url: str) -> ssl.SSLContext | bool:
        """The TLS context for a URL: read again only when its directories have changed."""
        parts = urlsplit(url)
        if parts.scheme != "https":
            return True
        if parts.netloc != endpoint.host:
            host = parts.netloc.rpartition("@")[2]
            endpoint = Endpoint(f"https://{host}", host, await is_secure(self._settings, host))
        key = replace(endpoint, mirror=False)
        signature = tuple(_changed(directory / endpoint.host) for directory in self._settings.certificate_directories)
        known = self._contexts.get(key)
        if known is not None and known[0] == signature:
            return known[1]
        context = await asyncio.to_thread(tls_context, endpoint, self._settings)
        self._contexts[key] = (signature, context)
        return context

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                trust_env=False,
                read_bufsize=1 << 20,
                headers={"User-Agent": f"windlass/{__version__} (linux)"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def proxy_for(url: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The proxy for a URL by `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` (either case); never one for loopback."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        return None
    source = os.environ if environment is None else environment
    proxies = {
        name: value
        for name in ("http", "https", "no")
        if (value := source.get(f"{name}_proxy") or source.get(f"{name.upper()}_PROXY") or "")
    }
    proxy = proxies.get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass_environment(parts.netloc, proxies):  # type: ignore[attr-defined]
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def join_url(base: str, location: str) -> str:
    """The absolute URL of a foreign `Location` or realm. Raises `UnexpectedAnswer` where it is none that we speak."""
    try:
        url = urljoin(base, location)
        parts = urlsplit(url)
        _ = parts.port  # raises for what is not a number
    except ValueError as error:
        raise UnexpectedAnswer(f"{base}: the registry names an invalid URL: {location[:200]!r}: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise UnexpectedAnswer(f"{base}: the registry names an unsupported protocol scheme: {url[:200]!r}")
    if not parts.hostname:
        raise UnexpectedAnswer(f"{base}: the registry names a URL without a host: {url[:200]!r}")
    return url


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: what credentials belong to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _changed(directory: Path) -> object:
    try:
        return directory.stat().st_mtime_ns
    except OSError:
        return None
