"""What a request for a network may say."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import Forbidden, InvalidParameter, NotFound, NotImplementedByEngine, WindlassError
from windlass.networks.creation import bridge_config, parse_create
from windlass.networks.record import IpamConfig, NetworkRecord, new_id, now

PREFIX = "com.docker.network.bridge"


def test_a_full_request_is_read() -> None:
    request = parse_create(
        {
            "Name": "back",
            "Driver": "bridge",
            "Internal": True,
            "EnableIPv6": True,
            "Labels": {"a": "b"},
            "Options": {f"{PREFIX}.enable_icc": "false", "something.else": "kept"},
            "IPAM": {
                "Driver": "default",
                "Config": [
                    {
                        "Subnet": "10.7.0.0/16",
                        "IPRange": "10.7.3.0/24",
                        "Gateway": "10.7.0.254",
                        "AuxiliaryAddresses": {"printer": "10.7.3.9"},
                    },
                    {"Subnet": "fd00:7::/64"},
                ],
            },
        }
    )
    assert (request.name, request.internal, request.enable_ipv6, request.attachable) == ("back", True, True, False)
    assert [each.subnet for each in request.ipam] == [ip_network("10.7.0.0/16"), ip_network("fd00:7::/64")]
    assert request.ipam[0].auxiliary == {"printer": "10.7.3.9"}
    assert request.options["something.else"] == "kept"


def with_config(**config: Any) -> dict[str, Any]:
    return {"Name": "n", "IPAM": {"Config": [config]}}


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ({}, InvalidParameter, "name is empty"),
        ({"Name": "  "}, InvalidParameter, "name is empty"),
        ({"Name": 7}, InvalidParameter, "name is empty"),
        ({"Name": "bridge"}, Forbidden, "^operation is not permitted on predefined bridge network$"),
        ({"Name": "n", "Driver": "nonsense"}, NotFound, 'plugin "nonsense" not found'),
        ({"Name": "n", "Driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"Name": "n", "Driver": "macvlan"}, NotImplementedByEngine, "macvlan"),
        ({"Name": "n", "ConfigOnly": True}, NotImplementedByEngine, "configuration-only"),
        ({"Name": "n", "EnableIPv4": False}, NotImplementedByEngine, "without IPv4"),
        ({"Name": "n", "Internal": "yes"}, InvalidParameter, "Internal"),
        ({"Name": "n", "Labels": {"a": 1}}, InvalidParameter, "labels"),
        ({"Name": "n", "IPAM": []}, None, ""),
        ({"Name": "n", "IPAM": 7}, InvalidParameter, "IPAM"),
        ({"Name": "n", "IPAM": {"Driver": "other"}}, NotFound, "plugin"),
        (
            with_config(Subnet="10.7.0.1/24"),
            InvalidParameter,
            r"invalid subnet 10\.7\.0\.1/24: it should be 10\.7\.0\.0/24",
        ),
        (with_config(Subnet="10.7.0.0/33"), InvalidParameter, "invalid subnet"),
        (with_config(Subnet=7), InvalidParameter, "invalid subnet"),
        (with_config(Gateway="10.7.0.1"), InvalidParameter, "without a subnet"),
        (with_config(Subnet="10.7.0.0/24", Gateway="10.8.0.1"), InvalidParameter, "invalid gateway 10.8.0.1"),
        (with_config(Subnet="10.7.0.0/24", IPRange="10.8.0.0/25"), InvalidParameter, "invalid ip-range"),
        (
            with_config(Subnet="10.7.0.0/24", AuxiliaryAddresses={"x": "10.8.0.1"}),
            InvalidParameter,
            "auxiliary address x",
        ),
        (with_config(Subnet="fd00::/64"), InvalidParameter, "IPv6 is disabled"),
        (
            {"Name": "n", "IPAM": {"Config": [{"Subnet": "10.7.0.0/24"}, {"Subnet": "10.8.0.0/24"}]}},
            InvalidParameter,
            "multiple subnets",
        ),
        ({"Name": "n", "Options": {f"{PREFIX}.enable_icc": "maybe"}}, InvalidParameter, "failed to parse"),
        ({"Name": "n", "Options": {f"{PREFIX}.name": "a/b"}}, InvalidParameter, "interface name"),
        ({"Name": "n", "Options": {f"{PREFIX}.host_binding_ipv4": "x"}}, InvalidParameter, "x"),
        ({"Name": "n", "Options": {"com.docker.network.driver.mtu": "-1"}}, InvalidParameter, "mtu"),
        ({"Name": "n", "Options": {f"{PREFIX}.gateway_mode_ipv4": "routed"}}, NotImplementedByEngine, "routed"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    body: dict[str, Any], error: type[WindlassError] | None, message: str
) -> None:
    if error is None:
        parse_create(body)
        return
    with pytest.raises(error, match=message):
        parse_create(body)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("10.7.0.0/24"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Config", "Subnet", "Gateway", "Driver"]), inner)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["Name", "Driver", "IPAM", "Options", "Labels", "Internal", "ConfigFrom"]), json)
)
def test_any_body_is_a_request_or_refused(body: dict[str, Any]) -> None:
    try:
        parse_create(body)
    except WindlassError:
        pass


def test_a_record_becomes_a_bridge_and_survives_its_file() -> None:
    record = NetworkRecord(
        id=new_id(),
        name="back",
        driver="bridge",
        created=now(),
        ipam=(
            IpamConfig(
                subnet=ip_network("10.7.0.0/24"),
                gateway=ip_network("10.7.0.1").network_address,
                auxiliary={"printer": "10.7.0.9"},
                configured=True,
            ),
        ),
        options={f"{PREFIX}.enable_icc": "false", "com.docker.network.driver.mtu": "1400"},
        internal=True,
    )
    assert NetworkRecord.from_json(record.to_json()) == record
    config = bridge_config(record, mtu=1500, group=5)
    assert config.name == f"wl-{record.id[:12]}" and len(config.name) == 15
    assert (str(config.ipv4), config.mtu, config.icc, config.internal) == ("10.7.0.1/24", 1400, False, True)
    assert [str(each) for each in config.reserved] == ["10.7.0.9"]
