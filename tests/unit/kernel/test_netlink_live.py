"""Netlink with a real kernel, each test in a network namespace of its own."""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import IPv4Interface, ip_address, ip_interface, ip_network

import pytest

from support.private_network import OWN, inside, new_namespace, private_network, socket_in
from windlass.kernel.netlink import address, conntrack, link, namespace, neighbour, route
from windlass.kernel.netlink.connection import NETLINK_NETFILTER, Message, NetlinkSocket
from windlass.kernel.nftables import Nftables

pytestmark = pytest.mark.root


@private_network
def test_a_bridge_is_made_found_changed_and_removed() -> None:
    with NetlinkSocket() as netlink:
        netlink.request(link.new_bridge("br0", mac="02:42:00:00:00:01", mtu=1400))
        found = link.read_link(netlink, "br0")
        assert (found.kind, found.mac, found.mtu, found.up) == ("bridge", "02:42:00:00:00:01", 1400, True)
        netlink.request(link.set_link(found.index, up=False, mtu=1300, alias="a switch"))
        netlink.request(link.set_link(found.index, name="br1"))
        found = link.read_link(netlink, "br1")
        assert (found.up, found.mtu, found.alias) == (False, 1300, "a switch")
        assert [each.name for each in link.read_links(netlink, kind="bridge")] == ["br1"]
        netlink.request(link.delete_link("br1"))
        assert [each.name for each in link.read_links(netlink)] == ["lo"]


@private_network
def test_a_veth_peer_stands_in_its_namespace_from_the_first_moment() -> None:
    with NetlinkSocket() as netlink, new_namespace() as other:
        netlink.request(link.new_bridge("br0"))
        bridge = link.read_link(netlink, "br0").index
        peer = link.VethPeer("eth0", other, "02:42:ac:11:00:02")
        netlink.request(link.new_veth("veth0", peer, mtu=1400, master=bridge, group=77))
        near = link.read_link(netlink, "veth0")
        assert (near.kind, near.master, near.group, near.mtu, near.up) == ("veth", bridge, 77, 1400, True)
        assert near.peer_namespace == namespace.read_namespace_id(netlink, other)
        assert [each.name for each in link.read_links(netlink, master=bridge)] == ["veth0"]
        with inside(other, NetlinkSocket) as far_netlink:
            far = link.read_link(far_netlink, "eth0")
            assert (far.mac, far.mtu, far.up, far.index) == ("02:42:ac:11:00:02", 1400, False, near.peer)
        netlink.request(link.set_link("veth0", master=0))
        assert link.read_link(netlink, "veth0").master == 0


@private_network
def test_an_error_names_the_object_and_repeats_the_kernels_words() -> None:
    with NetlinkSocket() as netlink:
        with pytest.raises(OSError, match=r"No such device.*link nowhere") as missing:
            link.read_link(netlink, "nowhere")
        assert missing.value.errno == errno.ENODEV
        netlink.request(link.new_bridge("br0"))
        with pytest.raises(FileExistsError, match="link br0"):
            netlink.request(link.new_bridge("br0"))
        wrong = link.new_vxlan("vx0", 1 << 24, port=4789)
        with pytest.raises(OSError, match=r"\(.+\).*link vx0"):
            netlink.request(wrong)


@private_network
def test_a_batch_goes_on_after_an_error_and_reports_the_first() -> None:
    with NetlinkSocket() as netlink:
        batch = [link.new_bridge("br0"), link.delete_link("no1"), link.new_bridge("br1"), link.delete_link("no2")]
        with pytest.raises(OSError, match="no1"):
            netlink.request(*batch)
        assert {each.name for each in link.read_links(netlink)} == {"lo", "br0", "br1"}
        outcome = netlink.attempt(link.delete_link("br0"), link.delete_link("no1"), link.delete_link("br1"))
        assert [error.errno if error else None for error in outcome] == [None, errno.ENODEV, None]


@private_network
def test_a_batch_may_be_larger_than_one_send() -> None:
    with NetlinkSocket() as netlink:
        netlink.request(link.new_bridge("br0"))
        index = link.read_link(netlink, "br0").index
        wanted = [IPv4Interface((f"10.{i // 250}.{i % 250}.1", 32)) for i in range(2000)]
        netlink.request(*(address.new_address(index, each) for each in wanted))
        assert {each.interface for each in address.read_addresses(netlink, index=index, family=socket.AF_INET)} == {
            *wanted
        }


