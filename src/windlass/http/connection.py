"""One client connection: heads in, answers out, in order, until it closes or is hijacked.

    HEAD ──head whole──▶ BODY ──body whole──▶ BUSY ──answered──▶ HEAD …      (BODY is skipped when there is none)
                           └────────┬───────────┘
                                    ├─ Request.hijack ─▶ RAW ──handler returned──▶ LINGER
                                    └─ answered, closing ─────────────────────────▶ LINGER ──▶ CLOSED

One handler runs at a time; bytes that arrive meanwhile (a pipelining client) wait in `_pending`, and when they are
too many we stop reading. An idle connection holds no task and no timer, so that thousands of them are cheap: the server
sweeps `deadline`s. LINGER exists because closing a socket with unread input resets it, and the reset can overtake the
answer.
"""

from __future__ import annotations

import asyncio
import logging
import math
import select
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from windlass.errors import WindlassError
from windlass.http.duplex import Duplex
from windlass.http.framing import LAST_CHUNK, Decoder, FramingError
from windlass.http.head import HeadError, HeadParser
from windlass.http.message import (
    PHRASES,
    Body,
    BodyTimeoutError,
    BodyTooLarge,
    ClientGoneError,
    Headers,
    Request,
    Response,
    StreamResponse,
)

if TYPE_CHECKING:
    from windlass.http.server import Server

HEAD, BODY, BUSY, RAW, LINGER, CLOSED = range(6)

_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"  # RFC 9113, section 3.4
_NO_BODY = Body(None, complete=True)
_log = logging.getLogger("windlass.http")


