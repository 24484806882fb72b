"""The firewall's scripts: names that cannot break out of them, and what is in them."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.networks.firewall import BridgeRules, Translation, chain, quote, render

names = st.text(
    st.characters(exclude_characters='/:\0"\\', exclude_categories=["Zs", "Cc", "Cs"]), min_size=1, max_size=15
)
BRIDGE = BridgeRules(name="wl0", subnets=(ip_network("172.17.0.0/22"), ip_network("fd00::/64")))


@given(names, names)
def test_chains_of_two_bridges_are_never_the_same(one: str, other: str) -> None:
    assert re.fullmatch(r"into-[A-Za-z0-9._-]+", chain("into", one))
    assert (chain("into", one) == chain("into", other)) == (one == other)


@given(st.text(max_size=15))
def test_a_name_stays_within_its_quotes(name: str) -> None:
    try:
        quoted = quote(name)
    except ValueError:
        assert '"' in name or "\\" in name
        return
    assert quoted[0] == quoted[-1] == '"' and '"' not in quoted[1:-1]
    assert not re.search(r"(?<!\\)\*", quoted)


@pytest.mark.parametrize("name", ['"', 'x" accept; "', "back\\"])
def test_a_name_that_could_break_out_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        render(4, "t", [BridgeRules(name=name, subnets=())], [], [])


def test_a_script_has_only_its_own_familys_addresses() -> None:
    translations = [
        Translation("tcp", ip_address("0.0.0.0"), 80, ip_address("172.17.0.2"), 8080),
        Translation("udp", ip_address("::"), 53, ip_address("fd00::2"), 53),
    ]
    four, six = (render(version, "t", [BRIDGE], translations, ["eth0"]) for version in (4, 6))
    assert "add element ip t published-anywhere { tcp . 80 : 172.17.0.2 . 8080 }" in four
    assert "add element ip6 t published-anywhere { udp . 53 : fd00::2 . 53 }" in six
    assert "fd00" not in four and "172.17" not in six


@pytest.mark.parametrize(
    ("bridge", "present", "absent"),
    [
        (BRIDGE, ['iifname "wl0" accept', "ct status dnat accept", "masquerade"], ['oifname != "wl0" drop']),
        (BridgeRules(name="wl0", subnets=BRIDGE.subnets, icc=False), ['iifname "wl0" drop'], ['iifname "wl0" accept']),
        (
            BridgeRules(name="wl0", subnets=BRIDGE.subnets, internal=True),
            ['oifname != "wl0" drop'],
            ["ct status dnat accept", "saddr 172.17.0.0/22 masquerade"],
        ),
        (BridgeRules(name="wl0", subnets=BRIDGE.subnets, masquerade=False), [], ["saddr 172.17.0.0/22 masquerade"]),
    ],
)
def test_switches_become_rules(bridge: BridgeRules, present: list[str], absent: list[str]) -> None:
    script = render(4, "t", [bridge], [], [])
    assert all(text in script for text in present) and not any(text in script for text in absent)


def test_a_routed_network_is_open_and_keeps_its_addresses_within_its_range() -> None:
    rules = BridgeRules(name="wl0", subnets=(ip_network("10.42.1.0/24"),), routed=(ip_network("10.42.0.0/16"),))
    script = render(4, "windlass", [rules], [], [])
    assert "into-wl0 drop" not in script and "into-wl0 accept" in script
    assert 'oifname != "wl0" ip saddr 10.42.1.0/24 ip daddr != { 10.42.0.0/16 } masquerade' in script
    closed = render(4, "windlass", [BridgeRules(name="wl0", subnets=rules.subnets)], [], [])
    assert "into-wl0 drop" in closed and "daddr != {" not in closed
