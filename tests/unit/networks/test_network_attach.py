"""Containers are connected and disconnected; what they get, and what is left when they have gone."""

from __future__ import annotations

import asyncio
import os
import socket
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from support.network_world import (
    ask,
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
from support.private_network import inside, private_network
from windlass.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure
from windlass.kernel.netlink import address, link, neighbour, route
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.networks import AddressPool, EndpointConfig
from windlass.networks.settings import parse_network

pytestmark = pytest.mark.root

ONE, TWO = identity(1), identity(2)


def interfaces(path: str) -> dict[str, tuple[bool, str, int]]:
    """By name: up, MAC and MTU of the links in a sandbox."""
    with inside(path, NetlinkSocket) as netlink:
        return {each.name: (each.up, each.mac, each.mtu) for each in link.read_links(netlink)}


def addresses(path: str) -> set[str]:
    with inside(path, NetlinkSocket) as netlink:
        return {str(each.interface) for each in address.read_addresses(netlink)}


def default_gateways(path: str, family: int = socket.AF_INET) -> list[str]:
    with inside(path, NetlinkSocket) as netlink:
        routes = route.read_routes(netlink, family, table=254)
    return [str(each.gateway) for each in routes if each.destination.prefixlen == 0 and each.gateway]


@private_network
async def test_a_container_gets_an_interface_an_address_and_a_way_out(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        attachment = await own.attach(ONE, network_mode="bridge", name="web")
        path = path_of(attachment)
        assert interfaces(path) == {
            "lo": (True, "00:00:00:00:00:00", 65536),
            "eth0": (True, "02:42:ac:11:00:02", 1500),
        }
        assert addresses(path) == {"127.0.0.1/8", "::1/128", "172.17.0.2/22"}
        assert default_gateways(path) == ["172.17.0.1"]
        settings = attachment.network_settings()
        assert settings["IPAddress"] == "172.17.0.2" and settings["IPPrefixLen"] == 22
        assert settings["Gateway"] == "172.17.0.1" and settings["SandboxKey"] == path
        endpoint = settings["Networks"]["bridge"]
        assert endpoint["EndpointID"] == settings["EndpointID"] and len(endpoint["EndpointID"]) == 64
        assert own.inspect("bridge")["Containers"] == {
            ONE: {
                "Name": "web",
                "EndpointID": endpoint["EndpointID"],
                "MacAddress": "02:42:ac:11:00:02",
                "IPv4Address": "172.17.0.2/22",
                "IPv6Address": "",
            }
        }
        await own.rename(ONE, "shop")
        assert own.inspect("bridge")["Containers"][ONE]["Name"] == "shop"


@private_network
async def test_nothing_is_left_of_a_container_that_ended(tmp_path: Path) -> None:
    async with networks(tmp_path, warm_sandboxes=0) as own:
        before = link_names()
        attachment = await own.attach(ONE, network_mode="bridge", ports={"80/tcp": [{"HostPort": "8080"}]})
        path = path_of(attachment)
        assert len(link_names() - before) == 1 and os.path.exists(path)
        await own.detach(ONE)
        await own.settled()
        assert link_names() == before and not os.listdir(tmp_path / "exec" / "netns")
        with open("/proc/self/mountinfo") as mounts:
            assert path not in mounts.read()
        assert own.inspect("bridge")["Containers"] == {}
        again = await own.attach(TWO, network_mode="bridge", ports={"80/tcp": [{"HostPort": "8080"}]})
        assert ip_of(again) == ip_of(attachment)
        await own.detach(ONE)  # again: no error


@private_network
async def test_closing_with_no_container_leaves_no_trace(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        await own.attach(ONE, network_mode="bridge")
        await own.detach(ONE)
        await own.close()
        assert link_names() == {"lo"}
        assert not os.listdir(tmp_path / "exec" / "netns")


@private_network
async def test_many_at_once_have_addresses_of_their_own(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        made = await asyncio.gather(*(own.attach(identity(n), network_mode="bridge") for n in range(40)))
        assert len({ip_of(each) for each in made}) == len({path_of(each) for each in made}) == 40
        assert len(own.inspect("bridge")["Containers"]) == 40
        for each in made[:3]:
            assert f"{ip_of(each)}/22" in addresses(path_of(each))
        await asyncio.gather(*(own.detach(identity(n)) for n in range(40)))
        await own.settled()
        assert own.inspect("bridge")["Containers"] == {}


@private_network
async def test_containers_reach_each_other_the_host_and_the_world(tmp_path: Path) -> None:
    with remote_machine("up0") as remote:
        async with networks(tmp_path) as own:
            one, two = [await own.attach(each, network_mode="bridge") for each in (ONE, TWO)]
            async with server(path_of(one), 80), server(remote, 80), server("/proc/thread-self/ns/net", 80):
                assert await ask(path_of(two), ip_of(one), 80) == ip_of(two)
                assert await ask(path_of(two), "172.17.0.1", 80) == ip_of(two)
                # Out there nobody knows containers: they come with the host's address.
                assert await ask(path_of(two), "198.51.100.2", 80) == "198.51.100.1"
                # An unpublished port is nobody's business outside, even with a route to it.
                assert not await reaches(remote, ip_of(one), 80)


@private_network
async def test_without_masquerade_containers_keep_their_address(tmp_path: Path) -> None:
    with remote_machine("up0") as remote:
        async with networks(tmp_path, ip_masq=False) as own:
            one = await own.attach(ONE, network_mode="bridge")
            async with server(remote, 80):
                assert await ask(path_of(one), "198.51.100.2", 80) == ip_of(one)


@private_network
async def test_without_icc_containers_do_not_reach_each_other(tmp_path: Path) -> None:
    async with networks(tmp_path, icc=False) as own:
        one = await own.attach(ONE, network_mode="bridge", ports={"80/tcp": [{"HostPort": "8080"}]})
        two = await own.attach(TWO, network_mode="bridge")
        async with server(path_of(one), 80), server(path_of(one), 81):
            assert not await reaches(path_of(two), ip_of(one), 80)
            assert not await reaches(path_of(two), "172.17.0.1", 8080)
            with inside(path_of(two), NetlinkSocket) as netlink:
                index = link.read_link(netlink, "eth0").index
                with NetlinkSocket() as host:
                    mac = link.read_link(host, own.inspect("bridge")["Options"]["com.docker.network.bridge.name"]).mac
                # A clever container sends its neighbour's packets to the host for forwarding.
                netlink.request(neighbour.new_neighbour(index, ip_address(ip_of(one)), mac))
            assert not await reaches(path_of(two), ip_of(one), 81)
            assert await ask("/proc/thread-self/ns/net", ip_of(one), 81) == "172.17.0.1"


@private_network
async def test_modes_without_a_network_of_their_own(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        none = await own.attach(ONE, network_mode="none", ports={"80/tcp": [{}]})
        assert set(interfaces(path_of(none))) == {"lo"} and none.mappings == ()
        assert list(none.network_settings()["Networks"]) == ["none"]
        host = await own.attach(TWO, network_mode="host", ports={"80/tcp": [{}]})
        assert host.netns_path is None and list(host.endpoints) == ["host"] and host.mappings == ()
        shared = await own.attach(identity(3), network_mode=f"container:{ONE}", shared_path=none.netns_path)
        assert shared.netns_path == none.netns_path and not shared.endpoints
        assert shared.network_settings()["SandboxKey"] == ""
        await own.detach(identity(3))
        assert os.path.exists(path_of(none))  # it is not its owner
        assert set(own.inspect("none")["Containers"]) == {ONE} and set(own.inspect("host")["Containers"]) == {TWO}


@private_network
async def test_a_wish_for_a_mac_is_granted_and_for_an_address_refused(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        config = EndpointConfig.from_api({"MacAddress": "02:00:00:aa:bb:cc"})
        attachment = await own.attach(ONE, network_mode="bridge", config=config)
        assert interfaces(path_of(attachment))["eth0"][1] == "02:00:00:aa:bb:cc"
        refused = {
            "user specified IP address is supported on user defined networks only": {
                "IPAMConfig": {"IPv4Address": "172.17.0.9"}
            },
            "network-scoped aliases are only supported for user-defined networks": {"Aliases": ["db"]},
            "invalid MAC address": {"MacAddress": "01:00:00:aa:bb:cc"},
        }
        for message, wish in refused.items():
            with pytest.raises(InvalidParameter, match=message):
                await own.attach(TWO, network_mode="bridge", config=EndpointConfig.from_api(wish))
        with pytest.raises(NotFound, match="network nowhere not found"):
            await own.attach(TWO, network_mode="nowhere")
        with pytest.raises(Conflict, match="attached already"):
            await own.attach(ONE, network_mode="bridge")
        assert set(own.inspect("bridge")["Containers"]) == {ONE}


@private_network
async def test_a_cancelled_attach_leaves_nothing_and_a_cancelled_detach_ends(tmp_path: Path) -> None:
    async with networks(tmp_path, warm_sandboxes=0) as own:
        before = link_names()
        for pause in (0.0, 0.0005, 0.001, 0.002, 0.004):
            task = asyncio.create_task(own.attach(ONE, network_mode="bridge", ports={"80/tcp": [{"HostPort": "8080"}]}))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                await own.detach(ONE)
            assert own.attachment(ONE) is None
            await own.settled()
            assert link_names() == before and not os.listdir(tmp_path / "exec" / "netns")
        await own.attach(ONE, network_mode="bridge", ports={"80/tcp": [{"HostPort": "8080"}]})
        task = asyncio.create_task(own.detach(ONE))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await own.settled()
        assert link_names() == before and not os.listdir(tmp_path / "exec" / "netns")


@private_network
async def test_the_last_address_is_the_last(tmp_path: Path) -> None:
    async with networks(tmp_path, bip="10.7.0.1/29") as own:
        made = [await own.attach(identity(n), network_mode="bridge") for n in range(5)]
        assert [ip_of(each) for each in made] == [f"10.7.0.{n}" for n in range(2, 7)]
        before = link_names()
        with pytest.raises(SystemFailure, match="no available IPv4 addresses on this network's address pools: bridge"):
            await own.attach(identity(9), network_mode="bridge")
        assert link_names() == before and len(os.listdir(tmp_path / "exec" / "netns")) == 5
        await own.detach(identity(1))
        await own.settled()
        assert ip_of(await own.attach(identity(9), network_mode="bridge")) == "10.7.0.3"


@private_network
async def test_an_address_is_free_only_when_its_link_has_gone(tmp_path: Path) -> None:
    async with networks(tmp_path, warm_sandboxes=0) as own:
        first = await own.attach(ONE, network_mode="bridge")
        # Somebody else holds the namespace, so it outlives the container: the link must go all the same.
        with udp_client(path_of(first)) as held:
            await own.detach(ONE)
            second = await own.attach(TWO, network_mode="bridge")
            assert ip_of(second) != ip_of(first)
            await own.settled()
            third = await own.attach(identity(3), network_mode="bridge")
            assert ip_of(third) == ip_of(first)
            with pytest.raises(OSError, match="unreachable"):
                held.sendto(b"x", ("172.17.0.1", 9))


@private_network
async def test_statistics_are_the_containers_own_view(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        one = await own.attach(ONE, network_mode="bridge")
        before = (await own.statistics(ONE))["eth0"]
        with udp_client(path_of(one)) as sender:
            for _ in range(10):
                sender.sendto(bytes(1000), ("172.17.0.1", 9))
        after = (await own.statistics(ONE))["eth0"]
        assert after["tx_packets"] - before["tx_packets"] >= 10
        assert after["tx_bytes"] - before["tx_bytes"] >= 10_000
        assert set(after) == {
            f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")
        }
        assert await own.statistics(TWO) == {}


@private_network
async def test_ipv6_on_the_default_bridge(tmp_path: Path) -> None:
    async with networks(tmp_path, enable_ipv6=True, fixed_cidr_v6="fd00:7::/64") as own:
        one, two = [await own.attach(each, network_mode="bridge") for each in (ONE, TWO)]
        assert "fd00:7::2/64" in addresses(path_of(one))
        assert default_gateways(path_of(one), socket.AF_INET6) == ["fd00:7::1"]
        settings = one.network_settings()
        assert (settings["GlobalIPv6Address"], settings["IPv6Gateway"]) == ("fd00:7::2", "fd00:7::1")
        async with server(path_of(one), 80, host="::"):
            assert await ask(path_of(two), "fd00:7::2", 80) == "fd00:7::3"
        configs = own.inspect("bridge")["IPAM"]["Config"]
        assert configs[1] == {"Subnet": "fd00:7::/64", "IPRange": "fd00:7::/64", "Gateway": "fd00:7::1"}


@private_network
async def test_without_ipv6_a_container_has_only_its_own_loopback(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        one = await own.attach(ONE, network_mode="bridge")
        assert [each for each in addresses(path_of(one)) if ":" in each] == ["::1/128"]


@private_network
async def test_flags_shape_the_default_bridge(tmp_path: Path) -> None:
    async with networks(
        tmp_path, bip="10.7.0.1/16", fixed_cidr="10.7.3.0/24", mtu=1400, default_gateway="10.7.0.254"
    ) as own:
        one = await own.attach(ONE, network_mode="default")
        assert ip_of(one) == "10.7.3.0" and default_gateways(path_of(one)) == ["10.7.0.254"]
        assert interfaces(path_of(one))["eth0"][2] == 1400
        [config] = own.inspect("bridge")["IPAM"]["Config"]
        assert config == {"Subnet": "10.7.0.0/16", "IPRange": "10.7.3.0/24", "Gateway": "10.7.0.1"}
        assert own.inspect("bridge")["Options"]["com.docker.network.driver.mtu"] == "1400"


@pytest.mark.parametrize(
    "flags",
    [
        {"bip": "10.7.0.1"},
        {"bip": "10.7.0.0/24"},
        {"bip": "fd00::1/64"},
        {"bip": "10.7.0.1/24", "fixed_cidr": "10.8.0.0/24"},
        {"default_gateway": "192.0.2.1"},
        {"ip": "everywhere"},
        {"bridge_name": "a name"},
    ],
)
@private_network
async def test_flags_that_make_no_sense_are_refused_and_leave_nothing(tmp_path: Path, flags: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter):
        async with networks(tmp_path, **flags):
            pass
    assert link_names() == {"lo"}


@private_network
async def test_the_subnet_comes_from_the_given_pools_and_avoids_the_hosts_routes(tmp_path: Path) -> None:
    pools = (AddressPool(parse_network("198.51.100.0/23", "pool"), 24),)
    with remote_machine("up0"):
        async with networks(tmp_path, default_address_pools=pools) as own:
            [config] = own.inspect("bridge")["IPAM"]["Config"]
            assert config == {"Subnet": "198.51.101.0/24", "Gateway": "198.51.101.1"}
        full = (AddressPool(parse_network("198.51.100.0/24", "pool"), 25),)
        with pytest.raises(SystemFailure, match=r"fully subnetted.*198\.51\.100\.0/24"):
            async with networks(tmp_path / "other", default_address_pools=full):
                pass


@private_network
async def test_a_bridge_of_somebody_else_is_used_and_left(tmp_path: Path) -> None:
    with NetlinkSocket() as netlink:
        with pytest.raises(SystemFailure, match="bridge device with non default name br9 must be created manually"):
            async with networks(tmp_path, bridge="br9", bip="10.9.0.1/24"):
                pass
        netlink.request(link.new_bridge("br9"))
        index = link.read_link(netlink, "br9").index
        netlink.request(address.new_address(index, ip_interface("10.9.0.1/24")))
        async with networks(tmp_path, bridge="br9") as own:
            one = await own.attach(ONE, network_mode="bridge")
            assert ip_of(one) == "10.9.0.2"
            assert len(link.read_links(netlink, master=index)) >= 1
        assert link_names() == {"lo", "br9"}
        netlink.request(link.new_veth("v0", link.VethPeer("v1")))
        with pytest.raises(SystemFailure, match=r"v0 exists and is not a bridge|bridge v0 has no IPv4 address"):
            async with networks(tmp_path / "other", bridge="v0"):
                pass


@private_network
async def test_without_a_default_bridge_containers_have_no_network(tmp_path: Path) -> None:
    async with networks(tmp_path, bridge="none") as own:
        one = await own.attach(ONE, network_mode="default")
        assert set(interfaces(path_of(one))) == {"lo"}
        assert [each["Name"] for each in own.list()] == ["host", "none"]
        assert own.host_gateway() == ()


@private_network
async def test_predefined_networks_are_listed_found_and_never_removed(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        assert [(each["Name"], each["Driver"]) for each in own.list()] == [
            ("bridge", "bridge"),
            ("host", "host"),
            ("none", "null"),
        ]
        for name in ("bridge", "host", "none"):
            found = own.inspect(name)
            assert own.inspect(found["Id"]) == own.inspect(found["Id"][:12]) == found
            with pytest.raises(Forbidden, match=f"^{name} is a pre-defined network and cannot be removed$"):
                await own.remove(name)
        assert [each["Name"] for each in own.list({"driver": ["host", "null"], "name": ["o"]})] == ["host", "none"]
        assert own.list({"type": ["custom"]}) == [] and own.list({"dangling": ["true"]}) == []
        with pytest.raises(NotFound, match="network x not found"):
            own.inspect("x")
        with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
            own.list({"colour": ["red"]})
        assert own.host_gateway() == ("172.17.0.1",)
