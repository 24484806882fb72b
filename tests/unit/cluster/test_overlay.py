"""Two and three hosts on a cable, with containers behind them: who reaches whom, as what, and what is left."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from support.network_world import ask, eventually, reaches, server
from support.private_network import inside, new_namespace, private_network, socket_in
from windlass.cluster.overlay import backend, peers
from windlass.cluster.overlay.peers import Peer
from windlass.cluster.overlay.vxlan import LINK
from windlass.kernel.netlink import address, link, neighbour, route
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.kernel.nftables import Nftables
from windlass.networks.sandbox import write_sysctl

pytestmark = pytest.mark.root
RANGE = ipaddress.IPv4Network("10.42.0.0/16")


@dataclass
class Host:
    """A host's namespace, a container's behind it, and the host's way to the others."""

    namespace: int
    container: int
    peer: Peer
    netlink: NetlinkSocket
    nftables: Nftables
    way: backend.Backend

    @property
    def container_address(self) -> str:
        return str(self.peer.network.network_address + 2)

    def meet(self, *others: Host) -> None:
        self.way.apply(self.peer, [each.peer for each in others])


def _set_up_host(container: int, own: ipaddress.IPv4Interface, network: ipaddress.IPv4Network) -> NetlinkSocket:
    netlink = NetlinkSocket()
    index = link.read_link(netlink, "eth0").index
    netlink.request(link.set_link(index, up=True), address.new_address(index, own))
    write_sysctl("net/ipv4/ip_forward", "1")
    gateway = ipaddress.IPv4Interface((network.network_address + 1, network.prefixlen))
    netlink.request(link.new_veth("c0", link.VethPeer("eth0", container)))
    index = link.read_link(netlink, "c0").index
    netlink.request(address.new_address(index, gateway))
    return netlink


def _open_nftables() -> Nftables:
    nftables = Nftables()
    assert nftables.tables() == []  # it belongs to where it is used first
    return nftables


def _set_up_container(own: ipaddress.IPv4Interface) -> None:
    with NetlinkSocket() as netlink:
        index = link.read_link(netlink, "eth0").index
        netlink.request(
            link.set_link(index, up=True),
            address.new_address(index, own),
            route.new_route(route.default_network(4), gateway=own.network.network_address + 1),
        )


@contextmanager
def hosts(name: str, *addresses: str) -> Iterator[list[Host]]:
    """Hosts with these addresses on one bridge, which is the test's own namespace."""
    with ExitStack() as stack:
        here = stack.enter_context(NetlinkSocket())
        here.request(link.new_bridge("lan"))
        lan = link.read_link(here, "lan").index
        found = []
        for number, text in enumerate(addresses):
            namespace, container = (stack.enter_context(new_namespace()) for _ in range(2))
            here.request(link.new_veth(f"h{number}", link.VethPeer("eth0", namespace), master=lan))
            own = ipaddress.IPv4Interface(text)
            network = ipaddress.IPv4Network(f"10.42.{number}.0/24")
            netlink = stack.enter_context(inside(namespace, _set_up_host, container, own, network))
            inside(container, _set_up_container, ipaddress.IPv4Interface((network.network_address + 2, 24)))
            peer = Peer(f"n{number}", own.ip, network)
            nftables = stack.enter_context(inside(namespace, _open_nftables))
            found.append(
                Host(namespace, container, peer, netlink, nftables, backend.make(name, netlink, nftables, [RANGE]))
            )
        yield found


async def _reach(one: Host, other: Host) -> None:
    """Containers and hosts reach containers, which see who it was."""
    async with server(other.container, 80):
        assert await ask(one.container, other.container_address, 80) == one.container_address
        seen = ipaddress.ip_address(await ask(one.namespace, other.container_address, 80))
        assert seen in (one.peer.tunnel_address, one.peer.address)
        await eventually(lambda: len(asyncio.all_tasks()) == 1)  # the server has heard that they are through


@pytest.mark.parametrize("name", ["vxlan", "host-gw"])
@private_network
async def test_containers_of_all_hosts_reach_each_other_untranslated(name: str) -> None:
    with hosts(name, "192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24") as found:
        for each in found:
            each.meet(*(other for other in found if other is not each))
        for one in found:
            for other in found:
                if one is not other:
                    await _reach(one, other)


@pytest.mark.parametrize("name", ["vxlan", "host-gw"])
@private_network
async def test_a_node_that_has_gone_is_forgotten(name: str) -> None:
    with hosts(name, "192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24") as (one, two, three):
        one.meet(two, three)
        two.meet(one)
        three.meet(one)
        await _reach(one, two)
        one.meet(three)
        async with server(two.container, 80):
            assert not await reaches(one.container, two.container_address, 80)
        await _reach(one, three)
        before = route.read_routes(one.netlink, socket.AF_INET, table=route.TABLE_MAIN)
        assert two.peer.network not in {each.destination for each in before}
        # Without anybody else nothing is left, and applying nothing twice is no error.
        one.meet()
        one.meet()
        left = {each.destination for each in route.read_routes(one.netlink, socket.AF_INET, table=route.TABLE_MAIN)}
        assert left == {ipaddress.ip_network("192.0.2.0/24"), one.peer.network}
        assert LINK not in {each.name for each in link.read_links(one.netlink)}
        assert one.nftables.tables() == []


