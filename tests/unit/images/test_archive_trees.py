"""A tree goes into an archive and comes out the same; other programs read ours, and we read theirs."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from support import treeview
from windlass.images.archive.pack import pack_tree
from windlass.images.archive.unpack import LAYER_ALONE, Unpacked, Unpacking, unpack

pytestmark = pytest.mark.root


def pack(root: Path | str, *, sparse: bool = False) -> bytes:
    fd = os.open(root, os.O_RDONLY)
    try:
        return b"".join(pack_tree(fd, sparse=sparse))
    finally:
        os.close(fd)


def unpack_bytes(data: bytes | Iterable[bytes], root: Path | str, how: Unpacking = LAYER_ALONE) -> Unpacked:
    chunks = iter([data] if isinstance(data, bytes) else data)
    fd = os.open(root, os.O_RDONLY)
    try:
        return unpack(partial(next, chunks, b""), fd, how)
    finally:
        os.close(fd)


@given(tree=treeview.trees())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_tree_comes_out_as_it_went_in(tree: dict[bytes, Any]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "in"), Path(scratch, "out")
        source.mkdir()
        target.mkdir()
        treeview.build(source, tree)
        for sparse in (False, True):
            data = pack(source, sparse=sparse)
            unpack_bytes(data, target)
            assert treeview.view(target) == treeview.view(source)
            assert pack(target, sparse=sparse) == data, "equal trees give equal bytes"
            subprocess.run(["rm", "-rf", target], check=True)
            target.mkdir()


@given(tree=treeview.trees())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_archive_is_the_same_however_the_stream_is_cut(tree: dict[bytes, Any]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "in")
        source.mkdir()
        treeview.build(source, tree)
        data = pack(source, sparse=True)
        for size in (1000, 512, 77):
            target = Path(scratch, f"out{size}")
            target.mkdir()
            unpack_bytes((data[i : i + size] for i in range(0, len(data), size)), target)
            assert treeview.view(target) == treeview.view(source)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A tree with one of everything that an image may have."""
    root = tmp_path / "sample"
    long = "d" * 90 + "/" + "e" * 90 + "/" + "f" * 90
    (root / long).mkdir(parents=True)
    (root / long / "file").write_bytes(b"deep")
    (root / "empty").touch()
    (root / ("n" * 250)).write_text("long name")
    (root / "größe").write_text("not ascii")
    (root / "big").write_bytes(os.urandom(3_000_000))
    os.symlink("/absolute/" + "t" * 200, root / "long link")
    os.symlink("../../outside", root / "relative link")
    os.link(root / "big", root / "hard")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.mknod(root / "loop", 0o60660, os.makedev(7, 200))
    with (root / "sparse").open("wb") as file:
        for place in range(40):
            file.seek(place * 200_000)
            file.write(b"island %d" % place)
        file.truncate(10_000_000)
    with (root / "hole").open("wb") as file:
        file.truncate(5_000_000)
    os.setxattr(root / "empty", "user.note", b"\x00\xff binary")
    os.setxattr(root / "big", "security.capability", bytes.fromhex("0100000202000000000000000000000000000000"))
    os.chmod(root / "big", 0o4755)
    (root / "sticky").mkdir()
    for number, path in enumerate(sorted(root.rglob("*"))):
        mode = 0o1777 if path.name == "sticky" else 0o755 if path.is_dir() else 0o640
        treeview.dress(
            os.fsencode(path), mode=mode, uid=number, gid=2 * number, mtime=1_700_000_000_123_456_789 + number
        )
    os.setxattr(root / "big", "security.capability", bytes.fromhex("0100000202000000000000000000000000000000"))
    return root


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    "how",
    [["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-", "-C"], ["bsdtar", "-xpf", "-", "-C"]],
)
def test_other_programs_read_what_we_write(sample: Path, tmp_path: Path, how: list[str], sparse: bool) -> None:
    if subprocess.run(["which", how[0]], capture_output=True).returncode:
        pytest.skip(f"no {how[0]} here")
    target = tmp_path / "target"
    target.mkdir()
    subprocess.run([*how, target], input=pack(sample, sparse=sparse), check=True)
    assert treeview.view(target) == treeview.view(sample)


def test_python_reads_what_we_write(sample: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(pack(sample, sparse=True))
    with tarfile.open(archive) as opened:
        assert {os.fsencode(member.name) for member in opened} == set(treeview.view(sample))
        with (sample / "sparse").open("rb") as file:
            member = opened.extractfile("sparse")
            assert member is not None and member.read() == file.read()


@pytest.mark.parametrize(
    "sparse",
    [
        [],
        ["--sparse", "--sparse-version=0.0"],
        ["--sparse", "--sparse-version=0.1"],
        ["--sparse", "--sparse-version=1.0"],
    ],
)
def test_gnu_tar_in_pax_format_is_read_exactly(sample: Path, tmp_path: Path, sparse: list[str]) -> None:
    command = ["tar", "--format=pax", "--xattrs", "--xattrs-include=*", *sparse, "-C", sample, "-cf", "-", "."]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    target = tmp_path / "target"
    target.mkdir()
    unpack_bytes(data, target)
    assert treeview.view(target) == treeview.view(sample)


@pytest.mark.parametrize("options", [["--format=gnu"], ["--format=gnu", "--sparse"], ["--format=oldgnu"]])
def test_gnu_tar_in_its_own_formats_is_read_but_for_what_they_cannot_say(
    sample: Path, tmp_path: Path, options: list[str]
) -> None:
    data = subprocess.run(["tar", *options, "-C", sample, "-cf", "-", "."], check=True, capture_output=True).stdout
    target = tmp_path / "target"
    target.mkdir()
    unpack_bytes(data, target)
    expected = {
        path: node._replace(xattrs=(), mtime=node.mtime // 10**9 * 10**9)
        for path, node in treeview.view(sample).items()
    }
    assert treeview.view(target) == expected


def test_holes_stay_holes(sample: Path, tmp_path: Path) -> None:
    data = pack(sample, sparse=True)
    assert len(data) < 5_000_000 < len(pack(sample))
    target = tmp_path / "target"
    target.mkdir()
    unpack_bytes(data, target)
    assert (target / "hole").stat().st_blocks == 0
    assert (target / "sparse").stat().st_blocks < 1000


def test_a_socket_is_left_out(tmp_path: Path) -> None:
    import socket

    source = tmp_path / "s"
    source.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    (source / "file").touch()
    target = tmp_path / "t"
    target.mkdir()
    unpack_bytes(pack(source), target)
    assert os.listdir(target) == ["file"]


def test_a_tree_deeper_than_any_path_is_refused_and_removed_all_the_same(tmp_path: Path) -> None:
    from windlass.errors import WindlassError
    from windlass.images import trees

    top = os.open(tmp_path, os.O_RDONLY)
    fd = os.dup(top)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises((WindlassError, OSError), match="nested too deeply"):
        for _ in pack_tree(top):
            pass
    trees.remove("d", dir_fd=top)
    os.close(top)
    assert os.listdir(tmp_path) == []
