"""WebSockets, spoken to by wsproto's own client."""

from __future__ import annotations

import asyncio

import pytest
from wsproto import ConnectionType, WSConnection, events

from support.rawhttp import Serve, read_answer, request
from windlass.http import Request, websocket


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.ws = WSConnection(ConnectionType.CLIENT)

    def send(self, event: events.Event) -> None:
        self.writer.write(self.ws.send(event))

    async def receive(self) -> events.Event:
        while True:
            for event in self.ws.events():
                return event
            data = await asyncio.wait_for(self.reader.read(65536), 5)
            self.ws.receive_data(data or None)


async def echo(request: Request) -> None:
    ws = await websocket.accept(request, ["tty"])
    while (data := await ws.receive()) is not None:
        await ws.send(b"got " + data)
    await ws.close()


async def test_messages_both_ways_and_a_clean_end(serve: Serve) -> None:
    client = Client(*await (await serve(echo))())
    client.send(events.Request(host="t", target="/attach/ws", subprotocols=["other", "tty"]))
    accepted = await client.receive()
    assert isinstance(accepted, events.AcceptConnection)
    assert accepted.subprotocol == "tty"
    client.send(events.BytesMessage(b"binary"))
    answer = await client.receive()
    assert isinstance(answer, events.BytesMessage)
    assert answer.data == b"got binary"
    client.send(events.TextMessage("tëxt"))
    answer = await client.receive()
    assert isinstance(answer, events.BytesMessage)
    assert bytes(answer.data).decode() == "got tëxt"
    client.send(events.Ping(b"are you there"))
    pong = await client.receive()
    assert isinstance(pong, events.Pong)
    assert pong.payload == b"are you there"
    client.send(events.CloseConnection(1000))
    assert isinstance(await client.receive(), events.CloseConnection)
    assert await client.reader.read() == b""


async def test_a_broken_frame_closes_with_a_reason(serve: Serve) -> None:
    client = Client(*await (await serve(echo))())
    client.send(events.Request(host="t", target="/"))
    await client.receive()
    client.writer.write(b"\xff\xff\xff\xff")  # reserved bits and an unknown opcode
    closed = await client.receive()
    assert isinstance(closed, events.CloseConnection)
    assert closed.code == 1002


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("Connection: Upgrade", "Upgrade: websocket"),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 13"),
        (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Key: " + "A" * 22 + "==",
            "Sec-WebSocket-Version: 8",
        ),
        ("Upgrade: websocket", "Sec-WebSocket-Key: " + "A" * 22 + "==", "Sec-WebSocket-Version: 13"),
    ],
)
async def test_what_is_no_handshake_is_refused(serve: Serve, fields: tuple[str, ...]) -> None:
    reader, writer = await (await serve(echo))()
    writer.write(request("/", "GET", *fields))
    assert (await read_answer(reader)).status == 400


async def test_whole_messages_are_put_together_and_bounded(serve: Serve) -> None:
    seen: list[bytes | None] = []

    async def collect(request: Request) -> None:
        ws = await websocket.accept(request, ["tty"])
        assert ws.subprotocol == "tty"
        while (message := await ws.message(10)) is not None:
            seen.append(message)
        await ws.close()

    client = Client(*await (await serve(collect))())
    client.send(events.Request(host="t", target="/", subprotocols=["tty"]))
    await client.receive()
    client.send(events.BytesMessage(b"in ", message_finished=False))
    client.send(events.Ping(b"meanwhile"))
    client.send(events.BytesMessage(b"parts"))
    client.send(events.BytesMessage(b""))
    assert isinstance(await client.receive(), events.Pong)
    client.send(events.BytesMessage(b"too long for us"))
    closed = await client.receive()
    assert isinstance(closed, events.CloseConnection) and closed.code == 1009
    assert seen == [b"in parts", b""]
