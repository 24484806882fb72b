"""A small world for live network tests: a host, remote machines beside it, servers in containers, clients anywhere.

Everything is in network namespaces. A server says to whoever connects from which address it saw him come, so one answer
tells that the way exists and what was translated.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from support.private_network import OWN, inside, new_namespace, socket_in
from windlass.kernel.netlink import address, link, route
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.networks import Attachment, Networks, NetworkSettings

QUIET = 0.25
PATIENCE = 5.0


def identity(number: int) -> str:
    return f"{number:012x}{number:052x}"


@contextlib.asynccontextmanager
async def networks(directory: Path, **settings: Any) -> AsyncIterator[Networks]:
    """Networks with private roots in a directory; at the end nothing of theirs is left."""
    opened = await Networks.open(directory / "root", directory / "exec", NetworkSettings(**settings))
    try:
        yield opened
    finally:
        await opened.close(remove=True)


async def crash(victim: Networks) -> None:
    """What the death of its process does to a daemon's Networks: sockets and threads end, the kernel keeps the rest."""
    connector = victim._connector
    for pool in (connector._plugged, connector._plain):
        for left in pool.close():
            getattr(left, "sandbox", left).close()
    connector._visitor.shutdown()
    await victim._name_service.close()
    for published in victim._published.values():
        await victim._publisher.stop_relays(published)
    victim._reservations.close()
    victim._nftables.close()
    victim._netlink.close()
    victim._connections.close()
    victim._sandboxes.close()
    victim._threads.shutdown()


@contextlib.contextmanager
def remote_machine(name: str, network: str = "198.51.100.0/24") -> Iterator[int]:
    """A machine on a cable: .1 is the host, .2 the machine, whose default route is the host."""
    subnet = ipaddress.IPv4Network(network)
    here, there = (ipaddress.IPv4Interface((int(subnet.network_address) + n, 24)) for n in (1, 2))
    with new_namespace() as namespace, NetlinkSocket() as netlink:
        netlink.request(link.new_veth(name, link.VethPeer("eth0", namespace)))
        index = link.read_link(netlink, name).index
        netlink.request(address.new_address(index, here))
        with inside(namespace, NetlinkSocket) as far:
            index = link.read_link(far, "eth0").index
            far.request(
                link.set_link(index, up=True),
                address.new_address(index, there),
                route.new_route(route.default_network(4), gateway=here.ip),
            )
        yield namespace


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextlib.asynccontextmanager
async def server(namespace: int | str, port: int, *, host: str = "0.0.0.0", udp: bool = False) -> AsyncIterator[None]:
    """Tells every client the address that it comes from."""
    sock = socket_in(namespace, _family(host), socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.setblocking(False)
    if udp:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(_Tell, sock=sock)
        try:
            yield
        finally:
            transport.close()
        return

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(writer.get_extra_info("peername")[0]).encode())
        writer.write_eof()
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    serving = await asyncio.start_server(tell, sock=sock)
    try:
        yield
    finally:
        serving.close()


class _Tell(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(str(addr[0]).encode(), addr)


async def ask(namespace: int | str, host: str, port: int, *, patience: float = PATIENCE) -> str:
    """Connect and read what the server says. Raises OSError or TimeoutError."""
    loop = asyncio.get_running_loop()
    with socket_in(namespace, _family(host), socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        async with asyncio.timeout(patience):
            await loop.sock_connect(sock, (host, port))
            answer = b""
            while data := await loop.sock_recv(sock, 100):
                answer += data
            return answer.decode()


async def ask_udp(sock: socket.socket, host: str, port: int, *, patience: float = PATIENCE) -> str:
    """Send and read what the server says. Raises OSError or TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience):
        await loop.sock_sendto(sock, b"who am I?", (host, port))
        return (await loop.sock_recv(sock, 100)).decode()


def udp_client(namespace: int | str = OWN, family: int = socket.AF_INET) -> socket.socket:
    sock = socket_in(namespace, family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


async def answers(namespace: int | str, host: str, port: int) -> bool:
    """True where somebody answers. Raises OSError or TimeoutError where nobody does."""
    return bool(await ask(namespace, host, port))


async def reaches(namespace: int | str, host: str, port: int) -> bool:
    """Whether a connection comes about, for those that should not: a dropped one is waited for only briefly."""
    try:
        await ask(namespace, host, port, patience=QUIET)
    except (OSError, TimeoutError):
        return False
    return True


def path_of(attachment: Attachment) -> str:
    assert attachment.netns_path is not None
    return attachment.netns_path


def ip_of(attachment: Attachment) -> str:
    return next(str(each.plug.ipv4.ip) for each in attachment.endpoints.values() if each.plug.ipv4)


def link_names() -> set[str]:
    with NetlinkSocket() as netlink:
        return {each.name for each in link.read_links(netlink)}


async def eventually(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while True:
            outcome = condition()
            if outcome if isinstance(outcome, bool) else await outcome:
                return
            await asyncio.sleep(0.01)