@private_network
def test_a_thousand_questions_in_a_batch_are_all_answered() -> None:
    with NetlinkSocket() as netlink:
        replies = netlink.request(*(link.get_link("lo") for _ in range(1000)))
        assert {link.parse_link(each).name for each in replies} == {"lo"} and len(replies) == 1000
        outcome = netlink.attempt(*(link.get_link("nothing") for _ in range(1000)))
        assert {error.errno for error in outcome if error} == {errno.ENODEV} and None not in outcome


@private_network
def test_a_link_group_is_removed_at_once() -> None:
    with NetlinkSocket() as netlink:
        netlink.request(*(link.new_veth(f"v{i}", link.VethPeer(f"p{i}"), group=5) for i in range(4)))
        netlink.request(link.new_bridge("stays"))
        netlink.request(link.delete_link_group(5))
        assert {each.name for each in link.read_links(netlink)} == {"lo", "stays"}


@private_network
def test_addresses_and_routes() -> None:
    with NetlinkSocket() as netlink:
        netlink.request(link.new_bridge("br0"))
        index = link.read_link(netlink, "br0").index
        v4, v6 = ip_interface("10.1.0.1/24"), ip_interface("fd00::1/64")
        netlink.request(address.new_address(index, v4), address.new_address(index, v6))
        netlink.request(address.new_address(index, v4))  # again: no error
        found = {each.interface: each for each in address.read_addresses(netlink, index=index)}
        assert {v4, v6} <= set(found)
        assert found[v6].flags & address.IFA_F_NODAD
        gateway, target = ip_address("10.1.0.9"), ip_network("10.2.0.0/16")
        netlink.request(route.new_route(target, gateway=gateway))
        netlink.request(route.new_route(route.default_network(4), gateway=gateway, priority=5))
        netlink.request(route.new_route(ip_network("10.3.0.0/16"), index=index, source=v4.ip, table=1000))
        with pytest.raises(FileExistsError, match=r"route to 10\.2\.0\.0/16"):
            netlink.request(route.new_route(target, gateway=gateway))
        netlink.request(route.new_route(target, gateway=ip_address("10.1.0.8"), replace=True))
        main = {each.destination: each for each in route.read_routes(netlink, socket.AF_INET, table=254)}
        assert set(main) == {v4.network, target, route.default_network(4)}
        assert str(main[target].gateway) == "10.1.0.8"
        assert main[route.default_network(4)].priority == 5
        [special] = route.read_routes(netlink, socket.AF_INET, table=1000)
        assert (special.destination, special.index) == (ip_network("10.3.0.0/16"), index)
        assert route.read_routes(netlink, socket.AF_INET, table=4321) == []
        netlink.request(route.delete_route(target), address.delete_address(index, v4))
        assert not route.read_routes(netlink, socket.AF_INET, index=index, table=254)


@private_network
def test_rules() -> None:
    with NetlinkSocket() as netlink:
        rule = route.Rule(socket.AF_INET, ip_network("10.1.0.0/16"), None, 0x99, 1000, 77)
        netlink.request(route.new_rule(rule))
        assert rule in route.read_rules(netlink, socket.AF_INET)
        netlink.request(route.delete_rule(rule))
        assert rule not in route.read_rules(netlink, socket.AF_INET)


@private_network
def test_neighbours_and_stations() -> None:
    with NetlinkSocket() as netlink:
        netlink.request(
            link.new_bridge("br0"),
            link.new_vxlan("vx0", 42, port=4789, learning=False, proxy=True, mtu=1400),
        )
        bridge, tunnel = (link.read_link(netlink, name).index for name in ("br0", "vx0"))
        netlink.request(link.set_link("vx0", master=bridge))
        host, mac = ip_address("10.1.0.7"), "02:42:0a:01:00:07"
        netlink.request(neighbour.new_neighbour(bridge, host, mac))
        found = [each for each in neighbour.read_neighbours(netlink, socket.AF_INET) if each.address == host]
        assert [(each.index, each.mac) for each in found] == [(bridge, mac)]
        remote = ip_address("192.0.2.9")
        netlink.request(neighbour.new_station(tunnel, mac, remote))
        everybody = "00:00:00:00:00:00"
        netlink.request(neighbour.new_station(tunnel, everybody, remote))
        netlink.request(neighbour.new_station(tunnel, everybody, ip_address("192.0.2.10")))
        netlink.request(
            neighbour.delete_station(tunnel, everybody, remote),
            neighbour.delete_station(tunnel, mac, remote),
            neighbour.delete_neighbour(bridge, host),
        )
        assert not [each for each in neighbour.read_neighbours(netlink, socket.AF_INET) if each.address == host]
        with pytest.raises(OSError, match=f"station {mac}"):
            netlink.request(neighbour.delete_station(tunnel, mac, remote))


