"""What clients ask to publish."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import InvalidParameter
from windlass.networks.ports import (
    ANY_V4,
    ANY_V6,
    PortMapping,
    PortRequest,
    parse_host_ports,
    parse_port,
    parse_port_bindings,
    to_port_map,
)

BOTH = (ANY_V4, ANY_V6)


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        ({"HostIp": "", "HostPort": "8080"}, (BOTH, 8080, 8080)),
        ({"HostPort": "8000-8010"}, (BOTH, 8000, 8010)),
        ({}, (BOTH, 0, 0)),
        ({"HostIp": "127.0.0.1", "HostPort": ""}, ((ip_address("127.0.0.1"),), 0, 0)),
        ({"HostIp": "0.0.0.0", "HostPort": "0"}, ((ANY_V4,), 0, 0)),
        ({"HostIp": "::", "HostPort": "1"}, ((ANY_V6,), 1, 1)),
        ({"HostIp": "[::1]", "HostPort": "65535"}, ((ip_address("::1"),), 65535, 65535)),
        ({"HostIp": "::ffff:127.0.0.1", "HostPort": "1"}, ((ip_address("127.0.0.1"),), 1, 1)),
    ],
)
def test_bindings_are_read(binding: dict[str, str], expected: tuple[Any, int, int]) -> None:
    addresses, first, last = expected
    wanted = PortRequest(80, "tcp", addresses, first, last)
    assert parse_port_bindings({"80/tcp": [binding]}, BOTH) == (wanted,)


def test_a_port_with_no_binding_gets_any_host_port() -> None:
    for nothing in (list[dict[str, str]](), None):
        assert parse_port_bindings({"53/udp": nothing}, (ANY_V4,)) == (PortRequest(53, "udp", (ANY_V4,), 0, 0),)
    assert parse_port_bindings(None, BOTH) == ()


@pytest.mark.parametrize(
    "port", ["", "0", "65536", "80-90/tcp", "80/", "80/icmp", "-1", "+80", "8_0", "٨٠", "80/tcp/udp"]
)
def test_what_is_no_container_port_is_refused(port: str) -> None:
    with pytest.raises(InvalidParameter, match=r"invalid port specification|invalid proto"):
        parse_port_bindings({port: [{}]}, BOTH)


@pytest.mark.parametrize("port", ["65536", "8010-8000", "0-5", "80-", "-80", "a", "1-2-3", " 80", "80\n", "９"])
def test_what_is_no_host_port_is_refused(port: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid port specification"):
        parse_port_bindings({"80/tcp": [{"HostPort": port}]}, BOTH)


@pytest.mark.parametrize("address", ["localhost", "1.2.3", "1.2.3.4.5", "fe80::1%eth0", "01.2.3.4"])
def test_what_is_no_host_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid IP address"):
        parse_port_bindings({"80/tcp": [{"HostIp": address}]}, BOTH)


@given(st.text(max_size=12))
def test_any_text_is_a_range_of_valid_ports_or_refused(text: str) -> None:
    try:
        first, last = parse_host_ports(text)
    except InvalidParameter:
        return
    assert (first, last) == (0, 0) or 0 < first <= last <= 65535


@given(st.text(max_size=12))
def test_any_text_is_a_valid_port_or_refused(text: str) -> None:
    try:
        number, protocol = parse_port(text)
    except InvalidParameter:
        return
    assert 0 < number < 65536 and protocol in {"tcp", "udp", "sctp"}


mappings = st.builds(
    PortMapping,
    st.sampled_from(["tcp", "udp", "sctp"]),
    st.ip_addresses(),
    st.integers(1, 65535),
    st.integers(1, 65535),
)


@given(mappings)
def test_a_mapping_survives_its_record(mapping: PortMapping) -> None:
    assert PortMapping.from_json(mapping.to_json()) == mapping


@pytest.mark.parametrize(
    "change", [{"hostPort": 0}, {"protocol": "ip"}, {"hostAddress": "x"}, {"containerPort": 70000}]
)
def test_a_damaged_record_is_refused(change: dict[str, object]) -> None:
    record = PortMapping("tcp", ANY_V4, 80, 80).to_json()
    with pytest.raises(ValueError, match=r".+"):
        PortMapping.from_json(record | change)


def test_the_port_map_is_the_apis() -> None:
    published = [PortMapping("tcp", ANY_V4, 8080, 80), PortMapping("tcp", ANY_V6, 8080, 80)]
    assert to_port_map(published, exposed=["80/tcp", "443/tcp"]) == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "443/tcp": None,
    }
