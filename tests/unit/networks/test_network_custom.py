"""Networks that somebody creates: connecting to several, names, isolation, removal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.network_world import (
    answers,
    ask,
    crash,
    identity,
    ip_of,
    link_names,
    networks,
    path_of,
    reaches,
    remote_machine,
    server,
)
from support.private_network import OWN, inside, private_network, socket_in
from windlass.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure
from windlass.kernel.netlink import address, link, route
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.networks import Attachment, EndpointConfig, Networks, NetworkSettings
from windlass.networks.dns import message

pytestmark = pytest.mark.root

ONE, TWO, THREE = identity(1), identity(2), identity(3)
BACK = {"Name": "back", "IPAM": {"Config": [{"Subnet": "10.7.0.0/24"}]}}
WEB = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}


def interfaces(path: str) -> dict[str, str]:
    """Name and IPv4 address of the links in a sandbox."""
    with inside(path, NetlinkSocket) as netlink:
        names = {each.index: each.name for each in link.read_links(netlink)}
        found = address.read_addresses(netlink, family=socket.AF_INET)
    return {names[each.index]: str(each.interface.ip) for each in found}


def way_out(path: str) -> str:
    with inside(path, NetlinkSocket) as netlink:
        routes = route.read_routes(netlink, socket.AF_INET, table=254)
    return ",".join(str(each.gateway) for each in routes if each.destination.prefixlen == 0)


async def resolve(attachment: Attachment, name: str, kind: int = message.A, *, tcp: bool = False) -> tuple[int, bytes]:
    """Response code and the data of the first record, asked as a resolver in the container does."""
    loop = asyncio.get_running_loop()
    data = struct.pack("!6H", 99, 0x0100, 1, 0, 0, 0) + message.encode_name(name) + struct.pack("!HH", kind, 1)
    query = message.parse_query(data)
    assert attachment.resolver == "127.0.0.11"
    kind_of_socket = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket_in(path_of(attachment), socket.AF_INET, kind_of_socket) as sock:
        sock.setblocking(False)
        async with asyncio.timeout(5):
            await loop.sock_connect(sock, (attachment.resolver, 53))
            await loop.sock_sendall(sock, (struct.pack("!H", len(data)) if tcp else b"") + data)
            response = await loop.sock_recv(sock, 4096)
            if tcp:
                response = response[2:]
    assert message.answers_to(query, response)
    return message.code_of(response), response[12 + len(query.section) + 12 :]


def found(address: str) -> tuple[int, bytes]:
    return 0, socket.inet_aton(address)


@private_network
async def test_containers_of_a_network_know_each_other_by_name(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        record = await own.create(BACK)
        one = await own.attach(ONE, network_mode="back", name="one", hostname="first")
        config = EndpointConfig.from_api({"Aliases": ["db", "db.local"]})
        two = await own.attach(TWO, network_mode=record.id, name="two", config=config)
        assert (ip_of(one), ip_of(two)) == ("10.7.0.2", "10.7.0.3")
        endpoint = two.network_settings()["Networks"]["back"]
        assert endpoint["Aliases"] == ["db", "db.local"]
        assert endpoint["DNSNames"] == ["two", "db", "db.local", TWO[:12]]
        assert one.network_settings()["Networks"]["back"]["DNSNames"] == ["one", ONE[:12], "first"]
        for name in ("two", "TWO", "db", "db.local", "two.back", TWO[:12]):
            assert await resolve(one, name) == found("10.7.0.3")
        assert await resolve(one, "one", tcp=True) == found("10.7.0.2")
        assert await resolve(one, "two", message.AAAA) == (0, b"")
        code, name_data = await resolve(one, "3.0.7.10.in-addr.arpa", message.PTR)
        assert (code, name_data) == (0, message.encode_name("two.back"))
        await own.rename(TWO, "second")
        assert await resolve(one, "second") == found("10.7.0.3")
        async with server(path_of(two), 80):
            assert await ask(path_of(one), "10.7.0.3", 80) == "10.7.0.2"
        assert set(own.inspect("back")["Containers"]) == {ONE, TWO}
        await own.detach(TWO)
        assert (await resolve(one, "second"))[0] != 0


@contextlib.asynccontextmanager
async def name_server(namespace: int | str, host: str, *, answer: str) -> AsyncIterator[list[str]]:
    """A foreign name server, which knows one address for every name."""
    asked: list[str] = []

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: object) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: object) -> None:
            query = message.parse_query(data)
            asked.append(query.name)
            response = message.answer(query, [(message.A, socket.inet_aton(answer))])
            # Somebody guesses at answers before the real one comes.
            self.transport.sendto(b"\0\0" + response[2:-4] + b"\6\6\6\6", addr)  # type: ignore[attr-defined]
            self.transport.sendto(response, addr)  # type: ignore[attr-defined]

    sock = socket_in(namespace, socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 53))
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, sock=sock)
    try:
        yield asked
    finally:
        transport.close()


@private_network
async def test_other_names_are_asked_for_elsewhere(tmp_path: Path) -> None:
    with remote_machine("up0") as remote:
        async with networks(tmp_path) as own, name_server(remote, "198.51.100.2", answer="203.0.113.7") as asked:
            servers = tmp_path / "resolv.conf"
            servers.write_text("nameserver 198.51.100.99\nnameserver 198.51.100.2\n")
            own._name_service._host_servers._path = str(servers)
            await own.create(BACK)
            await own.create({"Name": "closed", "Internal": True})
            one = await own.attach(ONE, network_mode="back", name="one")
            assert await resolve(one, "example.org") == found("203.0.113.7")
            # Its own server, asked from its own network.
            two = await own.attach(TWO, network_mode="back", name="two", dns=["198.51.100.2"])
            assert await resolve(two, "example.net") == found("203.0.113.7")
            assert asked == ["example.org", "example.net"]
            # Who has no way out has none by way of names.
            three = await own.attach(THREE, network_mode="closed", name="three")
            assert (await resolve(three, "secret.example"))[0] == message.SERVFAIL
            assert asked == ["example.org", "example.net"]
            servers.write_text("nameserver 198.51.100.2\n")
            await own.connect(THREE, "back")
            assert await resolve(three, "example.com") == found("203.0.113.7")


@private_network
async def test_a_container_in_several_networks(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        await own.create(BACK)
        await own.create({"Name": "apart", "IPAM": {"Config": [{"Subnet": "10.6.0.0/24"}]}})
        one = await own.attach(ONE, network_mode="back", name="one")
        two = await own.attach(TWO, network_mode="apart", name="two")
        async with server(path_of(two), 80):
            assert not await reaches(path_of(one), ip_of(two), 80)
            assert (await resolve(one, "two"))[0] != 0
            assert way_out(path_of(one)) == "10.7.0.1"
            endpoint = await own.connect(ONE, "apart")
            assert endpoint.plug.interface == "eth1"
            assert interfaces(path_of(one)) == {"lo": "127.0.0.1", "eth0": "10.7.0.2", "eth1": "10.6.0.3"}
            # The first by name is the way out, unless somebody says otherwise.
            assert way_out(path_of(one)) == "10.6.0.1"
            assert await ask(path_of(one), ip_of(two), 80) == "10.6.0.3"
            assert await resolve(one, "two") == found("10.6.0.2")
            assert await resolve(two, "one") == found("10.6.0.3")
            assert set(await own.statistics(ONE)) == {"eth0", "eth1"}
            with pytest.raises(Forbidden, match="endpoint with name one already exists in network apart"):
                await own.connect(ONE, "apart")
            gone = await own.disconnect(ONE, "apart")
            assert gone.id == endpoint.id and gone.plug.host_link not in link_names()
            assert interfaces(path_of(one)) == {"lo": "127.0.0.1", "eth0": "10.7.0.2"}
            assert way_out(path_of(one)) == "10.7.0.1"
            assert not await reaches(path_of(one), ip_of(two), 80)
            with pytest.raises(Forbidden, match="is not connected to network apart"):
                await own.disconnect(ONE, "apart")
        prior = EndpointConfig.from_api({"GwPriority": -1})
        await own.connect(ONE, "apart", prior)
        assert way_out(path_of(one)) == "10.7.0.1"


@private_network
async def test_published_ports_move_with_the_way_out(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        await own.create(BACK)
        one = await own.attach(ONE, network_mode="bridge", name="one", ports=WEB)
        async with server(path_of(one), 80):
            await own.connect(ONE, "back")
            assert one.resolver == "127.0.0.11" and one.published_on == "bridge"
            assert await answers(OWN, "127.0.0.1", 8080)
            await own.disconnect(ONE, "bridge")
            assert one.published_on == "back" and one.ports == WEB
            assert await ask(OWN, "127.0.0.1", 8080) == "10.7.0.1"
            await own.disconnect(ONE, "back")
            assert one.ports == {} and not await reaches(OWN, "127.0.0.1", 8080)


@private_network
async def test_a_chosen_address_is_given(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        await own.create(BACK)
        await own.create({"Name": "ours"})
        config = EndpointConfig.from_api({"IPAMConfig": {"IPv4Address": "10.7.0.77"}})
        one = await own.attach(ONE, network_mode="back", config=config)
        assert ip_of(one) == "10.7.0.77"
        assert one.network_settings()["Networks"]["back"]["IPAMConfig"] == {"IPv4Address": "10.7.0.77"}
        with pytest.raises(Forbidden, match=r"^Address already in use$"):
            await own.attach(TWO, network_mode="back", config=config)
        outside = EndpointConfig.from_api({"IPAMConfig": {"IPv4Address": "10.8.0.77"}})
        with pytest.raises(InvalidParameter, match=r"no configured subnet contains IP address 10\.8\.0\.77"):
            await own.attach(TWO, network_mode="back", config=outside)
        mine = own.inspect("ours")["IPAM"]["Config"][0]["Subnet"].replace(".0/24", ".9")
        with pytest.raises(InvalidParameter, match="only when connecting to networks with user configured subnets"):
            await own.attach(TWO, network_mode="ours", config=EndpointConfig(ip=mine))
        assert set(own.inspect("back")["Containers"]) == {ONE}


@private_network
async def test_networks_are_created_listed_and_removed(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        before = link_names()
        back = await own.create(BACK | {"Labels": {"tier": "data"}})
        ours = await own.create({"Name": "ours", "EnableIPv6": True})
        assert own.inspect("ours")["IPAM"]["Config"][0] == {"Subnet": "172.20.0.0/24", "Gateway": "172.20.0.1"}
        assert own.inspect("ours")["IPAM"]["Config"][1]["Subnet"].startswith("fd")
        with pytest.raises(Conflict, match=r"^network with name back already exists$"):
            await own.create(BACK)
        with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
            await own.create({"Name": "other", "IPAM": {"Config": [{"Subnet": "10.7.0.128/25"}]}})
        assert [each["Name"] for each in own.list({"label": ["tier=data"]})] == ["back"]
        assert [each["Name"] for each in own.list({"dangling": ["1"]})] == ["back", "ours"]
        one = await own.attach(ONE, network_mode="back", name="one")
        with pytest.raises(Forbidden, match=r'network back has active endpoints .name:"one"'):
            await own.remove("back")
        assert await own.prune({"label": ["tier"]}) == []
        assert await own.prune(until_ns=ours.created_ns) == []
        assert await own.prune() == ["ours"]
        await own.detach(ONE)
        assert (await own.remove(back.id[:12])).name == "back"
        with pytest.raises(NotFound, match="network back not found"):
            await own.attach(TWO, network_mode="back")
        await own.settled()
        assert {each for each in link_names() if not each.startswith("veth")} == before
        assert not os.path.exists(path_of(one))


@private_network
async def test_an_internal_network_has_no_way_out(tmp_path: Path) -> None:
    with remote_machine("up0") as remote:
        async with networks(tmp_path) as own:
            await own.create(BACK | {"Internal": True})
            one = await own.attach(ONE, network_mode="back", ports=WEB)
            two = await own.attach(TWO, network_mode="back")
            assert one.ports == {} and way_out(path_of(one)) == ""
            async with server(path_of(two), 80), server(remote, 80):
                assert await ask(path_of(one), ip_of(two), 80) == ip_of(one)
                with inside(path_of(one), NetlinkSocket) as netlink:
                    # A container that helps itself to a route.
                    gateway = own._registry.find("back").driver.config.ipv4.ip  # type: ignore[attr-defined]
                    netlink.request(route.new_route(route.default_network(4), gateway=gateway))
                assert not await reaches(path_of(one), "198.51.100.2", 80)


@private_network
async def test_hosts_are_not_mixed_with_networks(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        await own.create(BACK)
        await own.attach(ONE, network_mode="host")
        await own.attach(TWO, network_mode="none")
        await own.attach(THREE, network_mode="back")
        with pytest.raises(Forbidden, match="cannot be connected to any other network"):
            await own.connect(ONE, "back")
        with pytest.raises(Forbidden, match="none"):
            await own.connect(TWO, "back")
        with pytest.raises(Forbidden, match="host network"):
            await own.connect(THREE, "host")
        with pytest.raises(NotFound):
            await own.connect(identity(9), "back")


@private_network
async def test_custom_networks_and_their_names_survive_a_daemon(tmp_path: Path) -> None:
    first = await Networks.open(tmp_path / "root", tmp_path / "exec", NetworkSettings())
    await first.create(BACK)
    one = await first.attach(ONE, network_mode="bridge", name="one", ports=WEB)
    await first.connect(ONE, "back")
    two = await first.attach(TWO, network_mode="back", name="two")
    listed = first.list()
    saved = {each.container_id: each.to_json() for each in (one, two)}
    await crash(first)
    async with networks(tmp_path) as second:
        assert second.list() == listed
        for container_id, record in saved.items():
            await second.restore(container_id, record)
        await second.reconcile(set(saved))
        again = second.attachment(ONE)
        assert again is not None and again.to_json() == saved[ONE]
        assert await resolve(again, "two") == found(ip_of(two))
        async with server(path_of(one), 80):
            assert await answers(OWN, "127.0.0.1", 8080)
        await second.disconnect(ONE, "back")
        assert interfaces(path_of(one)) == {"lo": "127.0.0.1", "eth0": "172.17.0.2"}


@private_network
async def test_a_network_that_cannot_be_made_does_not_stop_the_daemon(tmp_path: Path) -> None:
    name = {"com.docker.network.bridge.name": "mine"}
    async with networks(tmp_path) as first:
        await first.create(BACK | {"Options": name})
        with pytest.raises(Conflict, match="already uses bridge mine"):
            await first.create({"Name": "other", "Options": name})
        await first.attach(ONE, network_mode="bridge")
    with NetlinkSocket() as netlink:
        netlink.request(link.new_veth("mine", link.VethPeer("peer")))
        async with networks(tmp_path) as second:
            with pytest.raises(SystemFailure, match="network back cannot be used: interface mine exists"):
                await second.attach(ONE, network_mode="back")
            await second.remove("back")
            await second.attach(ONE, network_mode="bridge")
        assert "mine" in link_names()


@private_network
async def test_a_container_may_serve_names_itself(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        await own.create(BACK)
        one = await own.attach(ONE, network_mode="back", name="one")
        with (
            socket_in(path_of(one), socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket_in(path_of(one), socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind(("0.0.0.0", 53))
            tcp.bind(("0.0.0.0", 53))
            tcp.listen()
            assert await resolve(one, "one") == found(ip_of(one))
