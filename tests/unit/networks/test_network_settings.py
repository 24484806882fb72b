"""What the daemon's flags say about networks."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from windlass.errors import InvalidParameter
from windlass.networks.settings import (
    BRIDGE_POOLS,
    DEFAULT_POOLS,
    AddressPool,
    NetworkSettings,
    names_for,
    parse_address_pools,
    parse_interface,
    parse_network,
)


def test_the_default_daemon_has_the_short_names() -> None:
    names = names_for(Path("/run/windlass"), NetworkSettings())
    assert (names.bridge, names.table) == ("wl0", "windlass")


def test_two_exec_roots_share_no_name() -> None:
    one, other = (names_for(Path(root), NetworkSettings()) for root in ("/run/one", "/run/other"))
    assert not set(one) & set(other)
    assert names_for(Path("/run/one"), NetworkSettings()) == one
    assert len(one.bridge) < 16


@pytest.mark.parametrize("name", ["a/b", "x" * 16, "a b", ".", "a:b"])
def test_a_bridge_name_that_the_kernel_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter):
        names_for(Path("/run/windlass"), NetworkSettings(bridge_name=name))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("base=10.10.0.0/16,size=24", AddressPool(ip_network("10.10.0.0/16"), 24)),
        ("size=24,base=10.10.0.0/16", AddressPool(ip_network("10.10.0.0/16"), 24)),
        ({"base": "10.10.0.0/16", "size": 24}, AddressPool(ip_network("10.10.0.0/16"), 24)),
        ({"base": "fd00::/48", "size": 64}, AddressPool(ip_network("fd00::/48"), 64)),
    ],
)
def test_address_pools_are_read_in_both_notations(given: str | dict[str, object], expected: AddressPool) -> None:
    assert parse_address_pools([given]) == (expected,)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "base=10.10.0.0/16",
        "size=24",
        "base=10.10.0.1/16,size=24",
        "base=10.10.0.0/16,size=8",
        "base=10.10.0.0/16,size=33",
        "base=10.10.0.0/16,size=-24",
        "base=10.10.0.0/16,size=24,more=1",
        "base=10.10.0.0/16,base=10.11.0.0/16,size=24",
        {"base": "10.10.0.0/16"},
        {"base": "10.10.0.0/16", "size": 24, "other": 1},
        {"base": None, "size": 24},
    ],
)
def test_an_address_pool_that_makes_no_sense_is_refused(given: str | dict[str, object]) -> None:
    with pytest.raises(InvalidParameter):
        parse_address_pools([given])


def test_the_default_pools_do_not_overlap() -> None:
    pools = [pool.base for pool in (*BRIDGE_POOLS, *DEFAULT_POOLS)]
    assert not [(a, b) for a in pools for b in pools if a is not b and a.overlaps(b)]


def test_a_bridge_address_needs_its_prefix_length() -> None:
    assert str(parse_interface("10.1.2.3/24", "bip")) == "10.1.2.3/24"
    with pytest.raises(InvalidParameter, match=r"invalid bip '10\.1\.2\.3'"):
        parse_interface("10.1.2.3", "bip")
    with pytest.raises(InvalidParameter, match="fixed-cidr"):
        parse_network("10.1.2.3/24", "fixed-cidr")
