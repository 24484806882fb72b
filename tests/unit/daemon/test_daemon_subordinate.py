"""Ranges of subordinate users, read from files like those of /etc."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlass.daemon.subordinate import read_remap
from windlass.errors import InvalidParameter


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "passwd").write_text("root:x:0:0::/:\nwindlass:x:900:901::/:\nann:x:1000:1001::/:\n")
    (tmp_path / "group").write_text("root:x:0:\nwindlass:x:901:\nann:x:1001:\nstaff:x:50:ann\n")
    (tmp_path / "subuid").write_text("# comment\nann:100000:65536\n900:300000:10\nann:500000:1000\nbroke:1:0\n")
    (tmp_path / "subgid").write_text("ann:100000:65536\nwindlass:300000:10\nstaff:700000:5\n")
    return tmp_path


def test_nothing_asked_nothing_mapped(etc: Path) -> None:
    assert read_remap("", etc) is None


@pytest.mark.parametrize("text", ["ann", "ann:ann", "1000", "1000:1001", "ann:1001"])
def test_names_and_numbers(etc: Path, text: str) -> None:
    mappings = read_remap(text, etc)
    assert mappings is not None
    assert mappings.users == [
        {"containerID": 0, "hostID": 100000, "size": 65536},
        {"containerID": 65536, "hostID": 500000, "size": 1000},
    ]
    assert mappings.groups == [{"containerID": 0, "hostID": 100000, "size": 65536}]


def test_default_and_another_group(etc: Path) -> None:
    default = read_remap("default", etc)
    assert default is not None
    assert default.users == [{"containerID": 0, "hostID": 300000, "size": 10}]
    other = read_remap("ann:staff", etc)
    assert other is not None
    assert other.groups == [{"containerID": 0, "hostID": 700000, "size": 5}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nobody-here", "unable to find user nobody-here"),
        ("ann:nobody-here", "unable to find group nobody-here"),
        ("root", "no ranges of user root"),
        (":ann", "invalid userns-remap"),
        ("ann:", "invalid userns-remap"),
    ],
)
def test_what_is_missing_is_named(etc: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        read_remap(text, etc)


def test_broken_files_are_named(etc: Path) -> None:
    (etc / "subuid").write_text("ann:x:1\n")
    with pytest.raises(InvalidParameter, match="no number"):
        read_remap("ann", etc)
    (etc / "subuid").write_text("ann:4294967290:65536\n")
    with pytest.raises(InvalidParameter, match="not possible"):
        read_remap("ann", etc)
    (etc / "subuid").unlink()
    with pytest.raises(InvalidParameter, match="cannot read"):
        read_remap("ann", etc)
