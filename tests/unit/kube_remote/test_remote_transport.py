"""Requests over HTTPS and the reflector's arithmetic, against a server that answers what a test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from windlass.cluster.pki import PKI
from windlass.kube.api.status import StatusError
from windlass.kube.remote.client import RemoteClient
from windlass.kube.remote.reflector import Backoff
from windlass.kube.remote.servers import Servers
from windlass.kube.remote.transport import Credentials, Transport

DISCOVERY = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}
Answer = Callable[[web.Request], Any]


@asynccontextmanager
async def served(directory: Path, answer: Answer) -> AsyncIterator[Transport]:
    """A transport to a server with a certificate of its own authority."""
    pki = PKI(directory / "pki")
    pki.ensure(addresses=["127.0.0.1"], service_address="10.43.0.1", domain="cluster.local")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pki.paths("apiserver"))

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == "/api/v1":
            return web.json_response(DISCOVERY)
        found = answer(request)
        result: web.StreamResponse = await found if asyncio.iscoroutine(found) else found
        return result

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    transport = Transport(f"https://127.0.0.1:{port}", Credentials(authority=pki.ca.certificate_pem, token="t"))
    try:
        yield transport
    finally:
        await transport.close()
        await runner.cleanup()


async def test_a_busy_server_is_asked_again_when_it_says(tmp_path: Path) -> None:
    calls = 0

    def answer(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        assert request.headers["Authorization"] == "Bearer t"
        if calls == 1:
            return web.json_response({"message": "slowly"}, status=429, headers={"Retry-After": "1"})
        return web.json_response({"metadata": {"name": "a"}})

    async with served(tmp_path, answer) as transport:
        found = await RemoteClient(transport).get("", "configmaps", "default", "a")
    assert found["metadata"]["name"] == "a" and calls == 2


async def test_refusals_are_status_errors(tmp_path: Path) -> None:
    body = {"kind": "Status", "reason": "AlreadyExists", "message": 'configmaps "a" already exists', "code": 409}
    async with served(tmp_path, lambda _: web.json_response(body, status=409)) as transport:
        client = RemoteClient(transport)
        with pytest.raises(StatusError) as caught:
            await client.create("", "configmaps", {"metadata": {"name": "a"}}, "default")
        assert (caught.value.code, caught.value.reason) == (409, "AlreadyExists")
        await client.ensure("", "configmaps", {"metadata": {"name": "a", "namespace": "default"}})
    async with served(tmp_path, lambda _: web.Response(status=502, text="bad gateway")) as transport:
        with pytest.raises(StatusError, match="bad gateway") as caught:
            await RemoteClient(transport).get("", "configmaps", "default", "a")
        assert caught.value.code == 502
    with pytest.raises(StatusError) as caught:
        await transport.request("GET", "/api")
    assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")
    await transport.close()


async def test_a_server_of_another_authority_is_refused(tmp_path: Path) -> None:
    seen = []

    def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.json_response({})

    async with served(tmp_path, answer) as right:
        stranger = PKI(tmp_path / "other").ca.certificate_pem
        transport = Transport(right.url, Credentials(authority=stranger, token="secret"))
        with pytest.raises(StatusError, match="certificate"):
            await transport.request("GET", "/x")
        await transport.close()
    assert not seen


async def test_an_update_is_repeated_until_nobody_wrote_in_between(tmp_path: Path) -> None:
    version = 1
    puts: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        nonlocal version
        if request.method == "GET":
            return web.json_response({"metadata": {"name": "a", "resourceVersion": str(version)}, "data": {"n": "0"}})
        puts.append(await request.json())
        if len(puts) < 3:
            version += 1
            return web.json_response({"reason": "Conflict", "message": "modified"}, status=409)
        return web.json_response(puts[-1])

    def change(live: dict[str, Any]) -> None:
        live["data"]["n"] = "1"

    async with served(tmp_path, answer) as transport:
        client = RemoteClient(transport)
        found = await client.update("", "configmaps", "default", "a", change)
        assert found["data"]["n"] == "1"
        assert [each["metadata"]["resourceVersion"] for each in puts] == ["1", "2", "3"]
        # What changes nothing is not written.
        await client.update("", "configmaps", "default", "a", lambda live: live)
        assert len(puts) == 3


def test_failures_wait_longer_each_time_until_it_goes_well_again() -> None:
    now = 0.0
    backoff = Backoff(lambda: now, dice=lambda: 0.0)
    assert [backoff.delay() for _ in range(7)] == pytest.approx([0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0])
    now = 121.0
    assert backoff.delay() == pytest.approx(0.8)
    assert Backoff(lambda: 0.0, dice=lambda: 1.0).delay() == pytest.approx(1.6)


def test_the_next_server_is_used_where_one_does_not_answer() -> None:
    servers, switched = Servers("https://a:1/"), []
    servers.subscribe(lambda: switched.append(servers.current))
    servers.failed("https://a:1")
    assert servers.current == "https://a:1" and switched.pop() == "https://a:1"  # there is no other
    assert servers.learn(["https://c:1", "https://b:1", "https://a:1"])
    assert not servers.learn(["https://b:1", "https://c:1"])
    servers.failed("https://a:1")
    servers.failed("https://a:1")  # said twice: nobody uses it any more
    assert servers.current == "https://b:1"
    servers.failed("https://b:1")
    servers.failed("https://c:1")
    assert switched == ["https://b:1", "https://c:1", "https://a:1"]
    # One that is used stays so, also where it is no endpoint any more.
    servers.failed("https://a:1")
    servers.learn(["https://c:1"])
    assert servers.current == "https://b:1"
    servers.failed("https://b:1")
    assert servers.current == "https://a:1"


async def test_what_was_open_to_a_server_that_failed_ends(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type":"x"}\n')
        await asyncio.sleep(60)
        return response

    async with served(tmp_path, answer) as first:
        servers = Servers(first.url, ["https://127.0.0.1:1"])
        transport = Transport(servers, Credentials(authority=PKI(tmp_path / "pki").ca.certificate_pem))
        lines = []

        async def follow() -> None:
            async for line in transport.lines("/x", {}):
                lines.append(line)

        following = [asyncio.create_task(follow()) for _ in range(3)]
        async with asyncio.timeout(5):
            while len(lines) < 3:
                await asyncio.sleep(0.01)
            servers.failed(first.url)
            found = await asyncio.gather(*following, return_exceptions=True)
        assert [getattr(each, "code", each) for each in found] == [503] * 3
        assert transport.url != first.url  # what we closed ourselves is no failure of the next one
        with pytest.raises(StatusError, match=r"https://127\.0\.0\.1:1/y"):
            await transport.request("GET", "/y")
        assert transport.url == first.url  # in turn
        await transport.close()
