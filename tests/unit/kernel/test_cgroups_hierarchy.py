"""Finding the hierarchies in the texts of real hosts and in those that nobody should have to meet."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kernel.cgroups import CgroupError, detect, open_cgroup
from windlass.kernel.cgroups.hierarchy import below_mount, clean_path, parse_membership, parse_mounts


def mount(path: Path | str, kind: str, options: str, root: str = "/") -> str:
    return f"30 23 0:26 {root} {path} rw,nosuid - {kind} {kind} rw,{options}\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("cpu,cpuacct", "memory", "systemd", "unified", "net_cls"):
        (tmp_path / name).mkdir()
    (tmp_path / "unified" / "cgroup.controllers").write_text("hugetlb misc\n")
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    return tmp_path


def v1(tree: Path) -> str:
    return (
        mount(tree / "cpu,cpuacct", "cgroup", "cpu,cpuacct")
        + mount(tree / "memory", "cgroup", "memory")
        + mount(tree / "systemd", "cgroup", "xattr,release_agent=/lib/systemd/systemd-cgroups-agent,name=systemd")
    )


def test_v1_with_controllers_that_share_a_hierarchy(tree: Path) -> None:
    with detect(mountinfo=v1(tree), membership="2:cpu,cpuacct:/\n1:memory:/\n") as hierarchy:
        assert hierarchy.version == "v1"
        assert hierarchy.controllers == {"cpu", "cpuacct", "memory", "name=systemd"}
        assert open_cgroup("/windlass/x", hierarchy).paths == {
            "cpu": f"{tree}/cpu,cpuacct/windlass/x",
            "cpuacct": f"{tree}/cpu,cpuacct/windlass/x",
            "memory": f"{tree}/memory/windlass/x",
            "name=systemd": f"{tree}/systemd/windlass/x",
        }


def test_v2_alone(tree: Path) -> None:
    with detect(mountinfo=mount(tree, "cgroup2", "nsdelegate"), membership="0::/\n") as hierarchy:
        assert hierarchy.version == "v2"
        assert hierarchy.controllers == {"cpuset", "cpu", "io", "memory", "pids"}
        assert open_cgroup("/windlass/x", hierarchy).paths == {"": f"{tree}/windlass/x"}


def test_v1_controllers_beside_an_empty_v2_are_hybrid(tree: Path) -> None:
    text = v1(tree) + mount(tree / "unified", "cgroup2", "")
    with detect(mountinfo=text, membership="0::/\n") as hierarchy:
        assert hierarchy.version == "hybrid"
        assert "hugetlb" not in hierarchy.controllers
        assert open_cgroup("/x", hierarchy).paths[""] == f"{tree}/unified/x"


def test_one_v1_hierarchy_of_another_program_leaves_a_v2_host_v2(tree: Path) -> None:
    text = mount(tree, "cgroup2", "") + mount(tree / "net_cls", "cgroup", "net_cls")
    with detect(mountinfo=text, membership="0::/\n") as hierarchy:
        assert hierarchy.version == "v2"


def test_a_relative_path_is_below_our_own_group(tree: Path) -> None:
    """In a container without a cgroup namespace: the mount shows our own group at its top, we are in a child of it."""
    text = mount(tree / "memory", "cgroup", "memory", root="/docker/abc")
    with detect(mountinfo=text, membership="1:memory:/docker/abc/inner\n") as hierarchy:
        assert open_cgroup("windlass/x", hierarchy).paths == {"memory": f"{tree}/memory/inner/windlass/x"}
        assert open_cgroup("/windlass/x", hierarchy).paths == {"memory": f"{tree}/memory/windlass/x"}


def test_of_two_mounts_of_a_hierarchy_the_one_that_holds_us_is_used(tree: Path) -> None:
    text = mount(tree / "net_cls", "cgroup", "memory", root="/elsewhere") + mount(tree / "memory", "cgroup", "memory")
    with detect(mountinfo=text, membership="1:memory:/here\n") as hierarchy:
        assert open_cgroup("/x", hierarchy).paths == {"memory": f"{tree}/memory/x"}


def test_a_hidden_mount_is_not_used(tree: Path) -> None:
    text = v1(tree) + mount(tree, "tmpfs", "size=1") + mount(tree, "cgroup2", "")
    assert [line.type for line in parse_mounts(text)] == ["cgroup2"]


def test_spaces_in_a_mount_point(tmp_path: Path) -> None:
    assert parse_mounts(mount("/a\\040b", "cgroup", "memory"))[0].path == "/a b"


def test_no_hierarchy_at_all() -> None:
    with pytest.raises(CgroupError, match="no cgroup hierarchy"):
        detect(mountinfo="22 27 0:21 / /proc rw - proc proc rw\n", membership="")


@pytest.mark.parametrize(
    ("group", "root", "below"),
    [
        ("/", "/", ""),
        ("/a/b", "/", "a/b"),
        ("/a/b", "/a", "b"),
        ("/ab", "/a", ""),
        ("/..", "/", ".."),
        ("/a", "/a", ""),
    ],
)
def test_groups_below_a_mount(group: str, root: str, below: str) -> None:
    assert below_mount(group, root) == below


@pytest.mark.parametrize("path", ["", "/", "/a/../b", "..", "a/..", "/" + "x" * 256, "a\0b", "a\nb"])
def test_impossible_paths_are_refused(path: str) -> None:
    with pytest.raises(CgroupError, match="invalid cgroup path"):
        clean_path(path)


def test_paths_are_cleaned() -> None:
    assert clean_path("//a/./b/") == "a/b"


@given(st.text(max_size=200))
def test_no_text_breaks_the_parsers_in_another_way(text: str) -> None:
    for parse in (parse_mounts, parse_membership):
        try:
            parse(text)
        except ValueError:
            continue
