"""The Engine API over a socket: HTTP/1.1 with keep-alive, streamed bodies both ways, and hijacked connections.

http.client would cost 10 ms of imports and hides the socket after an upgrade; this needs neither. Nothing is retried.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

DEFAULT_HOST = "unix:///run/windlass/windlass.sock"


class ClientError(Exception):
    """The engine cannot be reached, or its answer is not understood."""


class ApiError(Exception):
    """The engine answered with an error; `status` is HTTP's, the text is the engine's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Response:
    """A status, headers and a body that is read once."""

    def __init__(self, connection: Connection, status: int, headers: dict[str, str], bodiless: bool) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        self._left = 0 if bodiless else int(length) if length is not None else None
        self._ended = bodiless or self._left == 0
        if self._chunked and not bodiless:
            self._ended = False

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives."""
        while not self._ended:
            if self._chunked:
                size = int(self._connection.line().split(b";")[0], 16)
                if size == 0:
                    while self._connection.line():
                        pass
                    self._ended = True
                    return
                while size:
                    data = self._connection.some(size)
                    size -= len(data)
                    yield data
                self._connection.line()
            else:
                data = self._connection.some(
                    self._left if self._left is not None else 1 << 20, at_end=self._left is None
                )
                if self._left is not None:
                    self._left -= len(data)
                    self._ended = self._left == 0
                elif not data:
                    self._ended = True
                    return
                yield data

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks())

    def json(self) -> Any:
        """The whole body as JSON."""
        data = self.read()
        return json.loads(data) if data else None

    def objects(self) -> Iterator[Any]:
        """A stream of JSON values, each as soon as it is complete."""
        decoder = json.JSONDecoder()
        text = ""
        for chunk in self.chunks():
            text += chunk.decode(errors="replace")
            while text := text.lstrip():
                try:
                    value, end = decoder.raw_decode(text)
                except ValueError:
                    break
                yield value
                text = text[end:]


class Connection:
    """One connection to the engine."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.buffer = b""

    def fill(self) -> bool:
        """Read more into the buffer; False at the end of the stream."""
        data = self.socket.recv(1 << 18)
        self.buffer += data
        return bool(data)

    def line(self) -> bytes:
        """A line without its end."""
        while b"\r\n" not in self.buffer:
            if not self.fill():
                raise ClientError("the engine closed the connection in the middle of an answer")
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def some(self, limit: int, *, at_end: bool = False) -> bytes:
        """At least one byte, at most `limit`; empty at the end where that is allowed."""
        if not self.buffer and not self.fill() and not at_end:
            raise ClientError("the engine closed the connection in the middle of an answer")
        data, self.buffer = self.buffer[:limit], self.buffer[limit:]
        return data

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | Iterable[bytes] | None) -> None:
        """Write a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: windlass"]
        if isinstance(body, bytes):
            headers["Content-Length"] = str(len(body))
        elif body is not None:
            headers["Transfer-Encoding"] = "chunked"
        elif method in {"POST", "PUT"}:
            headers["Content-Length"] = "0"
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if body is None or isinstance(body, bytes):
            self.socket.sendall(head + (body or b""))
            return
        self.socket.sendall(head)
        for chunk in body:
            if chunk:
                self.socket.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.socket.sendall(b"0\r\n\r\n")

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer that is final."""
        while True:
            parts = self.line().split(b" ", 2)
            if len(parts) < 2 or not parts[0].startswith(b"HTTP/1."):
                raise ClientError("this is not an HTTP answer: is the address that of an engine?")
            headers = {}
            while line := self.line():
                name, _, value = line.partition(b":")
                headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
            if (status := int(parts[1])) != 100:
                return status, headers

    def close(self) -> None:
        """Close it."""
        self.socket.close()


