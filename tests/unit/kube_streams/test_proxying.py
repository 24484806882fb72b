"""Requests that are passed on: bodies, answers, upgrades, and what stays behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import orjson
import pytest
from aiohttp import web
from yarl import URL

from windlass.http import Request, Response, Server, StreamResponse
from windlass.kube.api.proxying import Proxy, Target
from windlass.kube.api.status import StatusError

Answer = Response | StreamResponse | None


async def echo(request: web.Request) -> web.StreamResponse:
    """What came."""
    if request.path == "/socket":
        answer = web.WebSocketResponse(protocols=["p"])
        await answer.prepare(request)
        async for message in answer:
            await answer.send_str(f"got {message.data}")
        return answer
    if request.path == "/stream":
        stream = web.StreamResponse()
        await stream.prepare(request)
        for part in (b"one ", b"two"):
            await stream.write(part)
        return stream
    if request.path == "/missing":
        return web.Response(status=404, text="no such thing")
    if request.path == "/nothing":
        return web.Response(status=204)
    body = await request.read()
    return web.json_response(
        {"method": request.method, "path": request.raw_path, "body": body.decode(), "headers": dict(request.headers)},
        headers={"X-Mine": "yes", "Keep-Alive": "timeout=1"},
    )


@pytest.fixture
async def front() -> AsyncIterator[str]:
    """The URL of a server that passes all requests on."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    proxy = Proxy()

    async def pass_on(request: Request) -> Answer:
        try:
            target = Target("127.0.0.1", 9 if request.path == "/away" else port, request.target)
            return await proxy.forward(request, target, [("X-Added", "1")])
        except StatusError as error:
            return Response(error.code, (), error.encode())

    server = Server(pass_on)
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    await server.listen(sock)
    yield url
    await server.close(1.0)
    await proxy.close()
    await runner.cleanup()


Ask = Callable[..., Awaitable[tuple[int, str, dict[str, str]]]]


@pytest.fixture
async def ask(front: str) -> AsyncIterator[Ask]:
    """Asks the front: status, text, headers."""
    async with aiohttp.ClientSession() as session:

        async def asked(method: str, path: str, **more: object) -> tuple[int, str, dict[str, str]]:
            async with session.request(method, URL(front + path, encoded=True), **more) as answer:  # type: ignore[arg-type]
                return answer.status, await answer.text(), dict(answer.headers)

        yield asked


async def test_bodies_and_headers_are_passed_on_and_credentials_are_not(ask: Ask) -> None:
    headers = {"Authorization": "Bearer x", "X-Own": "1", "Impersonate-User": "u", "X-Remote-User": "u"}
    code, text, answered = await ask("POST", "/a%20b?c=d%2Fe", data=b"body", headers=headers)
    found = orjson.loads(text)
    assert (code, found["method"], found["path"], found["body"]) == (200, "POST", "/a%20b?c=d%2Fe", "body")
    seen = {name.lower(): value for name, value in found["headers"].items()}
    assert seen["x-own"] == "1" and seen["x-added"] == "1" and seen["content-length"] == "4"
    assert not {"authorization", "impersonate-user", "x-remote-user"} & seen.keys()
    assert answered["X-Mine"] == "yes" and "Keep-Alive" not in answered


async def test_bodies_of_unknown_length_are_passed_on_in_chunks(ask: Ask) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    _, text, _ = await ask("PUT", "/", data=parts())
    assert '"body": "one two"' in text and '"Transfer-Encoding": "chunked"' in text


async def test_answers_are_streamed_and_refusals_are_whole(ask: Ask) -> None:
    assert (await ask("GET", "/stream"))[1] == "one two"
    assert (await ask("GET", "/missing"))[:2] == (404, "no such thing")
    code, text, headers = await ask("GET", "/nothing")
    assert (code, text) == (204, "") and "Transfer-Encoding" not in headers
    code, text, _ = await ask("GET", "/away")
    assert code == 503 and "error trying to reach service: 127.0.0.1:9" in text


async def test_upgrades_become_pipes(front: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{front}/socket", protocols=["p"]) as opened,
    ):
        assert opened.protocol == "p"
        await opened.send_str("hello")
        assert await asyncio.wait_for(opened.receive_str(), 5) == "got hello"


async def test_an_upgrade_that_is_refused_is_an_answer(front: str) -> None:
    async with aiohttp.ClientSession() as session:
        for path, code in (("/missing", 404), ("/away", 503)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(front + path)
            assert refused.value.status == code
