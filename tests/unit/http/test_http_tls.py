"""TLS with client certificates, and half-close in both directions through it.

The client is a blocking socket of Python's `ssl` in a thread, or asyncio's where it sends and receives at once: the
standard library's, so that both ends are not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from support import certificates
from support.rawhttp import request
from windlass.http import Handler, Request, Response, Server


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    certificates.make(directory)
    return directory


@contextlib.asynccontextmanager
async def serving(certs: Path, handler: Handler) -> AsyncIterator[tuple[str, int]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server-cert.pem", certs / "server-key.pem")
    context.load_verify_locations(certs / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(handler)
    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()
    await server.listen(sock, tls=context)
    try:
        yield address
    finally:
        await server.close(grace=0)


def client_context(certs: Path, *, certificate: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    if certificate:
        context.load_cert_chain(certs / "cert.pem", certs / "key.pem")
    return context


def connect(certs: Path, address: tuple[str, int], *, certificate: bool = True) -> ssl.SSLSocket:
    context = client_context(certs, certificate=certificate)
    return context.wrap_socket(socket.create_connection(address, timeout=10), server_hostname="localhost")


def read_all(sock: ssl.SSLSocket) -> bytes:
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


async def in_thread(work: Callable[[], bytes]) -> bytes:
    return await asyncio.wait_for(asyncio.to_thread(work), 20)


async def test_requests_over_tls_know_the_clients_certificate(certs: Path) -> None:
    async def handler(request: Request) -> Response:
        subject = request.extra("peercert")["subject"]
        return Response(body=str(subject[0][0][1]).encode() + await request.read(10_000_000))

    def client() -> bytes:
        with connect(certs, address) as sock:
            sock.sendall(request("/", "POST", "Connection: close", body=b"x" * 5_000_000))
            return read_all(sock)

    async with serving(certs, handler) as address:
        answer = await in_thread(client)
    assert answer.endswith(b"\r\n\r\nclient" + b"x" * 5_000_000)


async def test_a_client_without_certificate_is_refused(certs: Path) -> None:
    async def handler(request: Request) -> Response:
        raise AssertionError("must not be reached")

    def client() -> bytes:
        with connect(certs, address, certificate=False) as sock:
            sock.sendall(request())
            return read_all(sock)

    async with serving(certs, handler) as address:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await in_thread(client)


async def test_plain_http_to_the_tls_port_is_told_so(certs: Path) -> None:
    async def handler(request: Request) -> Response:
        raise AssertionError("must not be reached")

    def client() -> bytes:
        with socket.create_connection(address, timeout=10) as sock:
            sock.sendall(request())
            return sock.recv(1000)

    async with serving(certs, handler) as address:
        assert b"HTTP request to an HTTPS server" in await in_thread(client)


async def test_output_follows_after_the_clients_close_notify(certs: Path) -> None:
    """What `echo x | docker --tls run -i image cat` needs. The client below speaks TLS over BIOs, as Go does."""

    async def cat(request: Request) -> None:
        duplex = await request.hijack(101, [("Upgrade", "tcp"), ("Connection", "Upgrade")])
        parts = []
        while data := await duplex.read():
            parts.append(data)
        await asyncio.sleep(0.01)
        await duplex.write(b"".join(parts) * 1000)

    def client() -> bytes:
        context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        context.load_cert_chain(certs / "cert.pem", certs / "key.pem")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        output = b""
        with socket.create_connection(address, timeout=10) as sock:

            def drive(step: Callable[[], object]) -> object:
                while True:
                    try:
                        result = step()
                    except ssl.SSLWantReadError:
                        sock.sendall(outgoing.read())
                        data = sock.recv(65536)
                        incoming.write(data) if data else incoming.write_eof()
                    else:
                        sock.sendall(outgoing.read())
                        return result

            drive(tls.do_handshake)
            drive(lambda: tls.write(request("/", "POST", "Connection: Upgrade", "Upgrade: tcp") + b"input;"))
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.unwrap()  # sends close_notify and would wait for the peer's
            sock.sendall(outgoing.read())
            with contextlib.suppress(ssl.SSLZeroReturnError):
                while data := drive(lambda: tls.read(65536)):
                    assert isinstance(data, bytes)
                    output += data
        return output

    async with serving(certs, cat) as address:
        output = await in_thread(client)
    assert output.endswith(b"\r\n\r\n" + b"input;" * 1000)


async def test_input_follows_after_our_close_notify(certs: Path) -> None:
    received = asyncio.get_running_loop().create_future()

    async def handler(request: Request) -> None:
        duplex = await request.hijack(200, [])
        duplex.write_eof()
        await duplex.write(b"")
        parts = []
        while data := await duplex.read():
            parts.append(data)
        received.set_result(b"".join(parts))

    def client() -> bytes:
        with connect(certs, address) as sock:
            sock.sendall(request())
            head = read_all(sock)
            sock.sendall(b"late")
            sock.sendall(b" input")
            sock.unwrap()
            return head

    async with serving(certs, handler) as address:
        assert (await in_thread(client)).startswith(b"HTTP/1.1 200")
        assert await asyncio.wait_for(received, 5) == b"late input"


async def test_back_pressure_through_tls(certs: Path) -> None:
    async def echo(request: Request) -> None:
        duplex = await request.hijack(200, [])
        while data := await duplex.read():
            assert duplex.size < 2_000_000
            await duplex.write(data)

    total = 20_000_000

    async def client(address: tuple[str, int]) -> int:
        # Both directions at once: a blocking SSLSocket may not be used by two threads, so this client is asyncio's.
        context = client_context(certs)
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="localhost")
        writer.write(request())
        await reader.readuntil(b"\r\n\r\n")

        async def send() -> None:
            for _ in range(0, total, 1_000_000):
                writer.write(b"z" * 1_000_000)
                await writer.drain()

        sending = asyncio.ensure_future(send())
        size = 0
        while size < total:
            size += len(await reader.read(65536))
        await sending
        writer.transport.abort()
        return size

    async with serving(certs, echo) as address:
        assert await asyncio.wait_for(client(address), 60) == total
