"""Requests to an API server over HTTPS. Every failure is a `StatusError`: the server's own, or 503 where none answers.

    429 and 5xx with Retry-After   waited for and sent again, ten times at most
    no answer                      all connections are given up, and the next server is used where there is one
    silence                        the kernel asks after 15 s whether a watch's server is still there
    certificates                   read from files; `reload` takes new ones, connections that are open go on

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import orjson

from windlass import __version__
from windlass.kube.api import status
from windlass.kube.api.resource import Object
from windlass.kube.remote.servers import Servers

_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 10.0
_ROUNDS: Final = 3
_SILENT_SECONDS: Final = 150.0
"""A watch has a bookmark each minute: one that is silent for longer has no server any more."""
_ATTEMPTS: Final = 10
_LONGEST_WAIT: Final = 30.0
JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


class Identity(Protocol):
    """Who we are, and whom we believe."""

    def context(self) -> ssl.SSLContext:
        """A fresh TLS context. Raises OSError (ssl.SSLError is one)."""
        ...

    def headers(self) -> Mapping[str, str]:
        """What each request says of us."""
        ...


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Who we are: a client certificate, a token, or nobody. `authority` (PEM) signed the server's certificate.

    Without `key`, the certificate's file has it, too.
    """

    authority: bytes
    certificate: Path | None = None
    key: Path | None = None
    token: str = ""

    def context(self) -> ssl.SSLContext:
        """A fresh TLS context. Raises OSError (ssl.SSLError is one)."""
        context = ssl.create_default_context(cadata=self.authority.decode())
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context

    def headers(self) -> Mapping[str, str]:
        """See `Identity.headers`."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class Transport:
    """Connections to a server."""

    def __init__(self, servers: Servers | str, credentials: Identity, *, agent: str = "windlass") -> None:
        """Raises OSError: the certificate cannot be read."""
        self._servers = Servers(servers) if isinstance(servers, str) else servers
        self._leaving: set[asyncio.Task[None]] = set()
        self._streams: set[aiohttp.ClientResponse] = set()
        self._credentials = credentials
        self._agent = f"{agent}/{__version__}"
        self._context = credentials.context()
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """The server in use."""
        return self._servers.current

    def _leave(self) -> None:
        """Let go of what is open: whoever still waits for it fails now instead of later."""
        session, self._session = self._session, None
        self._servers.unsubscribe(self._leave)
        # The session's end alone would not wake those who read.
        for answer in list(self._streams):
            _abort(answer)
            answer.close()
        if session is not None:
            task = asyncio.get_running_loop().create_task(session.close())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def reload(self) -> None:
        """Show the certificate that is in the files now. Raises OSError, and the former one stays."""
        self._context = self._credentials.context()

    async def close(self) -> None:
        """Close all connections; the next request opens new ones."""
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._session is not None:
            self._servers.unsubscribe(self._leave)
            await self._session.close()
            self._session = None
        # Connections that were broken off are gone in the loop's next rounds.
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
    ) -> Object:
        """The object that answers. Raises StatusError."""
        data = None if body is None else orjson.dumps(body)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._once(method, path, query, data, content_type)
            except status.StatusError as error:
                if not error.retry_after or attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(min(error.retry_after, _LONGEST_WAIT))
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self, method: str, path: str, query: Mapping[str, str] | None, data: bytes | None, content_type: str
    ) -> Object:
        url, session = self.url, self._connections()
        try:
            async with self._open(session, method, url + path, query, data, content_type, _TOTAL) as answer:
                return _decoded(answer, await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(session, method, url, path, error) from error

    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The lines of a stream, until it ends. Raises StatusError."""
        url, session = self.url, self._connections()
        try:
            async with self._open(session, "GET", url + path, query, None, JSON, _STREAM) as answer:
                if answer.status >= 400:
                    _decoded(answer, await answer.read())
                _watch_over(answer)
                self._streams.add(answer)
                try:
                    async for line in _split(answer.content):
                        yield line
                finally:
                    self._streams.discard(answer)
                    _abort(answer)
        except (aiohttp.ClientError, OSError, TimeoutError, RuntimeError) as error:
            # RuntimeError is aiohttp's word for a connection that we closed ourselves meanwhile.
            raise self._unreachable(session, "GET", url, path, error) from error

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Accept": JSON, "User-Agent": self._agent, **self._credentials.headers()}
            self._session = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0))
            self._servers.subscribe(self._leave)
        return self._session

    def _open(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> Any:
        return session.request(
            method,
            url,
            params=query,
            data=data,
            headers={"Content-Type": content_type} if data is not None else None,
            ssl=self._context,
            timeout=timeout,
            allow_redirects=False,
        )

    def _unreachable(
        self, session: aiohttp.ClientSession, method: str, url: str, path: str, error: Exception
    ) -> status.StatusError:
        if session is self._session:  # else it was given up while we waited: that says nothing of the server
            self._servers.failed(url)
        reason = str(error) or "the server does not answer in time"
        return status.service_unavailable(f'{method.capitalize()} "{url}{path}": {reason}')


_TOTAL = aiohttp.ClientTimeout(total=_SECONDS, sock_connect=_CONNECT_SECONDS)
_STREAM = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)


async def _split(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines that are not empty, however long."""
    left = b""
    async for chunk in content.iter_any():
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _abort(answer: aiohttp.ClientResponse) -> None:
    """Break a stream's connection off: nobody waits for the other side's farewell. One that has ended has none."""
    connection = answer.connection
    if connection is not None and connection.transport is not None:
        transport = connection.transport
        assert isinstance(transport, asyncio.WriteTransport)
        transport.abort()


def _watch_over(answer: aiohttp.ClientResponse) -> None:
    """Let the kernel find out that the other side of a stream has gone without a word."""
    connection = answer.connection
    sock = connection.transport.get_extra_info("socket") if connection is not None and connection.transport else None
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _decoded(answer: aiohttp.ClientResponse, body: bytes) -> Object:
    try:
        found = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        found = {"message": body.decode(errors="replace").strip()}
    if answer.status < 400:
        return found if isinstance(found, dict) else {}
    raise error_of(found if isinstance(found, dict) else {}, answer.status, answer.headers.get("Retry-After", ""))


def error_of(found: Object, code: int, retry_after: str = "") -> status.StatusError:
    """The error that a Status object tells of."""
    details = dict(found.get("details") or {})
    details.pop("retryAfterSeconds", None)
    return status.StatusError(
        int(found.get("code") or code),
        str(found.get("reason") or ""),
        str(found.get("message") or f"the server answered {code}"),
        details=details,
        retry_after=int(retry_after) if retry_after.isdigit() else 0,
    )
