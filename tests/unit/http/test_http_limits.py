"""What a client may not do: malformed heads, smuggling, floods, stalling."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.rawhttp import Serve, read_answer, read_head, request
from windlass.http import Limits, Request, Response, StreamResponse, server
from windlass.http.head import HeadError, HeadParser


async def echo(request: Request) -> Response:
    return Response(200, [("X-Path", request.path)], await request.read(1 << 20))


MALFORMED = [
    b"nonsense\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET  HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/3.7\r\nHost: a\r\n\r\n",
    # Request smuggling: whatever two readers could understand differently.
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
]


@pytest.mark.parametrize("data", MALFORMED)
async def test_malformed_requests_are_refused_and_the_connection_closes(serve: Serve, data: bytes) -> None:
    connect = await serve(echo)
    reader, writer = await connect()
    writer.write(data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await read_answer(reader)
    assert answer.status in (400, 501, 505)
    assert answer.headers["connection"] == "close"
    assert await reader.read() == b""  # and nothing behind it was taken as a request


@given(data=st.sampled_from(MALFORMED), cuts=st.lists(st.integers(1, 80), max_size=5))
@settings(max_examples=200)
def test_a_head_is_refused_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    whole, pieces = HeadParser(Limits()), HeadParser(Limits())
    assert _verdict(whole, [data]) == _verdict(pieces, _cut(data, cuts))


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    parts = []
    for size in cuts:
        parts.append(data[:size])
        data = data[size:]
    return [part for part in [*parts, data] if part]


def _verdict(parser: HeadParser, pieces: list[bytes]) -> object:
    used = 0
    try:
        for piece in pieces:
            taken = parser.feed(piece)
            if taken >= 0:
                return used + taken, parser.method, parser.target, parser.headers, type(parser.body())
            used += len(piece)
    except HeadError as error:
        return error.status
    return None


_token = st.text("abcXYZ019-_", min_size=1, max_size=8)
_fields = st.lists(st.tuples(_token, st.text("abc ,;=/%\t", max_size=12)), max_size=6)


@given(target=st.text("/abc%20?&=", max_size=20), fields=_fields, cuts=st.lists(st.integers(1, 40), max_size=6))
def test_well_formed_heads_are_understood_however_they_are_cut(
    target: str, fields: list[tuple[str, str]], cuts: list[int]
) -> None:
    lines = [f"GET /{target} HTTP/1.1", "Host: h", *(f"X-{name}: {value}" for name, value in fields)]
    data = ("\r\n".join(lines) + "\r\n\r\n").encode()
    parser = HeadParser(Limits())
    verdict = _verdict(parser, _cut(data + b"next", cuts))
    assert isinstance(verdict, tuple)
    assert verdict[0] == len(data)
    assert verdict[2] == f"/{target}".encode()
    for name, value in fields:
        assert value.strip(" \t") in verdict[3][f"x-{name}".lower()]


@given(st.lists(st.binary(max_size=60), max_size=6))
@settings(max_examples=300)
def test_any_bytes_are_a_head_or_refused(pieces: list[bytes]) -> None:
    _verdict(HeadParser(Limits()), [piece for piece in pieces if piece])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
async def test_mutated_requests_never_break_the_server(serve: Serve, seed: int) -> None:
    """Whatever one connection does, it gets an answer or an end, and the next connection is served."""
    rng = random.Random(seed)
    connect = await serve(echo, limits=Limits(head_timeout=1, body_timeout=1))
    good = request("/p?q=1", "POST", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n") * 3
    data = bytearray(good)
    for _ in range(rng.randrange(1, 8)):
        where = rng.randrange(len(data))
        what = rng.choice(
            [b"\r", b"\n", b"\0", b" ", b":", b"0", b"\xff", b"", b"\r\n\r\n", bytes([rng.randrange(256)])]
        )
        data[where : where + rng.randrange(3)] = what
    reader, writer = await connect()
    writer.write(bytes(data))
    writer.write_eof()
    await asyncio.wait_for(reader.read(), 10)
    reader, writer = await connect()
    writer.write(request("/alive"))
    assert (await read_answer(reader)).headers["x-path"] == "/alive"


async def test_empty_lines_before_a_request_are_tolerated(serve: Serve) -> None:
    reader, writer = await (await serve(echo))()
    writer.write(b"\r\n\r\n" + request("/a") + b"\r\n" + request("/b"))
    assert [(await read_answer(reader)).headers["x-path"] for _ in range(2)] == ["/a", "/b"]


async def test_heads_are_bounded_in_size_and_fields(serve: Serve) -> None:
    connect = await serve(echo, limits=Limits(head_size=1000, head_fields=10))
    for data in (
        request("/" + "a" * 1000),
        b"GET / HTTP/1.1\r\nX: " + b"a" * 2000,
        request("/", "GET", *(f"X-{n}: 1" for n in range(10))),
    ):
        reader, writer = await connect()
        writer.write(data)
        assert (await read_answer(reader)).status == 431
        assert await reader.read() == b""
    reader, writer = await connect()
    writer.write(request("/", "GET", *(f"X-{n}: 1" for n in range(9))))
    assert (await read_answer(reader)).status == 200


@pytest.fixture
def quick_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_SWEEP_SECONDS", 0.02)


@pytest.mark.usefixtures("quick_sweep")
async def test_a_slow_head_is_ended(serve: Serve) -> None:
    connect = await serve(echo, limits=Limits(head_timeout=0.1))
    reader, writer = await connect()
    writer.write(b"GET / HT")
    assert (await read_answer(reader)).status == 408
    assert await reader.read() == b""
    reader, _ = await connect()
    assert await reader.read() == b""  # said nothing at all


@pytest.mark.usefixtures("quick_sweep")
async def test_a_dripping_head_is_ended_too(serve: Serve) -> None:
    """The time runs from a head's first byte; each further byte does not start it again."""
    reader, writer = await (await serve(echo, limits=Limits(head_timeout=0.2)))()

    async def drip() -> None:
        for byte in b"GET /" + b"a" * 10_000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    assert (await read_answer(reader)).status == 408
    dripping.cancel()