@pytest.mark.parametrize("name", ["vxlan", "host-gw"])
@private_network
async def test_only_vxlan_goes_through_a_router(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with hosts(name, "192.0.2.1/24", "198.51.100.2/24") as (one, two), NetlinkSocket() as here:
        lan = link.read_link(here, "lan").index
        for text in ("192.0.2.254/24", "198.51.100.254/24"):
            here.request(address.new_address(lan, ipaddress.ip_interface(text)))
        write_sysctl("net/ipv4/ip_forward", "1")
        for host, router in ((one, "192.0.2.254"), (two, "198.51.100.254")):
            host.netlink.request(route.new_route(route.default_network(4), gateway=ipaddress.ip_address(router)))
        one.meet(two)
        two.meet(one)
        if name == "vxlan":
            await _reach(one, two)
            return
        assert "n1 (198.51.100.2) is not in 192.0.2.0/24" in caplog.text
        async with server(two.container, 80):
            assert not await reaches(one.container, two.container_address, 80)


@private_network
async def test_what_a_host_sends_from_elsewhere_comes_from_its_tunnel() -> None:
    with hosts("vxlan", "192.0.2.1/24", "192.0.2.2/24") as (one, two):
        one.meet(two)
        two.meet(one)
        async with server(two.container, 80):
            with socket_in(one.namespace, socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.bind((str(one.peer.address), 0))
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(5):
                    await loop.sock_connect(sock, (two.container_address, 80))
                    assert (await loop.sock_recv(sock, 100)).decode() == str(one.peer.tunnel_address)
            await eventually(lambda: len(asyncio.all_tasks()) == 1)


@private_network
async def test_vxlan_repairs_what_somebody_did_and_follows_changes() -> None:
    with hosts("vxlan", "192.0.2.1/24", "192.0.2.2/24") as (one, two):
        one.meet(two)
        two.meet(one)
        index = link.read_link(one.netlink, LINK).index
        assert link.read_link(one.netlink, LINK).mtu == 1450
        stranger = ipaddress.IPv4Address("192.0.2.99")
        one.netlink.request(
            neighbour.delete_station(index, two.peer.tunnel_mac, two.peer.address),
            neighbour.new_station(index, "02:00:00:00:00:01", stranger),
            neighbour.delete_neighbour(index, two.peer.tunnel_address),
            route.delete_route(two.peer.network, index=index, gateway=two.peer.tunnel_address),
        )
        one.meet(two)
        assert link.read_link(one.netlink, LINK).index == index
        await _reach(one, two)
        assert {each.address for each in neighbour.read_stations(one.netlink, index)} == {two.peer.address}
        # The other node comes back with another address, the underlay with smaller packets.
        eth0 = link.read_link(two.netlink, "eth0").index
        two.netlink.request(address.delete_address(eth0, ipaddress.ip_interface("192.0.2.2/24")))
        two.netlink.request(address.new_address(eth0, ipaddress.ip_interface("192.0.2.7/24")))
        two.peer = Peer("n1", ipaddress.IPv4Address("192.0.2.7"), two.peer.network)
        for host in (one, two):
            host.netlink.request(link.set_link("eth0", mtu=1400))
        one.meet(two)
        two.meet(one)
        await _reach(one, two)
        assert {link.read_link(each.netlink, LINK).mtu for each in (one, two)} == {1350}


def test_incomplete_nodes_are_no_peers() -> None:
    assert peers.parse("n", "192.0.2.1", "10.42.3.0/24") is not None
    assert peers.parse("n", "", "10.42.3.0/24") is None
    assert peers.parse("n", "192.0.2.1", "") is None
    assert peers.parse("n", "2001:db8::1", "fd00::/64") is None


@private_network
def test_an_address_that_is_nowhere_is_named() -> None:
    with NetlinkSocket() as netlink, Nftables() as nftables:
        way = backend.make("vxlan", netlink, nftables, [RANGE])
        own, other = (Peer(f"n{n}", ipaddress.IPv4Address(f"192.0.2.{n}"), RANGE) for n in (1, 2))
        with pytest.raises(OSError, match=r"no interface has the node's address: '192\.0\.2\.1'"):
            way.apply(own, [other])
        for name in ("vxlan", "host-gw"):
            backend.make(name, netlink, nftables, [RANGE]).apply(own, [])
    with pytest.raises(ValueError, match="no backend"):
        backend.make("wireguard", netlink, nftables, [])
