"""Requests and answers on one connection, as raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.rawhttp import Serve, read_answer, read_head, request
from windlass.errors import InvalidParameter
from windlass.http import Limits, Request, Response, StreamResponse
from windlass.http.query import parse_query


async def echo(request: Request) -> Response:
    body = await request.read(1 << 20)
    return Response(200, [("X-Method", request.method), ("X-Path", request.path)], body)


async def test_requests_follow_each_other_on_one_connection(serve: Serve) -> None:
    reader, writer = await (await serve(echo, headers=[("Api-Version", "1.51")]))()
    for number in range(3):
        writer.write(request(f"/{number}", "POST", body=b"x" * number))
        answer = await read_answer(reader)
        assert (answer.status, answer.headers["x-path"], answer.body) == (200, f"/{number}", b"x" * number)
        assert answer.headers["api-version"] == "1.51"
        assert "date" in answer.headers


async def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        if request.path == "/0":
            await asyncio.sleep(0.01)
        return Response(body=request.path.encode() + await request.read(100))

    reader, writer = await (await serve(handler))()
    writer.write(b"".join(request(f"/{n}", "POST", body=b"b" * (n % 3)) for n in range(200)))
    bodies = [(await read_answer(reader)).body for _ in range(200)]
    assert bodies == [f"/{n}".encode() + b"b" * (n % 3) for n in range(200)]


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_a_request_may_arrive_in_pieces(serve: Serve, size: int) -> None:
    reader, writer = await (await serve(echo))()
    data = request("/a%20b?c=d", "POST", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") * 2
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await asyncio.sleep(0)
    for _ in range(2):
        answer = await read_answer(reader)
        assert (answer.headers["x-path"], answer.body) == ("/a b", b"abcde")


async def test_head_has_the_fields_of_get_and_no_body(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [("Content-Type", "text/plain")], b"hello")

    reader, writer = await (await serve(handler))()
    writer.write(request(method="HEAD") + request())
    head = await read_answer(reader, head=True)
    assert head.headers["content-length"] == "5"
    assert (await read_answer(reader)).body == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_have_no_length(serve: Serve, status: int) -> None:
    async def handler(request: Request) -> Response:
        return Response(status)

    reader, writer = await (await serve(handler))()
    writer.write(request() * 2)
    for _ in range(2):
        answer = await read_answer(reader)
        assert answer.status == status
        assert not {"content-length", "transfer-encoding"} & set(answer.headers)


async def test_expect_continue_is_answered_when_the_body_is_wanted(serve: Serve) -> None:
    reader, writer = await (await serve(echo))()
    writer.write(b"POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hello")
    assert (await read_answer(reader)).body == b"hello"


async def test_expect_continue_is_not_answered_when_the_body_is_not_wanted(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(403)

    reader, writer = await (await serve(handler))()
    writer.write(b"POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    answer = await read_answer(reader)
    assert (answer.status, answer.headers["connection"]) == (403, "close")
    assert await reader.read() == b""


async def test_http_1_0_closes_unless_asked_to_keep(serve: Serve) -> None:
    connect = await serve(echo)
    reader, writer = await connect()
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert b"Connection: close" in await reader.read()
    reader, writer = await connect()
    writer.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    status, headers = await read_head(reader)
    assert (status, headers["connection"]) == (200, "keep-alive")


async def test_connection_close_is_obeyed(serve: Serve) -> None:
    reader, writer = await (await serve(echo))()
    writer.write(request("/", "GET", "Connection: close") + request("/lost"))
    data = await reader.read()
    assert data.count(b"HTTP/1.1 200") == 1


async def test_a_stream_leaves_its_head_before_its_first_chunk(serve: Serve) -> None:
    go = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        await go.wait()
        for part in (b"one", b"", b"three"):
            yield part

    async def handler(request: Request) -> StreamResponse:
        return StreamResponse(200, [("Content-Type", "application/json")], chunks())

    reader, writer = await (await serve(handler))()
    writer.write(request())
    assert (await read_head(reader))[1]["transfer-encoding"] == "chunked"
    go.set()
    assert await reader.readexactly(23) == b"3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"


async def test_a_stream_to_http_1_0_ends_with_the_connection(serve: Serve) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"data"

    async def handler(request: Request) -> StreamResponse:
        return StreamResponse(200, [], chunks())

    reader, writer = await (await serve(handler))()
    writer.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert body == b"data"
    assert b"chunked" not in head and b"Connection: close" in head


async def test_a_stream_that_fails_breaks_off_visibly(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"data"
        raise RuntimeError("broken source")

    async def handler(request: Request) -> StreamResponse:
        return StreamResponse(200, [], chunks())

    reader, writer = await (await serve(handler))()
    writer.write(request())
    assert (await reader.read()).endswith(b"\r\n4\r\ndata\r\n")
    assert "broken source" in caplog.text


async def test_a_handler_that_fails_is_a_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Response:
        raise RuntimeError("secret detail")

    reader, writer = await (await serve(handler))()
    writer.write(request())
    answer = await read_answer(reader)
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "secret detail" in caplog.text


async def test_a_line_break_in_a_response_field_is_refused(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [("X-Name", "a\r\nSet-Cookie: b")])

    reader, writer = await (await serve(handler))()
    writer.write(request())
    assert (await read_answer(reader)).status == 500
    assert "line break" in caplog.text


async def test_a_body_may_be_taken_piece_by_piece_while_the_client_is_held_back(serve: Serve) -> None:
    limits = Limits(buffer=64 * 1024)
    total = 4 * 1024 * 1024
    held: list[int] = []

    async def handler(request: Request) -> Response:
        size = 0
        async for piece in request.body:
            size += len(piece)
            held.append(request._body.size)
            await asyncio.sleep(0)
        return Response(body=str(size).encode())

    reader, writer = await (await serve(handler, limits=limits))()
    writer.write(request("/", "POST", body=b"z" * total))
    assert (await read_answer(reader)).body == str(total).encode()
    assert max(held) <= limits.buffer + 256 * 1024  # one read of the socket above the mark


async def test_a_slow_client_holds_the_stream_back(serve: Serve) -> None:
    produced = 0
    stalled = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(100):
            produced += 1
            asyncio.get_running_loop().call_later(0.2, stalled.set)
            yield b"x" * 65536

    async def handler(request: Request) -> StreamResponse:
        return StreamResponse(200, [], chunks())

    reader, writer = await (await serve(handler))()
    writer.transport.pause_reading()
    writer.write(request())
    await stalled.wait()
    assert produced < 50
    writer.transport.resume_reading()
    assert len((await read_answer(reader)).body) == 100 * 65536


async def test_the_handler_is_cancelled_when_the_client_goes_away(serve: Serve) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response()

    _, writer = await (await serve(handler))()
    writer.write(request())
    await started.wait()
    writer.close()
    await asyncio.wait_for(cancelled.wait(), 5)


@pytest.mark.parametrize("tcp", [False, True])
async def test_an_endless_stream_ends_when_the_client_goes_away(serve: Serve, tcp: bool) -> None:
    ended = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def handler(request: Request) -> StreamResponse:
        request.cancel_on_disconnect = False
        return StreamResponse(200, [], chunks())

    reader, writer = await (await serve(handler, tcp=tcp))()
    writer.write(request())
    await read_head(reader)
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_handler_that_must_run_to_its_end_does(serve: Serve) -> None:
    started, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        request.cancel_on_disconnect = False
        started.set()
        await go.wait()
        done.set()
        return Response()

    _, writer = await (await serve(handler))()
    writer.write(request())
    await started.wait()
    writer.close()
    await writer.wait_closed()
    go.set()
    await asyncio.wait_for(done.wait(), 5)


async def test_a_client_that_only_closed_its_writing_side_gets_its_answer(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.02)
        return Response(body=b"still here")

    reader, writer = await (await serve(handler))()
    writer.write(request() * 2)
    writer.write_eof()
    assert (await reader.read()).count(b"still here") == 2


async def test_a_body_that_breaks_off_is_an_error_of_the_reader(serve: Serve) -> None:
    errors: list[BaseException] = []
    seen = asyncio.Event()

    async def handler(request: Request) -> Response:
        try:
            await request.read(100)
        except ConnectionError as error:
            errors.append(error)
            seen.set()
            raise
        return Response()

    reader, writer = await (await serve(handler))()
    writer.write(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")
    writer.write_eof()
    assert await reader.read() == b""
    await asyncio.wait_for(seen.wait(), 5)
    assert len(errors) == 1


async def test_a_body_beyond_its_limit_is_413(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(body=await request.read(10))

    connect = await serve(handler)
    for body in (b"x" * 11, b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n"):
        reader, writer = await connect()
        coding = ("Transfer-Encoding: chunked",) if body[0] == ord("b") else ()
        writer.write(request("/", "POST", *coding, body=body))
        assert (await read_answer(reader)).status == 413
        assert await reader.read() == b""


def test_queries_follow_gos_rules() -> None:
    assert parse_query("a=1&b=%2Fx+y&a=2&flag&=empty&") == [
        ("a", "1"),
        ("b", "/x y"),
        ("a", "2"),
        ("flag", ""),
        ("", "empty"),
    ]
    with pytest.raises(InvalidParameter, match='invalid URL escape "%zz"'):
        parse_query("a=%zz")
    with pytest.raises(InvalidParameter, match="semicolon"):
        parse_query("a=1;b=2")


async def test_a_malformed_escape_is_a_400(serve: Serve) -> None:
    reader, writer = await (await serve(echo))()
    writer.write(request("/%zz"))
    assert (await read_answer(reader)).status == 400
