"""Hijacked streams: nothing is lost at the border, and each direction ends on its own."""

from __future__ import annotations

import asyncio
import socket

import pytest

from support.rawhttp import Serve, read_answer, read_head, request
from windlass.http import Duplex, Limits, Request, Response

UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")


async def cat(request: Request) -> None:
    """Send back what comes; say goodbye after the client's end of file."""
    body = await request.read(1000)
    duplex = await request.hijack(101 if request.upgrade else 200, [("Content-Type", "raw")])
    await duplex.write(b"body=" + body + b"\n")
    while data := await duplex.read():
        await duplex.write(data)
    await duplex.write(b"bye")


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("fields", [UPGRADE, ()])
async def test_the_client_may_close_its_side_and_go_on_reading(
    serve: Serve, tcp: bool, fields: tuple[str, ...]
) -> None:
    reader, writer = await (await serve(cat, tcp=tcp))()
    writer.write(request("/", "POST", *fields))
    status, headers = await read_head(reader)
    assert status == (101 if fields else 200)
    assert not {"content-length", "transfer-encoding"} & set(headers)
    writer.write(b"some input")
    writer.write_eof()
    assert await reader.read() == b"body=\nsome inputbye"


@pytest.mark.parametrize("fields", [UPGRADE, ()])
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_bytes_behind_the_request_belong_to_the_stream(serve: Serve, fields: tuple[str, ...], size: int) -> None:
    """Also when the request has a body and its bytes arrive together with the stream's."""
    reader, writer = await (await serve(cat))()
    data = request("/", "POST", *fields, body=b'{"Tty":false}') + b"GET /not HTTP/1.1\r\n\r\nstream"
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await asyncio.sleep(0)
    writer.write_eof()
    await read_head(reader)
    assert await reader.read() == b'body={"Tty":false}\nGET /not HTTP/1.1\r\n\r\nstreambye'


async def test_an_upgrade_with_a_chunked_body(serve: Serve) -> None:
    reader, writer = await (await serve(cat))()
    chunked = b"2\r\n{}\r\n0\r\n\r\nraw"
    writer.write(request("/", "POST", *UPGRADE, "Transfer-Encoding: chunked", body=chunked))
    writer.write_eof()
    await read_head(reader)
    assert await reader.read() == b"body={}\nrawbye"


async def test_an_upgrade_that_the_handler_ignores_is_an_ordinary_request(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(body=await request.read(100))

    reader, writer = await (await serve(handler))()
    upgrade = request("/", "POST", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", body=b"first")
    writer.write(upgrade + request("/", "POST", body=b"second"))
    assert [(await read_answer(reader)).body for _ in range(2)] == [b"first", b"second"]


async def test_the_server_may_close_its_side_and_go_on_reading(serve: Serve) -> None:
    received = asyncio.get_running_loop().create_future()

    async def handler(request: Request) -> None:
        duplex = await request.hijack(200, [])
        await duplex.write(b"done")
        duplex.write_eof()
        parts = []
        while data := await duplex.read():
            parts.append(data)
        received.set_result(b"".join(parts))

    reader, writer = await (await serve(handler))()
    writer.write(request())
    await read_head(reader)
    assert await reader.read() == b"done"
    writer.write(b"late input")
    writer.write_eof()
    assert await asyncio.wait_for(received, 5) == b"late input"


async def test_output_is_not_lost_when_unread_input_is_left(serve: Serve) -> None:
    """Closing a TCP socket with unread input resets it; the reset must not overtake the output."""

    async def handler(request: Request) -> None:
        duplex = await request.hijack(200, [])
        await duplex.write(b"x" * 1_000_000)

    reader, writer = await (await serve(handler, tcp=True))()
    writer.write(request() + b"unread" * 10_000)
    await read_head(reader)
    await asyncio.sleep(0.01)
    writer.write(b"more")
    assert len(await reader.read()) == 1_000_000


async def test_back_pressure_in_both_directions(serve: Serve) -> None:
    sizes: list[int] = []

    async def handler(request: Request) -> None:
        duplex = await request.hijack(200, [])
        while data := await duplex.read():
            sizes.append(duplex.size)
            await duplex.write(data)

    limits = Limits(buffer=64 * 1024)
    reader, writer = await (await serve(handler, limits=limits))()
    writer.write(request())
    await read_head(reader)
    total = 8 * 1024 * 1024

    async def send() -> None:
        for _ in range(total // 65536):
            writer.write(b"y" * 65536)
            await writer.drain()
        writer.write_eof()

    sender = asyncio.create_task(send())
    await asyncio.sleep(0.05)
    assert not sender.done()  # nobody reads the echo, so the sender is held back
    assert len(await reader.read()) == total
    await sender
    assert max(sizes) <= limits.buffer + 256 * 1024


async def test_a_client_that_vanishes_after_its_end_of_file_ends_the_handler(serve: Serve) -> None:
    """A unix socket tells half-closed from closed; an attach to a silent container must not stay for ever."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> None:
        duplex = await request.hijack(200, [])
        assert await duplex.read() == b""
        started.set()
        try:
            await asyncio.Event().wait()  # a container that prints nothing
        finally:
            ended.set()

    reader, writer = await (await serve(handler))()
    writer.write(request())
    await read_head(reader)
    writer.write_eof()
    await started.wait()
    assert not ended.is_set()
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)


async def test_writing_to_a_vanished_client_is_an_error(serve: Serve) -> None:
    errors: list[Exception] = []
    ended = asyncio.Event()

    async def handler(request: Request) -> None:
        request.cancel_on_disconnect = False
        duplex = await request.hijack(200, [])
        try:
            while True:
                await duplex.write(b"x" * 65536)
        except ConnectionResetError as error:
            errors.append(error)
            raise
        finally:
            ended.set()

    reader, writer = await (await serve(handler))()
    writer.write(request())
    await read_head(reader)
    writer.transport.abort()
    await asyncio.wait_for(ended.wait(), 5)


async def test_only_a_whole_request_can_be_hijacked_once(serve: Serve) -> None:
    failures: list[str] = []

    async def handler(request: Request) -> None:
        await request.hijack(200, [])
        try:
            await request.hijack(200, [])
        except RuntimeError as error:
            failures.append(str(error))

    reader, writer = await (await serve(handler))()
    writer.write(request())
    await reader.read()
    assert failures == ["only a whole request can be hijacked, and only once"]


async def test_prior_knowledge_http2_is_handed_over_with_its_first_bytes(serve: Serve) -> None:
    async def http2(duplex: Duplex) -> None:
        first = await duplex.read()
        await duplex.write(b"saw " + first[:3])

    async def handler(request: Request) -> Response:
        return Response()

    reader, writer = await (await serve(handler, preface=http2))()
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert await reader.read() == b"saw PRI"
    reader, writer = await (await serve(handler))()
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert (await read_answer(reader)).status in (400, 505)


async def test_the_socket_is_reachable(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        sock = request.extra("socket")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return Response(body=str(len(credentials)).encode())

    reader, writer = await (await serve(handler))()
    writer.write(request())
    assert (await read_answer(reader)).body == b"12"
