"""Create requests of older clients, and of hostile ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.api.docker.create import adapt_create
from windlass.api.docker.versions import LATEST
from windlass.errors import InvalidParameter

_scalar = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "bridge", "host", "bind", "image"])
_junk = _scalar | st.lists(_scalar, max_size=2) | st.dictionaries(st.sampled_from(["a", "Name"]), _scalar, max_size=2)


def _object(**members: Any) -> st.SearchStrategy[Any]:
    """An object with some of these members, any of which may be something else altogether."""
    return st.fixed_dictionaries({}, optional={name: _junk | value for name, value in members.items()})


_mount = _object(
    Type=st.sampled_from(["bind", "volume", "tmpfs", "image"]),
    BindOptions=_object(ReadOnlyForceRecursive=_scalar, NonRecursive=_scalar),
    VolumeOptions=_object(Subpath=_scalar, DriverConfig=_object(Name=_scalar)),
    TmpfsOptions=_object(SizeBytes=_scalar),
)
_endpoints = st.dictionaries(
    st.sampled_from(["default", "bridge", "net"]), _junk | _object(MacAddress=_scalar, DriverOpts=_junk), max_size=3
)
_bodies = _object(
    MacAddress=_scalar,
    Healthcheck=_object(StartInterval=_scalar),
    HostConfig=_object(
        NetworkMode=st.sampled_from(["", "default", "bridge", "host", "none", "container:x", "net"]),
        Mounts=st.lists(_junk | _mount, max_size=3),
        VolumeDriver=_scalar,
        PidsLimit=_scalar,
        Sysctls=st.dictionaries(st.sampled_from(["net.ipv4.conf.eth0.x", "net.ipv4.conf.eth1.x", "a"]), _scalar),
    ),
    NetworkingConfig=_object(EndpointsConfig=_endpoints),
)
_versions = st.tuples(st.just(1), st.integers(24, 51))


@given(body=_bodies, version=_versions)
def test_any_document_is_adapted_or_refused(body: dict[str, Any], version: tuple[int, int]) -> None:
    try:
        adapt_create(body, version)
    except InvalidParameter:
        pass


def adapt(body: dict[str, Any], version: tuple[int, int] = (1, 51)) -> tuple[dict[str, Any], list[str]]:
    adapted = adapt_create(copy.deepcopy(body), version)
    return adapted.body, adapted.warnings


def test_the_default_network_has_a_name() -> None:
    body, _ = adapt({"NetworkingConfig": {"EndpointsConfig": {"default": {"Aliases": ["a"]}}}})
    assert body["HostConfig"]["NetworkMode"] == "bridge"
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"bridge": {"Aliases": ["a"]}}


def test_old_clients_get_old_defaults() -> None:
    old, _ = adapt({"HostConfig": {"AutoRemove": True, "ConsoleSize": [1, 2], "Annotations": {"a": "b"}}}, (1, 24))
    assert old["HostConfig"]["AutoRemove"] is False
    assert old["HostConfig"]["IpcMode"] == "shareable"
    assert old["HostConfig"]["ConsoleSize"] == [0, 0]
    assert "Annotations" not in old["HostConfig"]
    new, _ = adapt({"HostConfig": {"AutoRemove": True, "ConsoleSize": [1, 2], "PidsLimit": -1}})
    assert new["HostConfig"]["AutoRemove"] is True
    assert new["HostConfig"]["ConsoleSize"] == [1, 2]
    assert new["HostConfig"]["PidsLimit"] is None


def test_the_mac_address_of_a_container_moves_to_its_endpoint() -> None:
    address = "02:42:ac:11:00:02"
    body, warnings = adapt({"MacAddress": address})
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"bridge": {"MacAddress": address}}
    assert warnings == [
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
    ]
    old, warnings = adapt({"MacAddress": address}, (1, 43))
    assert old["NetworkingConfig"]["EndpointsConfig"] == {"bridge": {"MacAddress": address}}
    assert not warnings
    ignored, _ = adapt({"NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": address}}}}, (1, 43))
    assert ignored["NetworkingConfig"]["EndpointsConfig"] == {"bridge": {}}


@pytest.mark.parametrize(("version", "moved"), [((1, 45), True), ((1, 47), True), ((1, 48), False)])
def test_sysctls_of_interfaces_move_to_the_endpoint(version: tuple[int, int], moved: bool) -> None:
    request = {"HostConfig": {"Sysctls": {"net.ipv4.conf.eth0.forwarding": "1", "net.core.somaxconn": "9"}}}
    if not moved:
        with pytest.raises(InvalidParameter, match="must be supplied using driver option"):
            adapt(request, version)
        return
    body, warnings = adapt(request, version)
    assert body["HostConfig"]["Sysctls"] == {"net.core.somaxconn": "9"}
    options = body["NetworkingConfig"]["EndpointsConfig"]["bridge"]["DriverOpts"]
    assert options == {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.forwarding=1"}
    assert warnings[0].startswith("Migrated sysctl")


@pytest.mark.parametrize(
    ("mount", "version", "message"),
    [
        ({"Type": "bind", "VolumeOptions": {}}, LATEST, 'VolumeOptions must not be specified on mount type "bind"'),
        ({"Type": "volume", "TmpfsOptions": {}}, LATEST, 'TmpfsOptions must not be specified on mount type "volume"'),
        ({"Type": "image"}, (1, 47), 'Mount type "Image" needs API v1.48 or newer'),
        (
            {"Type": "volume", "VolumeOptions": {"Subpath": "a"}},
            (1, 44),
            "VolumeOptions.Subpath needs API v1.45 or newer",
        ),
        (
            {"Type": "bind", "BindOptions": {"ReadOnlyForceRecursive": True}},
            (1, 43),
            "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
        ),
    ],
)
def test_mounts_that_a_version_does_not_know(mount: dict[str, Any], version: tuple[int, int], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        adapt({"HostConfig": {"Mounts": [mount]}}, version)
    assert str(caught.value) == message


def test_several_networks_at_once_are_new() -> None:
    request = {"NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}}
    adapt(request)
    with pytest.raises(InvalidParameter, match="Container cannot be created with multiple network endpoints: a, b"):
        adapt(request, (1, 43))
