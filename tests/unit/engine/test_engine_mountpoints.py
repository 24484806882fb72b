"""Binds and mount specifications."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.engine.mountpoints import (
    MountPoint,
    check_mount,
    parse_bind,
    parse_mount,
    parse_volumes_from,
    tmpfs_options,
    valid_mode,
)
from windlass.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", {"type": "volume", "destination": "/data", "name": "", "rw": True, "copy_data": True}),
        ("/a:/b", {"type": "bind", "source": "/a", "destination": "/b", "propagation": "rprivate", "rw": True}),
        ("/a/../c:/b/", {"type": "bind", "source": "/c", "destination": "/b"}),
        ("/a:/b:ro", {"type": "bind", "rw": False, "mode": "ro"}),
        ("/a:/b:ro,rslave,z", {"type": "bind", "rw": False, "propagation": "rslave", "mode": "ro,rslave,z"}),
        ("data:/b", {"type": "volume", "name": "data", "destination": "/b", "propagation": ""}),
        ("data:/b:nocopy", {"type": "volume", "name": "data", "copy_data": False}),
    ],
)
def test_binds(text: str, expected: dict[str, Any]) -> None:
    point = parse_bind(text)
    assert {name: getattr(point, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:/b:ro:x", "invalid volume specification"),
        ("/a:ro", "invalid volume specification"),
        ("/a:/b:rw,ro", "invalid mode: rw,ro"),
        ("/a:/b:what", "invalid mode: what"),
        ("/a:/", "destination can't be '/'"),
        ("data:b", "mount path must be absolute"),
        ("data:/b:shared", 'invalid mount config for type "volume"'),
    ],
)
def test_binds_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_bind(text)
    assert message in str(refused.value)


@given(st.text(alphabet="/ab.:,rwozZnocpy", max_size=24))
def test_any_text_is_a_bind_or_an_error(text: str) -> None:
    try:
        point = parse_bind(text)
    except InvalidParameter:
        return
    assert point.destination.startswith("/") and point.destination != "/"
    assert ".." not in point.destination.split("/")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"Type": "bind", "Target": "/b"}, 'for type "bind": field Source must not be empty'),
        ({"Type": "bind", "Source": "/a"}, "field Target must not be empty"),
        ({"Type": "bind", "Source": "a", "Target": "/b"}, "mount path must be absolute"),
        ({"Type": "bind", "Source": "/none", "Target": "/b"}, "bind source path does not exist: /none"),
        (
            {"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"Propagation": "x"}},
            "invalid propagation mode: x",
        ),
        ({"Type": "tmpfs", "Source": "x", "Target": "/b"}, "field Source must not be specified"),
        ({"Type": "volume", "Target": "/b", "BindOptions": {}}, "field BindOptions must not be specified"),
        (
            {"Type": "volume", "Target": "/b", "VolumeOptions": {"Subpath": "x"}},
            "must not set Subpath when using anonymous volumes",
        ),
        (
            {"Type": "volume", "Source": "v", "Target": "/b", "VolumeOptions": {"Subpath": "a/../../x"}},
            "subpath must be a relative path within the volume",
        ),
        ({"Type": "image", "Target": "/b"}, "field Source must not be empty"),
        ({"Type": "floppy", "Target": "/b"}, "mount type unknown"),
    ],
)
def test_mount_specifications_that_are_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check_mount(spec, source_exists=lambda path: path != "/none")
    assert message in str(refused.value)


def test_a_mount_specification_creates_no_source_unless_asked() -> None:
    spec: dict[str, Any] = {"Type": "bind", "Source": "/a", "Target": "/b"}
    assert not parse_mount(spec).create_source
    assert parse_mount(spec | {"BindOptions": {"CreateMountpoint": True}}).create_source
    assert parse_bind("/a:/b").create_source


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"SizeBytes": 64 << 20, "Mode": 0o1770}, ["mode=1770", "size=64m"]),
        ({"SizeBytes": 1025}, ["size=1025"]),
        ({"Options": [["exec"]]}, ["exec"]),
    ],
)
def test_tmpfs_options(options: dict[str, Any], expected: list[str]) -> None:
    assert tmpfs_options({"TmpfsOptions": options}) == expected
    assert tmpfs_options({"TmpfsOptions": options, "ReadOnly": True}) == ["ro", *expected]


@pytest.mark.parametrize("mode", ["", "ro", "rw,z,rshared,nocopy,cached"])
def test_modes(mode: str) -> None:
    assert valid_mode(mode)


def test_volumes_from() -> None:
    assert parse_volumes_from("other") == ("other", "rw")
    assert parse_volumes_from("other:ro,z") == ("other", "ro,z")
    for text in ("", "other:x", "other:rslave", "other:nocopy"):
        with pytest.raises(InvalidParameter):
            parse_volumes_from(text)


def test_a_record_is_read_back() -> None:
    point = parse_bind("data:/b:ro")
    assert MountPoint.from_record(point.to_record()) == point


def test_inspect_shows_what_is_mounted() -> None:
    volume = {"Name": "data", "Driver": "local", "Mountpoint": "/var/volumes/data/_data"}
    assert parse_bind("data:/b").with_volume(volume, anonymous=False).to_api() == {
        "Type": "volume",
        "Name": "data",
        "Source": "/var/volumes/data/_data",
        "Destination": "/b",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }
