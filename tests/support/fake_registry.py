"""A registry in the test's own event loop that can misbehave on demand: it lies, breaks off, redirects and forgets.

`FakeRegistry` keeps blobs and manifests like a real one; `script(...)` puts answers of the test's own in front of it.
Every request is kept in `log`.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from windlass.oci import image
from windlass.oci.digest import Digest, sha256_digest


@dataclass
class Incoming:
    """A request as it arrived."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes = b""
    broken: bool = False
    """The client went away before the end of the body."""

    def value(self, name: str) -> str:
        return dict(self.query).get(name, "")


@dataclass
class Reply:
    """An answer; `cut` sends only so many bytes of the body and then breaks the connection."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    length: int | None = None
    """A `Content-Length` that is not the truth."""


Handler = Callable[[Incoming], Awaitable[Reply | None] | Reply | None]


def error(status: int, code: str, message: str = "") -> Reply:
    body = orjson.dumps({"errors": [{"code": code, "message": message, "detail": None}]})
    return Reply(status, {"Content-Type": "application/json"}, body)


class FakeRegistry:
    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.log: list[Incoming] = []
        self.users: dict[str, str] = {}
        self.authorize: Callable[[Incoming], Reply | None] = lambda request: None
        self.read_limit: int | None = None
        """Stop reading an upload's body after so many bytes, once, and break the connection."""
        self._scripts: list[tuple[re.Pattern[str], list[Reply | Handler]]] = []
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeRegistry:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if self._tls else 'http'}://{self.host}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    # -- content -----------------------------------------------------------------------------------------------------

    def add_blob(self, data: bytes) -> Digest:
        digest = sha256_digest(data)
        self.blobs[digest] = data
        return digest

    def add_manifest(self, document: dict[str, Any], *tags: str, media_type: str = image.MEDIA_OCI_MANIFEST) -> Digest:
        data = orjson.dumps(document)
        digest = sha256_digest(data)
        for name in (digest, *tags):
            self.manifests[name] = (media_type, data)
        return digest

    def add_image(self, *tags: str, layers: list[bytes], config: dict[str, Any] | None = None) -> Digest:
        document = config or {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [sha256_digest(layer) for layer in layers]},
        }
        data = orjson.dumps(document)
        manifest = {
            "schemaVersion": 2,
            "config": {"mediaType": image.MEDIA_OCI_CONFIG, "digest": self.add_blob(data), "size": len(data)},
            "layers": [
                {"mediaType": image.MEDIA_OCI_LAYER, "digest": self.add_blob(layer), "size": len(layer)}
                for layer in layers
            ],
        }
        return self.add_manifest(manifest, *tags)

    def script(self, pattern: str, *replies: Reply | Handler) -> None:
        """Answer requests whose "METHOD path" matches with these, one after the other; then as usual."""
        self._scripts.insert(0, (re.compile(pattern), list(replies)))

    def require_basic(self, user: str, password: str) -> None:
        wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

        def authorize(request: Incoming) -> Reply | None:
            if request.headers.get("authorization") == wanted:
                return None
            reply = error(401, "UNAUTHORIZED", "authentication required")
            reply.headers["WWW-Authenticate"] = 'Basic realm="fake"'
            return reply

        self.authorize = authorize

    def requests(self, pattern: str) -> list[Incoming]:
        return [one for one in self.log if re.search(pattern, f"{one.method} {one.path}")]

    # -- wire --------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (request := await self._read(reader)) is not None:
                self.log.append(request)
                reply = await self._answer(request)
                await self._write(writer, request, reply)
                if request.broken or reply.cut is not None or reply.length is not None:
                    break
        except ConnectionError:
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n")
            writer.close()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._connections.discard(task)
            if not writer.is_closing():
                writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> Incoming | None:
        first = await reader.readexactly(1)
        if first == b"\x16":  # a TLS client: HTTP servers answer in the clear and hang up
            raise ConnectionError
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        parts = urlsplit(target)
        request = Incoming(method, parts.path, parse_qsl(parts.query, keep_blank_values=True), headers)
        try:
            async for chunk in _body(reader, headers):
                request.body += chunk
                if self.read_limit is not None and len(request.body) >= self.read_limit:
                    request.body, self.read_limit, request.broken = request.body[: self.read_limit], None, True
                    break
        except asyncio.IncompleteReadError:
            request.broken = True
        return request

    async def _answer(self, request: Incoming) -> Reply:
        for pattern, replies in self._scripts:
            if replies and pattern.search(f"{request.method} {request.path}"):
                found = replies.pop(0)
                if isinstance(found, Reply):
                    return found
                result = found(request)
                result = await result if isinstance(result, Awaitable) else result
                if result is not None:
                    return result
        return self.authorize(request) or self._store(request)

    async def _write(self, writer: asyncio.StreamWriter, request: Incoming, reply: Reply) -> None:
        if request.broken and reply.status != 413:
            return
        length = len(reply.body) if reply.length is None else reply.length
        headers = {"Content-Length": str(length), **reply.headers}
        if reply.status in (204,):
            headers.pop("Content-Length", None)
        head = f"HTTP/1.1 {reply.status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body = b"" if request.method == "HEAD" else reply.body
        writer.write(head.encode() + b"\r\n" + (body if reply.cut is None else body[: reply.cut]))
        await writer.drain()

    # -- the protocol ------------------------------------------------------------------------------------------------

    def _store(self, request: Incoming) -> Reply:
        if request.path == "/v2/":
            return Reply()
        if request.path == "/v2/_catalog":
            return Reply(body=orjson.dumps({"repositories": ["a", "b/c"]}))
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs|tags)/(.*)", request.path)
        if match is None:
            return error(404, "NAME_UNKNOWN")
        kind, name = match[2], match[3]
        if kind == "tags":
            tags = [name for name in self.manifests if ":" not in name]
            return Reply(body=orjson.dumps({"name": match[1], "tags": tags}))
        if kind == "manifests":
            return self._manifest(request, name)
        if name.startswith("uploads/"):
            return self._upload(request, match[1], name.removeprefix("uploads/"))
        return self._blob(request, name)

    def _manifest(self, request: Incoming, name: str) -> Reply:
        if request.method == "PUT":
            digest = sha256_digest(request.body)
            for key in (name, digest):
                self.manifests[key] = (request.headers["content-type"], request.body)
            return Reply(201, {"Docker-Content-Digest": digest})
        if name not in self.manifests:
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, data = self.manifests[name]
        return Reply(200, {"Content-Type": media_type, "Docker-Content-Digest": sha256_digest(data)}, data)

    def _blob(self, request: Incoming, digest: str) -> Reply:
        if digest not in self.blobs:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        data = self.blobs[digest]
        if wanted := re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", "")):
            start = int(wanted[1])
            return Reply(206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:])
        return Reply(200, {}, data)

    def _upload(self, request: Incoming, name: str, upload: str) -> Reply:
        if request.method == "POST":
            if (mount := request.value("mount")) in self.blobs and request.value("from"):
                return Reply(201, {"Location": f"/v2/{name}/blobs/{mount}"})
            upload = f"u{len(self.log)}"
            self.uploads[upload] = b""
            return self._upload_state(202, name, upload)
        if upload not in self.uploads:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "DELETE":
            del self.uploads[upload]
            return Reply(204)
        self.uploads[upload] += request.body
        if request.method == "PATCH" and not request.broken:
            return self._upload_state(202, name, upload)
        if request.method == "GET" or request.broken:
            return self._upload_state(204, name, upload)
        data = self.uploads.pop(upload)
        if sha256_digest(data) != request.value("digest"):
            return error(400, "DIGEST_INVALID")
        self.blobs[request.value("digest")] = data
        return Reply(201, {"Location": f"/v2/{name}/blobs/{request.value('digest')}"})

    def _upload_state(self, status: int, name: str, upload: str) -> Reply:
        last = max(len(self.uploads[upload]) - 1, 0)
        return Reply(status, {"Location": f"/v2/{name}/blobs/uploads/{upload}?state=x", "Range": f"0-{last}"})


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> Any:
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).strip() or b"0", 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
        return
    left = int(headers.get("content-length", "0"))
    while left:
        chunk = await reader.read(min(left, 64 << 10))
        if not chunk:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(chunk)
        yield chunk
