"""Relaying connections where the kernel cannot translate them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address

import pytest

from windlass.networks.relay import Relay, Target, TcpRelay, UdpRelay, make_relay

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def tcp(handler: Handler) -> AsyncIterator[tuple[TcpRelay, int]]:
    """A relay to a server; the relay and its port."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        relay = TcpRelay(listener, Target(ip_address("127.0.0.1"), server.sockets[0].getsockname()[1]))
        await relay.start()
        try:
            yield relay, listener.getsockname()[1]
        finally:
            await relay.close()
            server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b" and good bye")
    writer.close()


async def test_bytes_go_both_ways_and_each_way_ends_for_itself() -> None:
    async with tcp(echo) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        payload = bytes(range(256)) * 4000

        async def send() -> None:
            writer.write(payload)
            await writer.drain()
            writer.write_eof()

        _, answer = await asyncio.gather(send(), reader.read())
        assert answer == payload + b" and good bye"
        writer.close()


async def test_many_connections_do_not_mix() -> None:
    async with tcp(echo) as (_, port):

        async def one(number: int) -> bool:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"%d" % number)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer == b"%d and good bye" % number

        assert all(await asyncio.gather(*(one(number) for number in range(30))))


async def test_who_reads_nothing_is_not_buffered_for() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536

    async with tcp(flood) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        before = -1
        while sent != before:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 64 << 20
        writer.close()


async def test_nobody_behind_the_relay_is_a_reset() -> None:
    async with tcp(echo) as (relay, port):
        relay._target = Target(ip_address("127.0.0.1"), 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_closing_ends_connections() -> None:
    async with tcp(echo) as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.read(5) == b"hello"
        await relay.close()
        await relay.close()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.peers: set[object] = set()

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self.peers.add(addr)
        self.transport.sendto(data.upper(), addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def udp(quiet_seconds: float) -> AsyncIterator[tuple[UdpRelay, Echo, tuple[str, int]]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        target = Target(ip_address("127.0.0.1"), transport.get_extra_info("sockname")[1])
        relay = UdpRelay(bound, target, quiet_seconds=quiet_seconds)
        await relay.start()
        try:
            yield relay, protocol, bound.getsockname()
        finally:
            await relay.close()
            transport.close()


async def converse(sock: socket.socket, remote: tuple[str, int], data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        await loop.sock_sendto(sock, data, remote)
        return await loop.sock_recv(sock, 100)


async def test_datagrams_come_back_to_their_sender() -> None:
    async with udp(60.0) as (_, echo_server, remote):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b,
        ):
            for sock in (a, b):
                sock.setblocking(False)
            assert await converse(a, remote, b"one") == b"ONE"
            assert await converse(b, remote, b"two") == b"TWO"
            assert await converse(a, remote, b"three") == b"THREE"
        assert len(echo_server.peers) == 2


async def test_a_quiet_flow_is_forgotten_and_may_come_again() -> None:
    async with udp(0.05) as (relay, echo_server, remote):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            assert await converse(sock, remote, b"one") == b"ONE"
            async with asyncio.timeout(5):
                while relay._ways:
                    await asyncio.sleep(0.01)
            assert await converse(sock, remote, b"two") == b"TWO"
        assert len(echo_server.peers) == 2


def test_there_is_no_relay_for_sctp() -> None:
    with socket.socket() as holder:
        target = Target(ip_address("127.0.0.1"), 80)
        relays: list[Relay | None] = [make_relay(protocol, holder, target) for protocol in ("tcp", "udp", "sctp")]
    assert [type(each) for each in relays] == [TcpRelay, UdpRelay, type(None)]