@private_network
def test_a_macvlan_is_made_in_another_namespace() -> None:
    with NetlinkSocket() as netlink, new_namespace() as other:
        netlink.request(link.new_veth("v0", link.VethPeer("v1")))
        parent = link.read_link(netlink, "v0").index
        netlink.request(link.new_macvlan("eth0", parent, namespace=other, mac="02:00:00:00:00:07"))
        with inside(other, NetlinkSocket) as inner:
            found = link.read_link(inner, "eth0")
            assert (found.kind, found.mac) == ("macvlan", "02:00:00:00:00:07")
        with pytest.raises(ValueError, match="macvlan mode"):
            link.new_macvlan("eth1", parent, mode="nonsense")


@private_network
def test_a_socket_stays_where_it_was_opened() -> None:
    with NetlinkSocket() as netlink, new_namespace() as other:
        with inside(other, NetlinkSocket) as inner:
            inner.request(link.new_bridge("there"))
        assert [each.name for each in link.read_links(netlink)] == ["lo"]
        own = os.open(OWN, os.O_RDONLY)
        try:
            netlink.request(namespace.set_namespace_id(other, 7))
            assert namespace.read_namespace_id(netlink, other) == 7
        finally:
            os.close(own)


@private_network
def test_counters_count() -> None:
    with NetlinkSocket() as netlink, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        before = link.read_link(netlink, "lo").statistics
        sender.sendto(bytes(1000), ("127.0.0.1", 9))
        after = link.read_link(netlink, "lo").statistics
        assert before is not None and after is not None
        assert after.tx_bytes - before.tx_bytes >= 1000


@private_network
def test_a_dump_with_a_filter_that_makes_no_sense_is_an_error() -> None:
    with NetlinkSocket() as netlink, pytest.raises(OSError, match="links"):
        netlink.dump(Message(link.RTM_GETLINK, 0, bytes([0, 0, 9, 0]) + bytes(12), "links"))


@private_network
def test_an_unknown_connection_is_forgotten_and_others_stay() -> None:
    with NetlinkSocket(NETLINK_NETFILTER) as netlink, Nftables() as nftables:
        # Connections are tracked from the first rule that asks about them.
        nftables.run(
            "table ip t {\nchain c {\ntype filter hook output priority 0\nct state new accept\n}\n}", about="test"
        )
        with socket_in(OWN, socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"x", ("127.0.0.1", 5001))
            one.sendto(b"x", ("127.0.0.1", 5002))
        found = conntrack.read_connections(netlink, socket.AF_INET)
        assert {each.original.destination_port for each in found} == {5001, 5002}
        wanted = conntrack.Tuple(protocol=17, destination_port=5001)
        assert conntrack.forget(netlink, original=wanted) == 1
        assert conntrack.forget(netlink, original=wanted) == 0
        left = conntrack.read_connections(netlink, socket.AF_INET, reply=conntrack.Tuple(protocol=17, source_port=5002))
        assert [each.original.destination_port for each in left] == [5002]
        assert str(left[0].original.destination) == "127.0.0.1"
        loopback = conntrack.Tuple(source=ip_address("127.0.0.1"))
        assert conntrack.read_connections(netlink, socket.AF_INET, reply=loopback) == left
        other = conntrack.Tuple(source=ip_address("127.0.0.2"))
        assert conntrack.read_connections(netlink, socket.AF_INET, reply=other) == []
        with pytest.raises(ValueError, match="protocol"):
            conntrack.read_connections(netlink, socket.AF_INET, reply=conntrack.Tuple(source_port=5002))
        with pytest.raises(ValueError, match="everything"):
            conntrack.forget(netlink)
