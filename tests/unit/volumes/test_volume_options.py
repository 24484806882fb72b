"""Names, options and filters of volumes, without a disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import InvalidParameter
from windlass.volumes.names import check_name, make_up_name
from windlass.volumes.options import check_options, local_mount, parse_size
from windlass.volumes.records import Record, parse_record
from windlass.volumes.selection import boolean, listed, pruned


@pytest.mark.parametrize("name", ["db", "a1", "A.b_c-d", "0" * 64, "x" * 255])
def test_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["a/b", ".hidden", "-x", "_x", "a b", "a\n", "ä1", "..", "", "a:b", "a\0b"])
def test_other_names_are_refused_with_dockerds_words(name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_name(name)
    assert str(caught.value) == (
        f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
        "If you intended to pass a host directory, use absolute path"
    )


def test_one_letter_is_too_short() -> None:
    with pytest.raises(InvalidParameter, match="too short, names should be at least two alphanumeric characters"):
        check_name("a")


def test_a_made_up_name_is_a_name() -> None:
    check_name(make_up_name())
    assert len({make_up_name() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": "red"}, 'invalid option: "colour"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"device": "/x"}, 'missing required option: "type"'),
        ({"o": "bind"}, "missing required option"),
        ({"size": "10m"}, "quota size requested but no quota support"),
        ({"size": "ten"}, "invalid size: 'ten'"),
        ({"type": "cifs", "device": "//host:445/share"}, "port not allowed in CIFS device URL, include 'port' in 'o='"),
        ({"type": "tmpfs", "device": "a\0b"}, "invalid value"),
    ],
)
def test_options_that_cannot_work(options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_options(options)
    assert words in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"size": "0"}, {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}])
def test_options_that_can(options: dict[str, str]) -> None:
    check_options(options)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("1k", 1024), ("10m", 10 << 20), ("1.5 GiB", 3 << 29), ("2tb", 2 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_the_mount_call_is_described_as_engines_do() -> None:
    mount = local_mount({"type": "none", "device": "/srv", "o": "bind,ro,x=1"})
    assert mount is not None
    assert mount.describe("/v") == "mount /srv:/v, flags: 0x1001, data: x=1"
    plain = local_mount({"type": "tmpfs", "device": "tmpfs"})
    assert plain is not None
    assert plain.describe("/v") == "mount tmpfs:/v"
    assert local_mount({}) is None


def test_only_network_mounts_have_an_address_to_resolve() -> None:
    nfs = local_mount({"type": "nfs4", "device": ":/x", "o": "addr=server,rw"})
    assert nfs is not None
    assert nfs.address_name() == "server"
    assert nfs.with_address("10.0.0.1").options == ("addr=10.0.0.1", "rw")
    tmpfs = local_mount({"type": "tmpfs", "device": "x", "o": "addr=server"})
    assert tmpfs is not None
    assert tmpfs.address_name() is None


RECORD = Record(name="db-data", labels={"tier": "db", "keep": ""}, created="2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ({}, True),
        ({"name": ["db"]}, True),
        ({"name": ["^data"]}, False),
        ({"name": ["^data", "-data$"]}, True),
        ({"name": ["("]}, False),
        ({"driver": ["local"]}, True),
        ({"driver": ["nfs"]}, False),
        ({"label": ["tier"]}, True),
        ({"label": ["tier=db", "keep"]}, True),
        ({"label": ["tier=web"]}, False),
        ({"label": ["tier", "missing"]}, False),
        ({"dangling": ["true"]}, False),
        ({"dangling": ["0"]}, True),
    ],
)
def test_list_filters(filters: dict[str, list[str]], shown: bool) -> None:
    assert listed(RECORD, filters, in_use=True) == shown


def test_dangling_means_unused() -> None:
    assert listed(RECORD, {"dangling": ["1"]}, in_use=False)
    assert not listed(RECORD, {"dangling": ["false"]}, in_use=False)


def test_a_boolean_filter_is_true_or_false() -> None:
    assert boolean({}, "dangling") is None
    for values in (["maybe"], ["true", "false"], [""]):
        with pytest.raises(InvalidParameter, match=r"invalid filter 'dangling=\["):
            boolean({"dangling": values}, "dangling")


@pytest.mark.parametrize(
    ("filters", "taken"),
    [
        ({}, False),
        ({"all": ["true"]}, True),
        ({"all": ["false"]}, False),
        ({"all": ["1"], "label": ["tier=db"]}, True),
        ({"all": ["1"], "label": ["tier=web"]}, False),
        ({"all": ["1"], "label!": ["keep"]}, False),
        ({"all": ["1"], "label!": ["other"]}, True),
    ],
)
def test_prune_takes_named_volumes_only_when_told(filters: dict[str, list[str]], taken: bool) -> None:
    assert pruned(RECORD, filters) == taken
    anonymous = Record(name="0" * 64, labels={"com.docker.volume.anonymous": ""})
    assert pruned(anonymous, {})


@given(st.binary(max_size=300))
def test_any_bytes_on_disk_are_a_record(data: bytes) -> None:
    record = parse_record(data, "vol", "2026-01-01T00:00:00Z")
    assert record.name == "vol"
    assert record.created


@given(
    st.dictionaries(st.text(), st.text(), max_size=4) | st.none(),
    st.dictionaries(st.text(), st.text(), max_size=4) | st.none(),
)
def test_a_record_survives_the_disk(labels: dict[str, str] | None, options: dict[str, str] | None) -> None:
    record = Record(name="vol", labels=labels, options=options, created="2026-01-01T00:00:00Z")
    assert parse_record(record.to_json(), "vol", "") == record