class Connection(asyncio.Protocol):
    """The protocol of one socket. Everything runs on the loop's thread."""

    __slots__ = (
        "_body",
        "_body_timeout",
        "_decoder",
        "_drains",
        "_duplex",
        "_eof",
        "_expects",
        "_head",
        "_keep_alive",
        "_pending",
        "_reading",
        "_request",
        "_server",
        "_state",
        "_streaming",
        "_task",
        "_transport",
        "_writable",
        "deadline",
        "limits",
    )

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self.limits = server.limits
        self.deadline = math.inf
        self._state = HEAD
        self._head: HeadParser | None = None
        self._request: Request | None = None
        self._body = _NO_BODY
        self._decoder: Decoder | None = None
        self._body_timeout: float | None = None
        self._duplex: Duplex | None = None
        self._task: asyncio.Task[None] | None = None
        self._pending = b""
        self._drains: deque[asyncio.Future[None]] | None = None
        self._keep_alive = False
        self._expects = False  # the client waits for "100 Continue"
        self._reading = True
        self._writable = True
        self._streaming = False
        self._eof = False  # the client closed its writing side

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.admit(self):
            self._state = BUSY
            self._answer_and_close(503, "too many connections")
            return
        self._transport.set_write_buffer_limits(high=self.limits.buffer)
        self.deadline = self._server.now() + self.limits.head_timeout

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state == HEAD:
            self._on_head(data)
        elif state == BODY:
            self._on_body(data)
        elif state == RAW:
            duplex = self._duplex
            assert duplex is not None
            duplex.feed(data)
            if duplex.size > self.limits.buffer:
                self._pause_reading()
        elif state == BUSY:
            self._pending += data
            if len(self._pending) > self.limits.head_size:
                self._pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        state = self._state
        if state == RAW:
            assert self._duplex is not None
            self._duplex.feed_eof(lost=False)
            self._server.watch(self)
            self.check_peer()
        elif state in (BODY, BUSY):
            self._body.fail(ClientGoneError("the client closed the connection"))
            self._server.watch(self)
            if self._peer_is_gone():
                self._lose_client()
                self._close()
        else:  # between requests, in a head, or lingering: nothing is owed
            self._transport.close()
        return True  # asyncio: keep the transport, only this direction ended

    def connection_lost(self, error: Exception | None) -> None:
        self._state = CLOSED
        self._server.forget(self)
        gone = ClientGoneError("the client closed the connection")
        self._body.fail(gone)
        self._wake_writers()
        if self._duplex is not None:
            self._duplex.feed_eof(lost=True)
        self._lose_client()
        self._head = None  # breaks the cycle with the parser's callbacks
        self._pending = b""

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake_writers()

    # -- requests in

    def _on_head(self, data: bytes) -> None:
        head = self._head
        if head is None:
            head = self._head = HeadParser(self.limits)
        if not head.started:
            self._server.idle.pop(self, None)
            if data[0] in b"\r\n":  # empty lines before a request are tolerated (RFC 9112, 2.2)
                data = data.lstrip(b"\r\n")
                if not data:
                    return
            if self._server.preface is not None and data.startswith(_PREFACE):
                self._begin_raw(data)
                return
            self.deadline = self._server.now() + self.limits.head_timeout
        try:
            used = head.feed(data)
            if used < 0:
                if self._eof:
                    self._transport.close()
                return
            decoder = head.body()
        except HeadError as error:
            self._state = BUSY
            self._answer_and_close(error.status, error.message)
            return
        self._begin(head, decoder, data[used:] if used < len(data) else b"")

    def _begin(self, head: HeadParser, decoder: Decoder | None, rest: bytes) -> None:
        headers = head.headers
        self._keep_alive = head.keep_alive
        self._streaming = False
        self.deadline = math.inf
        self._decoder = decoder
        if decoder is None:
            self._state = BUSY
            self._body = _NO_BODY
            self._expects = False
        else:
            self._state = BODY
            self._body = Body(self, complete=False)
            self._expects = headers.get("expect", "").lower() == "100-continue" and head.version == "1.1"
        request = Request(head.method, head.target.decode("latin-1"), head.version, headers, self._body, self)
        self._request = request
        head.reset()
        if rest:
            if decoder is None:
                self._pending += rest
            else:
                self._on_body(rest)
        self._task = self._server.spawn(self._serve(request))

    def _begin_raw(self, data: bytes) -> None:
        assert self._server.preface is not None
        self.deadline = math.inf
        self._state = RAW
        self._duplex = duplex = Duplex(self)
        duplex.feed(data)
        self._task = self._server.spawn(self._serve_raw(self._server.preface(duplex)))

    def _on_body(self, data: bytes) -> None:
        assert self._decoder is not None
        self._expects = False  # a body that comes unasked needs no "100 Continue"
        try:
            payload, rest = self._decoder.feed(data)
        except FramingError as error:
            self._keep_alive = False
            self._pause_reading()
            self._body.fail(error)
            return
        if payload:
            self._body.feed(payload)
        if rest is not None:
            self._body.finish()
            self._decoder = None
            self._state = BUSY
            self._pending += rest
        elif self._body.size > self.limits.buffer:
            self._pause_reading()
        elif self._body_timeout is not None:
            self.deadline = self._server.now() + self._body_timeout

    def wants_body(self, timeout: float | None) -> None:
        """A handler waits for body bytes."""
        if self._expects:
            self._expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._body_timeout = timeout
        if timeout is not None:
            self.deadline = self._server.now() + timeout

    def wants_no_body(self) -> None:
        """The handler has what it waited for (or waits no more)."""
        self._body_timeout = None
        self.deadline = math.inf

    def body_taken(self) -> None:
        """A handler took bytes out of the body's queue."""
        if not self._reading and self._state == BODY and self._body.size <= self.limits.buffer // 2:
            self._resume_reading()

    def raw_taken(self) -> None:
        """A handler took bytes out of the hijacked stream's queue."""
        if not self._reading and self._duplex is not None and self._duplex.size <= self.limits.buffer // 2:
            self._resume_reading()

    # -- answers out

    async def _serve(self, request: Request) -> None:
        try:
            response = await self._server.handler(request)
            if self._state == CLOSED:
                await _discard(response)
            elif response is None:
                if self._duplex is None:
                    raise RuntimeError(f"the handler of {request!r} gave no answer")
            elif isinstance(response, Response):
                self._send(request, response)
            else:
                await self._send_stream(request, response)
        except asyncio.CancelledError:
            self._close()  # the client is gone, or the server stops
            raise
        except ClientGoneError:
            self._close()
        except Exception as error:
            self._fail(request, error)
        else:
            self._finish()

    async def _serve_raw(self, handler: Any) -> None:
        try:
            await handler
        except Exception:
            _log.exception("a hijacked stream failed")
        finally:
            self._finish()

    def _send(self, request: Request, response: Response) -> None:
        status, body = response.status, response.body
        head = self._encode_head(status, response.headers, self._framing(request, status, len(body)))
        self._transport.write(head if request.method == "HEAD" or status in (204, 304) else head + body)

    async def _send_stream(self, request: Request, response: StreamResponse) -> None:
        chunked = request.version == "1.1"
        if not chunked:
            self._keep_alive = False
        self._streaming = True
        transport = self._transport
        chunks = response.chunks
        try:
            transport.write(
                self._encode_head(response.status, response.headers, self._framing(request, response.status, None))
            )
            if request.method == "HEAD":
                return
            async for data in chunks:
                if not data:
                    continue
                if chunked:
                    transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
                else:
                    transport.write(data)
                if not self._writable:
                    await self._drain()
            if chunked:
                transport.write(LAST_CHUNK)
        finally:
            await _discard(response)

    def _framing(self, request: Request, status: int, length: int | None) -> str:
        """The fields that say where the answer ends and whether another may follow. Settles `_keep_alive`."""
        if not self._body.complete or (self._eof and not self._pending) or self._server.closing:
            self._keep_alive = False
        if self._keep_alive:
            fields = "" if request.version == "1.1" else "Connection: keep-alive\r\n"
        else:
            fields = "Connection: close\r\n"
        if length is not None and status not in (204, 304):
            return f"{fields}Content-Length: {length}\r\n"
        if length is None and request.version == "1.1":
            return fields + "Transfer-Encoding: chunked\r\n"
        return fields

    def _encode_head(self, status: int, headers: Headers, framing: str) -> bytes:
        common, lines = self._server.common_fields()
        text = f"HTTP/1.1 {status} {PHRASES.get(status, 'Status')}\r\n{common}{framing}"
        lines += 2 + framing.count("\n")
        for name, value in headers:
            text += f"{name}: {value}\r\n"
            lines += 1
        text += "\r\n"
        if text.count("\n") != lines or text.count("\r") != lines:
            raise ValueError("a line break in a response header")
        return text.encode("latin-1", "replace")

    def _fail(self, request: Request, error: Exception) -> None:
        """A handler raised: answer if nothing was sent yet, else break off visibly."""
        if isinstance(error, BodyTooLarge):
            status, message = 413, str(error)
        elif isinstance(error, BodyTimeoutError):
            status, message = 408, "timeout while reading the request body"
        elif isinstance(error, FramingError | WindlassError):
            status, message = 400, str(error)
        else:
            if not (self._state == CLOSED and isinstance(error, ConnectionError)):
                _log.error("handler of %s %s failed", request.method, request.path, exc_info=error)
            status, message = 500, "internal server error"
        if self._streaming or self._duplex is not None:
            self._close()
        elif self._state != CLOSED:
            self._answer_and_close(status, message)

    def _answer_and_close(self, status: int, message: str) -> None:
        body = f"{status} {PHRASES[status]}: {message}\n".encode()
        common, _ = self._server.common_fields()
        head = (
            f"HTTP/1.1 {status} {PHRASES[status]}\r\n{common}Content-Type: text/plain; charset=utf-8\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode("latin-1") + body)
        self._linger()

    def _finish(self) -> None:
        """The request is answered: take the next one or close."""
        self._task = None
        self._request = None
        if self._state == CLOSED:
            return
        if self._duplex is not None or not self._keep_alive or self._server.closing:
            self._linger()
            return
        assert self._state == BUSY
        self._body = _NO_BODY
        self._state = HEAD
        idle = self.limits.idle_timeout
        self.deadline = self._server.now() + idle if idle is not None else math.inf
        pending = self._pending
        if not self._reading:
            self._resume_reading()
        if pending:
            self._pending = b""
            self._on_head(pending)
        else:
            self._server.idle[self] = None

    # -- hijacking

    def hijack(self, status: int, headers: Headers) -> Duplex:
        """See `Request.hijack`, which has read the body."""
        if self._state == CLOSED:
            raise ClientGoneError("the client closed the connection")
        if self._state != BUSY:
            raise RuntimeError("only a whole request can be hijacked, and only once")
        self._transport.write(self._encode_head(status, headers, ""))
        self._state = RAW
        self._keep_alive = False
        self._duplex = duplex = Duplex(self)
        if self._pending:
            duplex.feed(self._pending)
            self._pending = b""
        if self._eof:
            duplex.feed_eof(lost=False)
        elif not self._reading and duplex.size <= self.limits.buffer:
            self._resume_reading()
        return duplex

    async def write(self, data: bytes) -> None:
        """Send raw bytes; waits while the client is slow."""
        if self._state == CLOSED or self._transport.is_closing():
            raise ClientGoneError("the client closed the connection")
        self._transport.write(data)
        if not self._writable:
            await self._drain()

    def write_eof(self) -> None:
        """Close our writing side after what was written."""
        if self._state != CLOSED and not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    async def _drain(self) -> None:
        if self._state == CLOSED:
            raise ClientGoneError("the client closed the connection")
        waiter = asyncio.get_running_loop().create_future()
        if self._drains is None:
            self._drains = deque()
        self._drains.append(waiter)
        await waiter
        if self._state == CLOSED:
            raise ClientGoneError("the client closed the connection")

    def _wake_writers(self) -> None:
        while self._drains:
            waiter = self._drains.popleft()
            if not waiter.done():
                waiter.set_result(None)

    # -- ends

    def _linger(self) -> None:
        """Close our side and throw away what still comes, until the client closes too or the time is over."""
        if self._state == CLOSED:
            return
        self._state = LINGER
        self._pending = b""
        self.deadline = self._server.now() + self.limits.linger_timeout
        if self._eof or self._transport.is_closing() or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._resume_reading()

    def _close(self) -> None:
        """Close after what was written; nothing more is read."""
        if self._state != CLOSED:
            self._state = LINGER
            self.deadline = self._server.now() + self.limits.linger_timeout  # a client that does not read
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._state != CLOSED:
            self._transport.abort()

    def expire(self) -> None:
        """The deadline passed (called by the server's sweep)."""
        self.deadline = math.inf
        if self._state == BODY:
            self._body.fail(BodyTimeoutError("timeout while reading the request body"))
        elif self._state == HEAD and self._head is not None and self._head.started:
            self._answer_and_close(408, "timeout while reading the request head")
        elif self._state in (HEAD, LINGER):
            self.abort()

    def check_peer(self) -> None:
        """After the client's end of file: drop the connection if it has in fact closed both directions."""
        if self._state in (BODY, BUSY, RAW) and self._eof and self._socket_hung_up():
            self.abort()

    def shut_down(self, *, now: bool) -> None:
        """The server stops: end what is idle or endless at once, the rest when `now`."""
        if self._state == HEAD:
            self._transport.close()
        elif self._state == LINGER:
            self.abort()
        elif self._task is not None and (now or self._streaming or self._state == RAW):
            self._task.cancel()
        elif now:
            self.abort()

    def transport_info(self, name: str) -> Any:
        """What the transport knows about the socket."""
        return self._transport.get_extra_info(name)

    def _lose_client(self) -> None:
        task, request = self._task, self._request
        if task is not None and (request is None or request.cancel_on_disconnect or self._streaming or self._duplex):
            self._task = None  # cancelled once: a second time would disturb its clean-up
            task.cancel()

    def _peer_is_gone(self) -> bool:
        """Whether an end of file means that nobody waits for the answer.

        A unix socket tells half-closed from closed. TCP does not: there a stream, which may be endless, is ended, and
        everything else is answered (if nobody is there, the answer brings a reset, and the sweep sees it).
        """
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.family != socket.AF_UNIX:
            return self._streaming
        return self._socket_hung_up()

    def _socket_hung_up(self) -> bool:
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(sock.fileno(), 0)  # hang-up and errors are always reported
        return bool(poll.poll(0))

    def _pause_reading(self) -> None:
        if self._reading and not self._eof:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if self._state != CLOSED and not self._transport.is_closing():
                self._transport.resume_reading()


async def _discard(response: Response | StreamResponse | None) -> None:
    """Close a stream's source, read to its end or not."""
    if isinstance(response, StreamResponse):
        close = getattr(response.chunks, "aclose", None)
        if close is not None:
            await close()
