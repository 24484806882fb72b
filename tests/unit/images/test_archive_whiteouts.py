"""Layers say what is gone: they give one tree, whether unpacked apart for an overlay or onto each other."""

from __future__ import annotations

import os
import stat
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import treeview
from support.tars import archive, member, symlink
from windlass.images.archive.pack import pack_overlay
from windlass.images.archive.unpack import LAYER_ALONE, LAYER_ON_TREE, Unpacking, unpack
from windlass.kernel.mounts import Mount, mount_all, unmount_all

pytestmark = pytest.mark.root


def apply(data: bytes, root: Path, how: Unpacking) -> None:
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY)
    try:
        unpack(partial(next, iter([data]), b""), fd, how)
    finally:
        os.close(fd)


def merged(layers: list[bytes], scratch: Path) -> dict[bytes, treeview.Node]:
    """What an overlay of the layers shows."""
    lower = []
    for number, data in enumerate(layers):
        apply(data, scratch / f"layer{number}", LAYER_ALONE)
        lower.insert(0, str(scratch / f"layer{number}"))
    if len(lower) == 1:
        (scratch / "nothing").mkdir()
        lower.append(str(scratch / "nothing"))
    point = scratch / "merged"
    point.mkdir()
    mount_all([Mount("overlay", "overlay", ("ro",), tuple(lower))], str(point))
    try:
        return treeview.view(point)
    finally:
        unmount_all(str(point))


def stacked(layers: list[bytes], scratch: Path) -> dict[bytes, treeview.Node]:
    """What unpacking one onto the other gives."""
    for data in layers:
        apply(data, scratch / "tree", LAYER_ON_TREE)
    return treeview.view(scratch / "tree")


D, SUB = member("d/", mode=0o750, mtime=5), member("d/sub/", mode=0o711, mtime=6)
BASE = archive(D, member("d/a", b"a"), member("d/b", b"b"), SUB, member("d/sub/c", b"c"), member("f", b"f"))
ALL = {"d", "d/a", "d/b", "d/sub", "d/sub/c", "f"}

CASES = {
    "a file goes": ([BASE, archive(D, member("d/.wh.a"))], ALL - {"d/a"}),
    "a directory goes": ([BASE, archive(member(".wh.d"))], {"f"}),
    "a directory is emptied": ([BASE, archive(D, member("d/.wh..wh..opq"))], {"d", "f"}),
    "emptied and filled": ([BASE, archive(D, member("d/.wh..wh..opq"), member("d/n"))], {"d", "d/n", "f"}),
    "filled and emptied": ([BASE, archive(D, member("d/n"), member("d/.wh..wh..opq"))], {"d", "d/n", "f"}),
    "gone and made again": ([BASE, archive(member(".wh.d"), D, member("d/n"))], {"d", "d/n", "f"}),
    "made again and gone": ([BASE, archive(D, member("d/n"), member(".wh.d"))], {"d", "d/n", "f"}),
    "gone and filled": ([BASE, archive(member(".wh.d"), member("d/n"), D)], {"d", "d/n", "f"}),
    "a file for a directory": ([BASE, archive(member("d", b"x"))], {"d", "f"}),
    "a directory for a file": ([BASE, archive(member("f/"), member("f/x"))], {*ALL, "f/x"}),
    "a link for a directory": ([BASE, archive(symlink("d", "f"))], {"d", "f"}),
    "gone and another kind": ([BASE, archive(member(".wh.d"), member("d", b"x"))], {"d", "f"}),
    "deep inside": ([BASE, archive(D, SUB, member("d/sub/.wh.c"), member("d/sub/x"))], ALL - {"d/sub/c"} | {"d/sub/x"}),
    "twice": ([BASE, archive(D, member("d/.wh.a")), archive(D, member("d/.wh.b"))], {"d", "d/sub", "d/sub/c", "f"}),
    "back again": ([BASE, archive(member(".wh.d")), archive(D, member("d/z"))], {"d", "d/z", "f"}),
    "gone, and something in it, too": (
        [BASE, archive(member(".wh.d"), D, SUB, member("d/sub/.wh.c"))],
        {"d", "d/sub", "f"},
    ),
    "aufs notes": ([BASE, archive(member(".wh..wh.plnk/"), member(".wh..wh.aufs"))], ALL),
}


@pytest.mark.parametrize("name", CASES)
def test_layers_on_each_other(name: str, tmp_path: Path) -> None:
    layers, expected = CASES[name]
    one, two = merged(layers, tmp_path), stacked(layers, tmp_path)
    assert set(map(os.fsdecode, one)) == expected
    assert one == two


def test_marks_are_overlays_own(tmp_path: Path) -> None:
    apply(archive(member("d/.wh.a"), member("e/.wh..wh..opq"), member("e/x")), tmp_path / "l", LAYER_ALONE)
    status = (tmp_path / "l/d/a").lstat()
    assert stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    assert os.getxattr(tmp_path / "l/e", "trusted.overlay.opaque") == b"y"


def test_marks_come_out_as_they_went_in(tmp_path: Path) -> None:
    data = archive(D, member("d/.wh.a"), member("e/", mode=0o755), member("e/.wh..wh..opq"), member("e/x"))
    apply(data, tmp_path / "l", LAYER_ALONE)
    fd = os.open(tmp_path / "l", os.O_RDONLY)
    again = b"".join(pack_overlay(fd))
    os.close(fd)
    apply(again, tmp_path / "m", LAYER_ALONE)
    assert _comparable(treeview.view(tmp_path / "l")) == _comparable(treeview.view(tmp_path / "m"))


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
STEPS = st.tuples(st.sampled_from(["file", "dir", "link", "wh", "opq"]), PATHS)


@given(st.lists(st.lists(STEPS, max_size=8), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_ways_always_agree(layers: list[list[tuple[str, str]]]) -> None:
    archives = [archive(*members) for members in _members(layers)]  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as scratch:
        one, two = merged(archives, Path(scratch)), stacked(archives, Path(scratch))
        assert _comparable(one) == _comparable(two)


def _comparable(tree: dict[bytes, treeview.Node]) -> dict[bytes, object]:
    return {path: node._replace(mtime=0, mode=0) for path, node in tree.items()}


def _members(layers: list[list[tuple[str, str]]]) -> list[list[object]]:
    """Members of layers that a tool could have made: no path twice, none below what is no directory, and nothing gone
    that was not there (an overlay lists whiteouts in directories that only one layer has)."""
    result: list[list[object]] = []
    below: set[str] = set()
    for steps in layers:
        taken: dict[str, str] = {}
        found: list[object] = []
        for kind, path in steps:
            above = [path.rsplit("/", n)[0] for n in range(1, path.count("/") + 1)]
            if any(taken.get(one, "dir") != "dir" for one in above):
                continue
            if kind == "wh":
                if path not in below or path in taken:
                    continue
                found.append(member(f"{os.path.dirname(path)}/.wh.{os.path.basename(path)}".lstrip("/")))
            elif kind == "opq":
                if taken.get(path, "dir") != "dir":
                    continue
                taken[path] = "dir"
                found.append(member(f"{path}/.wh..wh..opq"))
            elif path in taken or (kind != "dir" and any(one.startswith(path + "/") for one in taken)):
                continue
            else:
                taken[path] = kind
                made = {"file": member(path, b"x"), "dir": member(path + "/"), "link": symlink(path, "t")}
                found.append(made[kind])
            for one in above:
                taken.setdefault(one, "dir")
        below = set(taken)  # a whiteout is for the layer next below only, which is enough here
        result.append(found)
    return result
