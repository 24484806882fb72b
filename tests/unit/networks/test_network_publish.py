"""Published ports: who reaches them, who does not, and who may have them."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from support.network_world import (
    QUIET,
    answers,
    ask,
    ask_udp,
    eventually,
    identity,
    ip_of,
    link_names,
    networks,
    path_of,
    reaches,
    remote_machine,
    server,
    udp_client,
)
from support.private_network import OWN, inside, private_network, socket_in
from windlass.errors import SystemFailure
from windlass.kernel.netlink import link, route
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.kernel.nftables import Nftables

pytestmark = pytest.mark.root

ONE, TWO = identity(1), identity(2)
WEB = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}


@pytest.mark.parametrize("br_netfilter", ["0", "1"])
@private_network
async def test_a_published_port_is_reached_from_everywhere(tmp_path: Path, br_netfilter: str) -> None:
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if switch.exists():
        switch.write_text(br_netfilter)
    elif br_netfilter == "1":
        pytest.skip("this kernel has no br_netfilter")
    with remote_machine("up0") as remote:
        async with networks(tmp_path) as own:
            one = await own.attach(ONE, network_mode="bridge", ports=WEB, exposed=["80/tcp", "443/tcp"])
            two = await own.attach(TWO, network_mode="bridge")
            assert one.ports == {
                "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
                "443/tcp": None,
            }
            async with server(path_of(one), 80):
                # Who comes from outside is seen with his own address.
                assert await ask(remote, "198.51.100.1", 8080) == "198.51.100.2"
                assert await ask(OWN, "127.0.0.1", 8080) == "172.17.0.1"
                assert await ask(OWN, "127.5.5.5", 8080) == "172.17.0.1"
                assert await ask(OWN, "198.51.100.1", 8080) == "198.51.100.1"
                assert await ask(OWN, "172.17.0.1", 8080) == "172.17.0.1"
                assert await ask(path_of(two), "172.17.0.1", 8080) == "172.17.0.1"
                assert await ask(path_of(two), "198.51.100.1", 8080) == "172.17.0.1"
                # Hairpin: the container itself, by the host's address.
                assert await ask(path_of(one), "198.51.100.1", 8080) == "172.17.0.1"
                # IPv6 loopback has no way through the kernel: relayed.
                assert await ask(OWN, "::1", 8080) == "172.17.0.1"
                # The container's own address and port stay closed to the outside.
                assert not await reaches(remote, ip_of(one), 80)
                await own.detach(ONE)
                for host in ("127.0.0.1", "198.51.100.1", "::1"):
                    assert not await reaches(OWN, host, 8080)


@private_network
async def test_a_port_on_a_loopback_address_stays_on_this_machine(tmp_path: Path) -> None:
    with remote_machine("up0") as remote:
        async with networks(tmp_path) as own:
            ports = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
            one = await own.attach(ONE, network_mode="bridge", ports=ports)
            async with server(path_of(one), 80):
                assert await answers(OWN, "127.0.0.1", 8080)
                assert not await reaches(OWN, "127.0.0.2", 8080)
                assert not await reaches(remote, "198.51.100.1", 8080)
                # A remote machine that sends to 127.0.0.1 over the cable.
                with inside(remote, NetlinkSocket) as netlink:
                    index = link.read_link(netlink, "eth0").index
                    rule = route.Rule(socket.AF_INET, None, None, 0, 254, 1)
                    local = [each for each in route.read_rules(netlink, socket.AF_INET) if each.priority == 0]
                    netlink.request(
                        route.new_rule(rule),
                        route.new_route(
                            route.default_network(4).__class__("127.0.0.1/32"),
                            gateway=route.default_network(4).network_address.__class__("198.51.100.1"),
                            index=index,
                        ),
                        *(route.delete_rule(each) for each in local),
                    )
                    inside(remote, _write, "/proc/sys/net/ipv4/conf/all/route_localnet", "1")
                    with Nftables() as nftables, _count(nftables, 8080) as arrived:
                        assert not await reaches(remote, "127.0.0.1", 8080)
                        assert arrived() > 0  # it did come over the cable


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


class _count:
    """Counts TCP packets to a port that come in by the cable."""

    def __init__(self, nftables: Nftables, port: int) -> None:
        self._nftables, self._port = nftables, port

    def __enter__(self) -> _count:
        self._nftables.run(
            "add table ip seen\n"
            "add chain ip seen c { type filter hook prerouting priority -500; }\n"
            f"add rule ip seen c iifname up0 tcp dport {self._port} counter\n",
            about="test",
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._nftables.run("delete table ip seen", about="test")

    def __call__(self) -> int:
        [rule] = [each["rule"] for each in self._nftables.list_table("ip", "seen") if "rule" in each]
        return next(int(each["counter"]["packets"]) for each in rule["expr"] if "counter" in each)


def _udp_frame(source_mac: str, target_mac: str, source: str, target: str, port: int) -> bytes:
    """An Ethernet frame with a UDP datagram, made by hand as a hostile container would."""
    payload = struct.pack("!HHHH", 4444, port, 8 + 4, 0) + b"evil"
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target)
    )
    total = sum(struct.unpack("!10H", header))
    total = (total >> 16) + (total & 0xFFFF)
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    return link.parse_mac(target_mac) + link.parse_mac(source_mac) + b"\x08\x00" + header + payload


@private_network
async def test_a_container_neither_reaches_nor_claims_the_hosts_loopback(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        one = await own.attach(ONE, network_mode="bridge")
        bridge = own.inspect("bridge")["Options"]["com.docker.network.bridge.name"]
        with NetlinkSocket() as netlink:
            host_mac = link.read_link(netlink, bridge).mac
        own_mac = one.endpoints["bridge"].plug.mac
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service,
            socket_in(path_of(one), socket.AF_PACKET, socket.SOCK_RAW) as raw,
            Nftables() as nftables,
        ):
            service.bind(("127.0.0.1", 5353))
            service.setblocking(False)
            raw.bind(("eth0", 0))
            loop = asyncio.get_running_loop()

            async def arrives(source: str) -> bool:
                raw.send(_udp_frame(own_mac, host_mac, source, "127.0.0.1", 5353))
                try:
                    async with asyncio.timeout(QUIET):
                        return await loop.sock_recv(service, 100) == b"evil"
                except TimeoutError:
                    return False

            assert not await arrives(ip_of(one))
            assert not await arrives("127.0.0.1")
            # The check can fail: without our rules the kernel would let it in, because of route_localnet.
            nftables.run(f"delete table ip {own._names.table}", about="test")
            assert await arrives(ip_of(one))


@private_network
async def test_ports_are_told_apart_by_host_address_and_protocol(tmp_path: Path) -> None:
    with remote_machine("up0") as remote:
        async with networks(tmp_path) as own:
            one = await own.attach(
                ONE,
                network_mode="bridge",
                ports={
                    "80/tcp": [
                        {"HostIp": "127.0.0.1", "HostPort": "8080"},
                        {"HostIp": "198.51.100.1", "HostPort": "8080"},
                    ],
                    "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
                },
            )
            two = await own.attach(
                TWO, network_mode="bridge", ports={"80/tcp": [{"HostIp": "127.0.0.2", "HostPort": "8080"}]}
            )
            async with server(path_of(one), 80), server(path_of(one), 53, udp=True):
                assert await answers(OWN, "127.0.0.1", 8080)
                assert await answers(remote, "198.51.100.1", 8080)
                assert not await reaches(OWN, "127.0.0.2", 8080)
                with udp_client() as client, udp_client(remote) as far:
                    assert await ask_udp(client, "127.0.0.1", 8080) == "172.17.0.1"
                    assert await ask_udp(far, "198.51.100.1", 8080) == "198.51.100.2"
                async with server(path_of(two), 80):
                    assert await answers(OWN, "127.0.0.2", 8080)


@private_network
async def test_udp_clients_find_a_service_that_comes_later_and_one_that_moves(tmp_path: Path) -> None:
    with remote_machine("up0") as remote:
        async with networks(tmp_path, warm_sandboxes=0) as own:
            ports = {"53/udp": [{"HostIp": "0.0.0.0", "HostPort": "5300"}]}
            with udp_client(remote) as client:
                client.bind(("198.51.100.2", 4000))
                with pytest.raises(TimeoutError):
                    await ask_udp(client, "198.51.100.1", 5300, patience=QUIET)
                one = await own.attach(ONE, network_mode="bridge", ports=ports)
                async with server(path_of(one), 53, udp=True):
                    assert await ask_udp(client, "198.51.100.1", 5300) == "198.51.100.2"
                await own.detach(ONE)
                two = await own.attach(TWO, network_mode="bridge", ports=ports)
                async with server(path_of(two), 53, udp=True):
                    # The same flow, which the kernel knew as one to a container that has gone.
                    assert await ask_udp(client, "198.51.100.1", 5300) == "198.51.100.2"


@private_network
async def test_a_port_is_had_once(tmp_path: Path) -> None:
    async with networks(tmp_path, warm_sandboxes=0) as own:
        await own.attach(ONE, network_mode="bridge", name="one", ports=WEB)
        before = link_names()
        for host in ("", "0.0.0.0", "127.0.0.1"):
            ports = {"80/tcp": [{"HostIp": host, "HostPort": "8080"}]}
            with pytest.raises(SystemFailure) as refused:
                await own.attach(TWO, network_mode="bridge", name="two", ports=ports)
            message = str(refused.value)
            assert message.startswith("driver failed programming external connectivity on endpoint two (")
            assert message.endswith(f"): Bind for {host or '0.0.0.0'}:8080 failed: port is already allocated")
        assert own.attachment(TWO) is None
        await own.settled()
        assert link_names() == before
        ports = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080-8082"}]}
        two = await own.attach(TWO, network_mode="bridge", ports=ports)
        assert two.ports == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8081"}]}
        await own.detach(ONE)
        await own.attach(ONE, network_mode="bridge", ports=WEB)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@private_network
async def test_a_port_of_another_program_is_refused(tmp_path: Path, kind: str) -> None:
    async with networks(tmp_path) as own:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", 8080))
            if kind == "tcp":
                other.listen()
            ports = {f"80/{kind}": [{"HostPort": "8080"}]}
            with pytest.raises(
                SystemFailure,
                match=rf"failed to bind host port for 0\.0\.0\.0:8080:172\.17\.0\.2:80/{kind}: address already in use$",
            ):
                await own.attach(ONE, network_mode="bridge", ports=ports)
            ports = {f"80/{kind}": [{"HostPort": "8080-8081"}]}
            one = await own.attach(ONE, network_mode="bridge", ports=ports)
            assert one.mappings[0].host_port == 8081
        # And the other way round: what is published is taken for other programs.
        late = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        with late, pytest.raises(OSError, match="in use"):
            late.bind(("0.0.0.0", 8081))


@private_network
async def test_a_host_address_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        ports = {"80/tcp": [{"HostIp": "192.0.2.77", "HostPort": "8080"}]}
        with pytest.raises(SystemFailure, match="cannot assign requested address"):
            await own.attach(ONE, network_mode="bridge", ports=ports)


@private_network
async def test_free_ports_are_found(tmp_path: Path) -> None:
    _write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003")
    async with networks(tmp_path, userland_proxy=False) as own:
        ports = {"80/tcp": [{"HostIp": "", "HostPort": ""}], "81/tcp": [{"HostIp": "", "HostPort": "0"}]}
        with socket.socket() as other:
            other.bind(("0.0.0.0", 40001))
            other.listen()
            one = await own.attach(ONE, network_mode="bridge", ports=ports)
        assert {each.host_port for each in one.mappings} == {40000, 40002}
        assert {str(each.host_address) for each in one.mappings} == {"0.0.0.0"}
        two = await own.attach(TWO, network_mode="bridge", ports=ports)
        assert {each.host_port for each in two.mappings} == {40003, 40001}
        with pytest.raises(SystemFailure, match="all ports are allocated"):
            await own.attach(identity(3), network_mode="bridge", ports={"80/tcp": [{}]})


@private_network
async def test_ipv6_is_translated_where_the_container_has_it(tmp_path: Path) -> None:
    async with networks(tmp_path, enable_ipv6=True, bip6="fd00:7::1/64") as own:
        one = await own.attach(ONE, network_mode="bridge", ports=WEB)
        async with server(path_of(one), 80, host="::"):
            assert await ask(OWN, "fd00:7::1", 8080) == "fd00:7::1"
            assert await ask(OWN, "::1", 8080) == "fd00:7::1"  # relayed
            assert await ask(OWN, "127.0.0.1", 8080) == "::ffff:172.17.0.1"
            elements = [each["map"] for each in Nftables().list_table("ip6", own._names.table) if "map" in each]
            assert any(each.get("elem") for each in elements if each["name"] == "published-anywhere")


@private_network
async def test_udp_over_ipv6_loopback_is_relayed(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        one = await own.attach(ONE, network_mode="bridge", ports={"53/udp": [{"HostPort": "5300"}]})
        async with server(path_of(one), 53, udp=True):
            with udp_client(family=socket.AF_INET6) as client:
                assert await ask_udp(client, "::1", 5300) == "172.17.0.1"
                assert await ask_udp(client, "::1", 5300) == "172.17.0.1"


@private_network
async def test_a_flushed_table_is_made_anew_with_the_next_change(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        one = await own.attach(ONE, network_mode="bridge", ports=WEB)
        with Nftables() as nftables:
            nftables.run("flush ruleset", about="test")
            await own.attach(TWO, network_mode="bridge", ports={"80/tcp": [{"HostPort": "8081"}]})
            async with server(path_of(one), 80):
                assert await answers(OWN, "127.0.0.1", 8080)
            nftables.run("flush ruleset", about="test")
            await own.detach(TWO)
            async with server(path_of(one), 80):
                assert await answers(OWN, "127.0.0.1", 8080)


def _foreign_filter(nftables: Nftables, *, docker_user: bool) -> None:
    """What dockerd or ufw leaves behind with iptables-nft."""
    script = (
        "add table ip filter\nadd chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }\n"
    )
    if docker_user:
        script += "add chain ip filter DOCKER-USER\nadd rule ip filter FORWARD counter jump DOCKER-USER\n"
    nftables.run(script, about="test")


@pytest.mark.parametrize("docker_user", [False, True])
@private_network
async def test_a_host_that_drops_what_is_forwarded_lets_containers_through(tmp_path: Path, docker_user: bool) -> None:
    with remote_machine("up0") as remote, remote_machine("up1", "203.0.113.0/24") as other, Nftables() as nftables:
        _write("/proc/sys/net/ipv4/ip_forward", "1")
        _foreign_filter(nftables, docker_user=docker_user)
        before = len(nftables.list_table("ip", "filter"))
        async with networks(tmp_path) as own, server(remote, 80):
            one = await own.attach(ONE, network_mode="bridge", ports=WEB)
            async with server(path_of(one), 80):
                assert await ask(path_of(one), "198.51.100.2", 80) == "198.51.100.1"
                assert await ask(remote, "198.51.100.1", 8080) == "198.51.100.2"
                assert not await reaches(other, "198.51.100.2", 80)
                await own.reconcile({ONE})
                assert len(nftables.list_table("ip", "filter")) == before + 2
        assert len(nftables.list_table("ip", "filter")) == before


@private_network
async def test_without_iptables_nothing_is_programmed(tmp_path: Path) -> None:
    async with networks(tmp_path, iptables=False) as own:
        await own.attach(ONE, network_mode="bridge", ports=WEB)
        with Nftables() as nftables:
            assert nftables.tables() == []


@private_network
async def test_a_host_that_was_no_router_becomes_none_for_others(tmp_path: Path) -> None:
    def forwarding(value: str) -> None:
        _write("/proc/sys/net/ipv4/ip_forward", value)

    with remote_machine("up0") as left, remote_machine("up1", "203.0.113.0/24") as right:
        forwarding("0")
        async with server(right, 80):
            async with networks(tmp_path) as own:
                one = await own.attach(ONE, network_mode="bridge")
                assert await ask(path_of(one), "203.0.113.2", 80) == "203.0.113.1"
                assert not await reaches(left, "203.0.113.2", 80)
            forwarding("1")
            async with networks(tmp_path / "other") as own:
                await own.attach(ONE, network_mode="bridge")
                assert await ask(left, "203.0.113.2", 80) == "198.51.100.2"


@private_network
async def test_relayed_connections_end_with_their_container(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        one = await own.attach(ONE, network_mode="bridge", ports=WEB)
        async with server(path_of(one), 80):
            reader, writer = await asyncio.open_connection("::1", 8080)
            assert await reader.read() == b"172.17.0.1"
            await own.detach(ONE)
            writer.close()
            await eventually(lambda: asyncio.ensure_future(_refused("::1", 8080)))


async def _refused(host: str, port: int) -> bool:
    return not await reaches(OWN, host, port)
