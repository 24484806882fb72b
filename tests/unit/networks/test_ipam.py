"""Which subnet a network gets, and which address a container gets in it."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import Conflict, Forbidden, InvalidParameter, SystemFailure
from windlass.networks.ipam import Leases, choose_subnet, mac_for
from windlass.networks.settings import BRIDGE_POOLS, AddressPool

POOL = AddressPool(ip_network("10.9.0.0/20"), 24)

subnets = st.builds(
    lambda number, prefix: IPv4Network((number, prefix), strict=False),
    st.integers(int(ip_address("10.8.0.0")), int(ip_address("10.10.255.255"))),
    st.integers(5, 32),
)


def test_the_first_free_subnet_is_chosen() -> None:
    taken = [ip_network("10.9.0.0/24"), ip_network("10.9.1.128/25"), ip_network("10.9.3.0/24")]
    assert choose_subnet([POOL], taken) == ip_network("10.9.2.0/24")


def test_a_route_to_everywhere_is_in_nobodys_way() -> None:
    taken = [ip_network("0.0.0.0/0"), ip_network("0.0.0.0/1"), ip_network("::/0")]
    assert choose_subnet([POOL], taken) == ip_network("10.9.0.0/24")


def test_the_next_pool_serves_when_one_is_full() -> None:
    other = AddressPool(ip_network("10.200.0.0/16"), 22)
    assert choose_subnet([POOL, other], [ip_network("10.9.0.0/16")]) == ip_network("10.200.0.0/22")


def test_no_free_subnet_names_what_is_in_the_way() -> None:
    with pytest.raises(SystemFailure, match=r"all predefined address pools have been fully subnetted.*10\.0\.0\.0/8"):
        choose_subnet([POOL], [ip_network("10.0.0.0/8")])


def test_dockers_own_network_is_avoided() -> None:
    assert choose_subnet(BRIDGE_POOLS, [ip_network("172.17.0.0/16")]) == ip_network("172.18.0.0/22")


@given(st.lists(subnets, max_size=30))
def test_a_chosen_subnet_is_the_lowest_that_overlaps_nothing(taken: list[IPv4Network]) -> None:
    free = [each for each in POOL.base.subnets(new_prefix=POOL.size) if not any(each.overlaps(t) for t in taken)]
    if free:
        assert choose_subnet([POOL], taken) == free[0]
    else:
        with pytest.raises(SystemFailure):
            choose_subnet([POOL], taken)


def leases(subnet: str, within: str | None = None) -> Leases:
    return Leases(ip_network(subnet), within=ip_network(within) if within else None, name="bridge", network_id="ab12")


def test_addresses_are_handed_out_from_the_lowest_and_given_back() -> None:
    pool = leases("10.9.0.0/24")
    pool.reserve(ip_address("10.9.0.1"))
    given = [str(pool.allocate()) for _ in range(4)]
    assert given == ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5"]
    pool.release(ip_address("10.9.0.4"))
    pool.release(ip_address("10.9.0.3"))
    assert [str(pool.allocate()) for _ in range(3)] == ["10.9.0.3", "10.9.0.4", "10.9.0.6"]


def test_network_and_broadcast_address_are_never_leased() -> None:
    pool = leases("10.9.0.0/30")
    assert [str(pool.allocate()), str(pool.allocate())] == ["10.9.0.1", "10.9.0.2"]
    with pytest.raises(
        SystemFailure, match=r"^no available IPv4 addresses on this network's address pools: bridge \(ab12\)$"
    ):
        pool.allocate()


def test_a_fixed_part_bounds_free_addresses_but_not_chosen_ones() -> None:
    pool = leases("10.9.0.0/16", within="10.9.3.0/30")
    pool.reserve(ip_address("10.9.0.1"))
    assert [str(pool.allocate()) for _ in range(4)] == ["10.9.3.0", "10.9.3.1", "10.9.3.2", "10.9.3.3"]
    pool.release(ip_address("10.9.0.1"))
    with pytest.raises(SystemFailure):
        pool.allocate()


def test_an_address_outside_or_in_use_is_refused() -> None:
    pool = leases("10.9.0.0/24")
    pool.reserve(ip_address("10.9.0.7"))
    with pytest.raises(Forbidden, match=r"^Address already in use$"):
        pool.reserve(ip_address("10.9.0.7"))
    for outside in ("10.9.1.7", "fd00::1"):
        with pytest.raises(InvalidParameter, match=f"no configured subnet contains IP address {outside}"):
            pool.reserve(ip_address(outside))
    with pytest.raises(Conflict):
        pool.release(ip_address("10.9.0.8"))
    with pytest.raises(InvalidParameter):
        leases("10.9.0.0/24", within="10.8.0.0/28")


def test_ipv6_addresses_start_behind_the_routers_anycast_address() -> None:
    pool = Leases(ip_network("fd00::/64"))
    assert [str(pool.allocate()), str(pool.allocate())] == ["fd00::1", "fd00::2"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60))
def test_an_address_has_one_owner_and_the_lowest_free_one_comes_next(steps: list[tuple[bool, int]]) -> None:
    pool, owned = leases("10.9.0.0/28"), set[int]()
    base = int(ip_address("10.9.0.0"))
    for take, number in steps:
        if take:
            free = sorted(set(range(base + 1, base + 15)) - owned)
            if free:
                assert int(pool.allocate()) == free[0]
                owned.add(free[0])
            else:
                with pytest.raises(SystemFailure):
                    pool.allocate()
        elif owned:
            chosen = sorted(owned)[number % len(owned)]
            pool.release(ip_address(chosen))
            owned.discard(chosen)
    assert len(pool) == len(owned)


def test_the_mac_follows_from_the_address() -> None:
    address = ip_address("172.17.0.2")
    assert address.version == 4
    assert mac_for(address) == "02:42:ac:11:00:02"