class Client:
    """The engine at an address, `unix:///path` or `tcp://host:port` (with TLS where certificates are given)."""

    def __init__(self, host: str, tls: TlsOptions | None = None) -> None:
        self.host = host
        self.tls = tls
        self._idle: Connection | None = None

    def connect(self) -> Connection:
        """A new connection. Raises ClientError with what to do next."""
        scheme, _, address = self.host.partition("://")
        try:
            if scheme == "unix":
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(address)
                return Connection(sock)
            if scheme in {"tcp", "http", "https"}:
                parts = urlsplit(f"//{address}")
                port = parts.port or (2376 if self.tls else 2375)
                sock = socket.create_connection((parts.hostname or "localhost", port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Connection(self.tls.wrap(sock, parts.hostname or "localhost") if self.tls else sock)
        except OSError as error:
            raise ClientError(self._unreachable(error)) from None
        raise ClientError(f"unable to parse engine address `{self.host}`: use unix:///path or tcp://host:port")

    def _unreachable(self, error: OSError) -> str:
        if isinstance(error, PermissionError):
            return f"permission denied while connecting to the engine at {self.host}: its socket is root's alone"
        return (
            f"Cannot connect to the windlass daemon at {self.host}. Is it running? "
            f"Start it with `windlass daemon`, or name another engine with -H. ({error.strerror or error})"
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
        new: bool = False,
    ) -> Response:
        """Ask; JSON for dicts and lists, bytes and iterables as they are. Raises ApiError on an error answer.

        With `new` the request has a connection of its own, for an answer that comes later or never ends.
        """
        connection = None if new else self._idle
        connection = connection or self.connect()
        if not new:
            self._idle = connection
        sent = dict(headers or {})
        if isinstance(body, dict | list):
            sent.setdefault("Content-Type", "application/json")
            body = json.dumps(body).encode()
        connection.send(method, target(path, query), sent, body)
        status, answered = connection.head()
        response = Response(connection, status, answered, method == "HEAD" or status in {204, 304})
        if status >= 400:
            raise error_of(response)
        if answered.get("connection", "").lower() == "close" and not new:
            self._idle = None
        return response

    def json(self, method: str, path: str, **arguments: Any) -> Any:
        """Ask, and decode the whole answer."""
        return self.request(method, path, **arguments).json()

    def hijack(self, path: str, *, query: dict[str, Any] | None = None, body: Any = None) -> tuple[Connection, str]:
        """Upgrade a POST to a raw stream; returns the connection and the stream's content type."""
        connection = self.connect()
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        payload = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body).encode()
        connection.send("POST", target(path, query), headers, payload)
        status, answered = connection.head()
        if status not in {101, 200}:
            raise error_of(Response(connection, status, answered, False))
        return connection, answered.get("content-type", "")


def target(path: str, query: dict[str, Any] | None) -> str:
    """Path and query of a request: None is left out, switches are 1 or 0, lists repeat, dicts are JSON."""
    pairs = []
    for name, value in (query or {}).items():
        for item in value if isinstance(value, list) else [value]:
            if item is None:
                continue
            if isinstance(item, bool):
                item = int(item)
            elif isinstance(item, dict):
                item = json.dumps(item)
            pairs.append(f"{name}={quote(str(item), safe='')}")
    return path + ("?" + "&".join(pairs) if pairs else "")


def error_of(response: Response) -> ApiError:
    """The error that an answer carries."""
    data = response.read()
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data.decode(errors="replace").strip() or f"status {response.status}"
    return ApiError(response.status, message)


class TlsOptions:
    """Certificates for a tcp:// engine, named as docker's flags name them."""

    def __init__(self, *, ca: str | None, certificate: str | None, key: str | None, verify: bool) -> None:
        self.ca, self.certificate, self.key, self.verify = ca, certificate, key, verify

    def wrap(self, sock: socket.socket, name: str) -> socket.socket:
        """TLS over a connected socket."""
        import ssl

        context = ssl.create_default_context(cafile=self.ca)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context.wrap_socket(sock, server_hostname=name)


def default_host() -> str:
    """WINDLASS_HOST, then DOCKER_HOST, then the default socket."""
    return os.environ.get("WINDLASS_HOST") or os.environ.get("DOCKER_HOST") or DEFAULT_HOST


def segment(name: str) -> str:
    """A name as one path segment; slashes of image names stay."""
    return quote(name, safe="/:@")
