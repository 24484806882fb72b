"""Passes a client's request on to another server: bodies and answers are streamed, upgrades become a pipe.

    plain      aiohttp, connections kept                upgrade    a connection of its own: head passed on, then bytes

What concerns one connection alone stays behind (RFC 9110, section 7.6.1), and so do the client's credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from windlass.http import Duplex, Request, Response, StreamResponse
from windlass.kube.api import status

Answer = Response | StreamResponse | None

# What belongs to one connection, or to us, and is not passed on (RFC 9110, 7.6.1).
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "authorization",
    }
)
_STAYS: Final = HOP_BY_HOP | {"proxy-connection", "expect"}
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=None)
_READ_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)
_CONNECT_SECONDS: Final = 10.0
_LONGEST_HEAD: Final = 64 * 1024
_LONGEST_REFUSAL: Final = 256 * 1024
_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. `path` is as sent, with its query; without a context there is no TLS."""

    host: str
    port: int
    path: str
    context: ssl.SSLContext | None = None

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> URL:
        """All of it."""
        scheme = "https" if self.context is not None else "http"
        return URL(f"{scheme}://{self.authority}{self.path}", encoded=True)


class Proxy:
    """Connections to other servers."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close them."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, read_bufsize=1 << 20, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def read(self, target: Target) -> tuple[int, bytes]:
        """A page's status and content. Raises StatusError: nobody answers."""
        try:
            async with self._connections().get(
                target.url, ssl=target.context or False, timeout=_READ_TIMEOUT, allow_redirects=False
            ) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError) as error:
            raise _unreachable(target, error) from None

    async def forward(self, request: Request, target: Target, added: Iterable[tuple[str, str]] = ()) -> Answer:
        """Pass a request on; a refusal comes whole. Raises StatusError: nobody answers."""
        headers = {name: value for name, value in request.headers.items() if _passes(name)}
        headers.update(added)
        if request.upgrade:
            return await self._pipe(request, target, headers)
        if request.has_body and request.content_length is not None:
            headers["content-length"] = str(request.content_length)  # else it would be sent in chunks
        try:
            answer = await self._connections().request(
                request.method,
                target.url,
                headers=headers,
                data=request.body if request.has_body else None,
                ssl=target.context or False,
                timeout=_TIMEOUT,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
            )
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError) as error:
            raise _unreachable(target, error) from None
        passed = [(name, value) for name, value in answer.headers.items() if _passes(name.lower())]
        if answer.status in (204, 304):
            answer.release()
            return Response(answer.status, passed)
        if answer.status >= 400:
            with contextlib.closing(answer):
                return Response(answer.status, passed, await answer.content.read(_LONGEST_REFUSAL))
        return StreamResponse(answer.status, passed, _chunks(answer))

    async def _pipe(self, request: Request, target: Target, headers: dict[str, str]) -> Answer:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    target.host, target.port, ssl=target.context, limit=_LONGEST_HEAD
                )
        except (OSError, TimeoutError) as error:
            raise _unreachable(target, error) from None
        try:
            lines = [f"{request.method} {target.path} HTTP/1.1", f"Host: {target.authority}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            lines += ["Connection: Upgrade", f"Upgrade: {request.upgrade}", "", ""]
            writer.write("\r\n".join(lines).encode("latin-1"))
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                code = int(head[0].split(" ", 2)[1])
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
                raise _unreachable(target, error) from None
            fields = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:-2])]
            if code != 101:
                body = await _refusal_body(reader, {name.lower(): value for name, value in fields})
                return Response(code, [(name, value) for name, value in fields if _passes(name.lower())], body)
            duplex = await request.hijack(101, [(name, value) for name, value in fields if name.lower() != "date"])
            await _join(duplex, reader, writer)
            return None
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _passes(name: str) -> bool:
    return name not in _STAYS and not name.startswith(("impersonate-", "x-remote-"))


def _unreachable(target: Target, error: Exception) -> status.StatusError:
    reason = str(error) or "it does not answer in time"
    return status.service_unavailable(f"error trying to reach service: {target.authority}: {reason}")


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    finally:
        answer.close()


async def _refusal_body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    length = fields.get("content-length", "")
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        if length.isdigit():
            return await reader.readexactly(min(int(length), _LONGEST_REFUSAL))
        return await reader.read(_LONGEST_REFUSAL)
    return b""


async def _join(duplex: Duplex, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy both ways until the server's side ends, or the client is gone."""

    async def give() -> None:
        with contextlib.suppress(ConnectionError):
            while data := await duplex.read():
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            else:  # TLS ends both ways at once
                writer.close()

    async def take() -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(_CHUNK):
                await duplex.write(data)

    giving = asyncio.create_task(give(), name="pipe")
    try:
        await take()
    finally:
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)
