"""A daemon that dies loses nothing: the next one takes over what runs and removes what nobody owns."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from support.network_world import answers, ask, crash, identity, ip_of, link_names, networks, path_of, reaches, server
from support.private_network import OWN, private_network
from windlass.errors import Conflict, InvalidParameter, SystemFailure
from windlass.kernel.netlink import link
from windlass.kernel.netlink.connection import NetlinkSocket
from windlass.kernel.nftables import Nftables
from windlass.networks import Networks, NetworkSettings

pytestmark = pytest.mark.root

ONE, TWO, THREE = identity(1), identity(2), identity(3)
WEB = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}


async def opened(directory: Path, **settings: object) -> Networks:
    return await Networks.open(directory / "root", directory / "exec", NetworkSettings(**settings))  # type: ignore[arg-type]


@private_network
async def test_the_next_daemon_takes_over_what_runs_and_removes_the_rest(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    one = await first.attach(ONE, network_mode="bridge", name="one", ports=WEB)
    two = await first.attach(TWO, network_mode="bridge", name="two")
    saved = json.loads(json.dumps(one.to_json()))
    network = first.inspect("bridge")
    async with server(path_of(one), 80):
        await crash(first)
        # Nobody is there, and the port goes on.
        assert await ask(OWN, "127.0.0.1", 8080) == "172.17.0.1"
        async with networks(tmp_path) as second:
            again = await second.restore(ONE, saved)
            assert again.to_json() == saved and again.network_settings() == one.network_settings()
            await second.reconcile({ONE})
            # The other container's sandbox, its link, and all that was prepared have gone.
            assert os.listdir(tmp_path / "exec" / "netns") == [os.path.basename(path_of(one))]
            plug = one.endpoints["bridge"].plug
            assert link_names() == {"lo", second._names.bridge, plug.host_link}
            assert second.inspect("bridge") == network | {"Containers": {ONE: network["Containers"][ONE]}}
            for host in ("127.0.0.1", "::1"):
                assert await ask(OWN, host, 8080) == "172.17.0.1"
            # What it holds is still its own.
            three = await second.attach(THREE, network_mode="bridge")
            assert ip_of(three) == ip_of(two)
            with pytest.raises(SystemFailure, match="port is already allocated"):
                await second.attach(TWO, network_mode="bridge", ports=WEB)
            with pytest.raises(Conflict):
                await second.restore(ONE, saved)
            await second.detach(ONE)
            assert not await reaches(OWN, "127.0.0.1", 8080)
    assert link_names() == {"lo"}


@private_network
async def test_published_ports_do_not_pause_while_a_daemon_starts(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    one = await first.attach(ONE, network_mode="bridge", ports=WEB)
    saved = one.to_json()
    async with server(path_of(one), 80):
        await crash(first)
        answers: list[str] = []

        async def keep_asking() -> None:
            while True:
                answers.append(await ask(OWN, "127.0.0.1", 8080))

        asking = asyncio.create_task(keep_asking())
        async with networks(tmp_path) as second:
            await second.restore(ONE, saved)
            await second.reconcile({ONE})
            await second.reconcile({ONE})
            assert not asking.done()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert answers and set(answers) == {"172.17.0.1"}


@private_network
async def test_a_daemon_that_stops_leaves_running_containers_alone(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    one = await first.attach(ONE, network_mode="bridge", ports=WEB)
    two = await first.attach(TWO, network_mode="bridge")
    await first.close()
    assert len(os.listdir(tmp_path / "exec" / "netns")) == 2
    async with server(path_of(one), 80):
        assert await ask(path_of(two), ip_of(one), 80) == ip_of(two)
        assert await ask(OWN, "127.0.0.1", 8080) == "172.17.0.1"
        async with networks(tmp_path) as second:
            await second.restore(ONE, one.to_json())
            await second.restore(TWO, two.to_json())
            await second.reconcile({ONE, TWO})
            assert await ask(OWN, "127.0.0.1", 8080) == "172.17.0.1"
            # Engines tell what they know; an attachment that they do not know ends.
            await second.reconcile({ONE})
            assert second.attachment(TWO) is None


@private_network
async def test_networks_keep_their_identity_and_subnet(tmp_path: Path) -> None:
    async with networks(tmp_path) as first:
        before = first.list()
    async with networks(tmp_path / "neighbour") as other:
        # Somebody took the subnet meanwhile, so the next start takes another.
        assert other.inspect("bridge")["IPAM"] == before[0]["IPAM"]
        async with networks(tmp_path) as second:
            after = second.list()
            assert [each["Id"] for each in after] == [each["Id"] for each in before]
            assert after[0]["IPAM"]["Config"] == [{"Subnet": "172.17.4.0/22", "Gateway": "172.17.4.1"}]
    async with networks(tmp_path) as third:
        assert third.list() == after


@private_network
async def test_a_bridge_that_somebody_removed_is_made_again_with_its_containers(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    one = await first.attach(ONE, network_mode="bridge", ports=WEB)
    await crash(first)
    with NetlinkSocket() as netlink:
        netlink.request(link.delete_link(first._names.bridge))
    async with networks(tmp_path) as second, server(path_of(one), 80):
        assert not await reaches(OWN, "127.0.0.1", 8080)
        await second.restore(ONE, one.to_json())
        await second.reconcile({ONE})
        assert await ask(OWN, "127.0.0.1", 8080) == "172.17.0.1"


@private_network
async def test_a_daemon_that_fails_to_start_takes_nothing_away(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    one = await first.attach(ONE, network_mode="bridge", ports=WEB)
    await crash(first)
    async with server(path_of(one), 80):
        with pytest.raises(InvalidParameter):
            await opened(tmp_path, bip="nonsense")
        second = await opened(tmp_path)
        await second.close()  # before anybody told it what runs
        assert await ask(OWN, "127.0.0.1", 8080) == "172.17.0.1"
    async with networks(tmp_path) as third:
        await third.reconcile(())


@private_network
async def test_a_daemon_that_fails_to_start_takes_away_what_it_made(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    assert first._names.bridge in link_names()
    await first.close()  # before anybody told it what runs
    assert link_names() == {"lo"}


@private_network
async def test_a_changed_bip_waits_for_running_containers(tmp_path: Path) -> None:
    first = await opened(tmp_path, bip="10.7.0.1/24")
    one = await first.attach(ONE, network_mode="bridge")
    await first.close()
    second = await opened(tmp_path, bip="10.8.0.1/24")
    await second.restore(ONE, one.to_json())
    await second.reconcile({ONE})
    assert second.host_gateway() == ("10.7.0.1",)
    await second.detach(ONE)
    await second.close()
    async with networks(tmp_path, bip="10.8.0.1/24") as third:
        assert third.host_gateway() == ("10.8.0.1",)


@private_network
async def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    async with networks(tmp_path) as own:
        saved = (await own.attach(ONE, network_mode="bridge", ports=WEB)).to_json()
        for damage in ({"version": 2}, {"endpoints": [{}]}, {"mappings": [{"hostPort": -1}]}, {"endpoints": None}):
            with pytest.raises(ValueError, match=f"record of container {TWO} is damaged"):
                await own.restore(TWO, saved | damage)
        unknown = saved | {"endpoints": [saved["endpoints"][0] | {"networkId": "f" * 64}]}
        with pytest.raises(SystemFailure, match=r"network bridge of container .* is gone"):
            await own.restore(TWO, unknown)
    (tmp_path / "root" / "networks.json").write_text("{")
    with pytest.raises(ValueError, match=r"networks\.json is damaged"):
        await opened(tmp_path)


@private_network
async def test_two_daemons_side_by_side_never_meet(tmp_path: Path) -> None:
    async with networks(tmp_path / "a") as left, networks(tmp_path / "b") as right:
        one = await left.attach(ONE, network_mode="bridge", ports=WEB)
        two = await right.attach(ONE, network_mode="bridge")
        assert (ip_of(one), ip_of(two)) == ("172.17.0.2", "172.17.4.2")
        with Nftables() as nftables:
            assert len({name for _, name in nftables.tables()}) == 2
        with pytest.raises(SystemFailure, match="address already in use"):
            await right.attach(TWO, network_mode="bridge", ports=WEB)
        async with server(path_of(one), 80), server(path_of(two), 80):
            assert await answers(path_of(two), "172.17.0.1", 8080)  # published for everybody
            assert not await reaches(path_of(two), ip_of(one), 80)
            assert not await reaches(path_of(one), ip_of(two), 80)
        await left.reconcile(set())
        assert left.attachment(ONE) is None and right.attachment(ONE) is two
        async with server(path_of(two), 80):
            assert await answers(OWN, ip_of(two), 80)


@private_network
async def test_daemons_that_start_together_choose_different_subnets(tmp_path: Path) -> None:
    started = await asyncio.gather(*(opened(tmp_path / str(n)) for n in range(4)))
    try:
        subnets = {each.inspect("bridge")["IPAM"]["Config"][0]["Subnet"] for each in started}
        assert len(subnets) == 4
    finally:
        for each in started:
            await each.close(remove=True)