@pytest.mark.usefixtures("quick_sweep")
async def test_a_stalled_body_is_ended(serve: Serve) -> None:
    reader, writer = await (await serve(echo, limits=Limits(body_timeout=0.1)))()
    writer.write(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")
    assert (await read_answer(reader)).status == 408


@pytest.mark.usefixtures("quick_sweep")
async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.2)
        return Response()

    reader, writer = await (await serve(handler, limits=Limits(idle_timeout=0.05)))()
    writer.write(request())
    assert (await read_answer(reader)).status == 200
    assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_beyond_the_limit_the_longest_idle_connection_makes_room(serve: Serve) -> None:
    connect = await serve(echo, limits=Limits(connections=2))
    clients = []
    for _ in range(3):
        reader, writer = await connect()
        writer.write(request())
        assert (await read_answer(reader)).status == 200
        clients.append((reader, writer))
    assert await clients[0][0].read() == b""
    clients[1][1].write(request("/b"))
    assert (await read_answer(clients[1][0])).status == 200


async def test_beyond_the_limit_of_busy_connections_new_ones_get_503(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.Event().wait()
        return Response()

    connect = await serve(handler, limits=Limits(connections=2))
    for _ in range(2):
        _, writer = await connect()
        writer.write(request())
        await asyncio.sleep(0.02)
    reader, _ = await connect()
    assert (await read_answer(reader)).status == 503


async def test_shutting_down_answers_what_runs_and_ends_what_is_endless(serve: Serve) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    async def handler(request: Request) -> Response | StreamResponse | None:
        if request.path == "/stream":
            return StreamResponse(200, [], endless())
        if request.path == "/raw":
            duplex = await request.hijack(200, [])
            await duplex.read()
            return None
        started.set()
        await go.wait()
        return Response(body=b"whole")

    connect = await serve(handler)
    stream, work, raw, idle = [await connect() for _ in range(4)]
    stream[1].write(request("/stream"))
    raw[1].write(request("/raw"))
    work[1].write(request("/work"))
    await read_head(stream[0])
    await read_head(raw[0])
    await started.wait()
    closing = asyncio.create_task(connect.server.close(grace=5))  # type: ignore[attr-defined]
    assert await idle[0].read() == b""
    assert await stream[0].read() == b"5\r\nfirst\r\n"
    assert await raw[0].read() == b""
    go.set()
    answer = await read_answer(work[0])
    assert (answer.body, answer.headers["connection"]) == (b"whole", "close")
    await closing


async def test_a_thousand_idle_connections_cost_no_task(serve: Serve) -> None:
    connect = await serve(echo)
    clients = [await connect() for _ in range(400)]
    for reader, writer in clients:
        writer.write(request())
        await read_answer(reader)
    running = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    assert not running
    assert connect.server.connections == 400  # type: ignore[attr-defined]
