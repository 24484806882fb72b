"""What a handler sees and what it gives: `Request`, `Response`, `StreamResponse`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from windlass.errors import InvalidParameter
from windlass.http.query import parse_query, unquote

if TYPE_CHECKING:
    from windlass.http.connection import Connection
    from windlass.http.duplex import Duplex

Headers = Iterable[tuple[str, str]]

PHRASES: Mapping[int, str] = {
    100: "Continue",
    101: "Switching Protocols",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Requested Range Not Satisfiable",
    422: "Unprocessable Entity",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}


class ClientGoneError(ConnectionResetError):
    """The client ended the connection before its request was complete."""


class BodyTooLarge(InvalidParameter):
    """The body is longer than its handler takes (HTTP 413)."""


class BodyTimeoutError(TimeoutError):
    """The client stopped sending its body (HTTP 408)."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int = 200
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """An answer of unknown length: the head leaves at once, then each chunk as it comes.

    When `chunks` raises, the connection breaks off so that the client sees that the answer is not whole; an iterator
    that can say it in the stream's own language does so and ends instead.
    """

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


Handler = Callable[["Request"], Awaitable[Response | StreamResponse | None]]


class Body:
    """The bytes of a request as they arrive; a queue of bounded size between the socket and a handler."""

    __slots__ = ("_chunks", "_connection", "_error", "_waiter", "complete", "size")

    def __init__(self, connection: Connection | None, *, complete: bool) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.size = 0  # bytes held
        self.complete = complete  # all have arrived

    def feed(self, chunks: list[bytes]) -> None:
        """Take what arrived."""
        self._chunks.extend(chunks)
        self.size += sum(map(len, chunks))
        self._wake()

    def finish(self) -> None:
        """The body has arrived entirely."""
        self.complete = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """The rest will not come."""
        if not self.complete:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, timeout: float | None = None) -> bytes:
        """The next bytes; `b""` at the end. Raises `ClientGoneError`, `BodyTimeoutError` or a framing error."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            assert self._connection is not None
            self._connection.wants_body(timeout)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._connection.wants_no_body()
        data = self._chunks.popleft()
        self.size -= len(data)
        if self._connection is not None:
            self._connection.body_taken()
        return data


class Request:
    """One request. `headers` has lower-case names; the path is decoded, without the query."""

    __slots__ = (
        "_body",
        "_connection",
        "_path",
        "_query",
        "body_timeout",
        "cancel_on_disconnect",
        "headers",
        "method",
        "target",
        "upgrade",
        "version",
    )

    def __init__(
        self, method: str, target: str, version: str, headers: dict[str, str], body: Body, connection: Connection
    ) -> None:
        self.method = method
        self.target = target  # as sent
        self.version = version  # "1.1" or "1.0"
        self.headers = headers
        self.upgrade = headers.get("upgrade", "") if "upgrade" in headers.get("connection", "").lower() else ""
        self.cancel_on_disconnect = True  # a handler that must run to its end clears it before its first await
        self.body_timeout = connection.limits.body_timeout
        self._body = body
        self._connection = connection
        self._path: str | None = None
        self._query: list[tuple[str, str]] | None = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"

    @property
    def path(self) -> str:
        """The decoded path. Raises `InvalidParameter` for a malformed escape."""
        if self._path is None:
            raw = self.target.partition("?")[0]
            if not raw.startswith("/") and "://" in raw:  # absolute form, as to a proxy
                raw = "/" + raw.partition("://")[2].partition("/")[2]
            self._path = unquote(raw)
        return self._path

    @property
    def query(self) -> list[tuple[str, str]]:
        """The pairs of the query in their order. Raises `InvalidParameter` for a malformed one."""
        if self._query is None:
            raw = self.target.partition("?")[2]
            self._query = parse_query(raw) if raw else []
        return self._query

    @property
    def has_body(self) -> bool:
        """Whether the client announced a body (maybe of unknown length)."""
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"

    @property
    def content_length(self) -> int | None:
        """The announced length in bytes: 0 without a body, `None` for a chunked one."""
        if "transfer-encoding" in self.headers:
            return None
        return int(self.headers.get("content-length", "0"))

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `BodyTooLarge` above `limit` bytes, `BodyTimeoutError`, `ClientGoneError`."""
        length = self.content_length
        if length is not None and length > limit:
            raise BodyTooLarge("http: request body too large")
        parts: list[bytes] = []
        size = 0
        while data := await self._body.next(self.body_timeout):
            parts.append(data)
            size += len(data)
            if size > limit:
                raise BodyTooLarge("http: request body too large")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def body(self) -> AsyncIterator[bytes]:
        """The body piece by piece; the client is held back while nobody takes them."""
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[bytes]:
        while data := await self._body.next():
            yield data

    async def hijack(self, status: int, headers: Headers) -> Duplex:
        """Answer with this head and take the connection as a raw stream in both directions.

        A body that the client announced is read (and dropped) first: the stream begins behind it. The connection closes
        when the handler returns.
        """
        await self.read(self._connection.limits.buffer)
        return self._connection.hijack(status, headers)

    def extra(self, name: str) -> Any:
        """What the transport knows: "peername", "socket", "peercert"…"""
        return self._connection.transport_info(name)
