"""`docker cp` and `docker export` on a tree: names as dockerd gives them, links resolved inside the root only."""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import tars
from support.tars import archive, member
from windlass.errors import InvalidParameter, NotFound
from windlass.images.archive.copy import go_mode, pack_path, stat_path, unpack_into

pytestmark = pytest.mark.root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("outside")
    root = tmp_path / "root"
    (root / "etc/conf").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0")
    (root / "etc/conf/a").write_text("a")
    (root / "empty").mkdir()
    os.symlink("/etc", root / "abs")
    os.symlink("etc/passwd", root / "rel")
    os.symlink("../../../outside", root / "up")
    os.symlink("/nowhere/at/all", root / "dangling")
    os.symlink("loop", root / "loop")
    return root


@pytest.fixture
def root(tree: Path) -> Iterator[int]:
    fd = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def packed(root: int, path: str) -> list[str]:
    return tars.names(b"".join(pack_path(root, path, container="c")))


NAMES = {
    "/etc": ["etc", "etc/conf", "etc/conf/a", "etc/passwd"],
    "etc": ["etc", "etc/conf", "etc/conf/a", "etc/passwd"],
    "/etc/": ["etc", "etc/conf", "etc/conf/a", "etc/passwd"],
    "/etc/.": [".", "./conf", "./conf/a", "./passwd"],
    "/etc/../etc/conf": ["conf", "conf/a"],
    "/etc/passwd": ["passwd"],
    "/abs": ["abs"],
    "/abs/": ["abs", "abs/conf", "abs/conf/a", "abs/passwd"],
    "/abs/conf": ["conf", "conf/a"],
    "/empty": ["empty"],
    "/rel": ["rel"],
    "/loop": ["loop"],
}


@pytest.mark.parametrize("path", NAMES)
def test_names_in_the_archive(path: str, root: int) -> None:
    assert packed(root, path) == NAMES[path]


def test_the_root_itself(root: int) -> None:
    found = packed(root, "/")
    assert found[0] in ("/", "")
    assert "/etc/conf/a" in found


def test_a_link_that_leads_up_ends_at_the_root(root: int) -> None:
    with pytest.raises(NotFound):
        packed(root, "/up/")
    assert packed(root, "/up") == ["up"]


@pytest.mark.parametrize("path", ["/missing", "/etc/missing", "/etc/passwd/x", "/loop/", "/dangling/", "/etc/passwd/."])
def test_what_is_not_there(path: str, root: int) -> None:
    for ask in (stat_path, pack_path):
        with pytest.raises(NotFound, match=f"Could not find the file {path} in container c"):
            ask(root, path, container="c")


def test_status_as_clients_read_it(root: int, tree: Path) -> None:
    os.chmod(tree / "etc/passwd", 0o4755)
    os.utime(tree / "etc/passwd", ns=(0, 1_700_000_000_120_000_000))
    assert stat_path(root, "/etc/passwd", container="c") == {
        "name": "passwd",
        "size": 8,
        "mode": 1 << 23 | 0o755,
        "mtime": "2023-11-14T22:13:20.12Z",
        "linkTarget": "",
    }
    assert stat_path(root, "/etc", container="c")["mode"] & 1 << 31
    assert stat_path(root, "/etc/.", container="c")["name"] == "."
    assert stat_path(root, "/", container="c")["name"] == "/"


LINKS = {"/abs": "/etc", "/rel": "/etc/passwd", "/up": "/outside", "/dangling": "/nowhere/at/all", "/loop": ""}


@pytest.mark.parametrize("path", LINKS)
def test_where_a_link_leads_in_the_container(path: str, root: int) -> None:
    found = stat_path(root, path, container="c")
    assert found["linkTarget"] == LINKS[path]
    assert found["mode"] & 1 << 27


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (stat.S_IFREG | 0o644, 0o644),
        (stat.S_IFDIR | 0o1777, 1 << 31 | 1 << 20 | 0o777),
        (stat.S_IFLNK | 0o777, 1 << 27 | 0o777),
        (stat.S_IFCHR | 0o600, 1 << 26 | 1 << 21 | 0o600),
        (stat.S_IFBLK | 0o600, 1 << 26 | 0o600),
        (stat.S_IFIFO | 0o600, 1 << 25 | 0o600),
        (stat.S_IFSOCK | 0o600, 1 << 24 | 0o600),
        (stat.S_IFREG | 0o6755, 1 << 23 | 1 << 22 | 0o755),
    ],
)
def test_modes_as_go_has_them(mode: int, expected: int) -> None:
    assert go_mode(mode) == expected


def put(root: int, path: str, data: bytes, **options: object) -> None:
    unpack_into(root, path, [data], container="c", **options)  # type: ignore[arg-type]


def test_a_copy_goes_where_the_container_sees_the_path(root: int, tree: Path) -> None:
    put(root, "/abs/conf", archive(member("new", b"new", mode=0o600, uid=5, gid=6)))
    status = (tree / "etc/conf/new").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o600, 5, 6)


def test_a_copy_may_be_compressed(root: int, tree: Path) -> None:
    put(root, "/etc", gzip.compress(archive(member("new", b"new"))))
    assert (tree / "etc/new").read_bytes() == b"new"


def test_everything_may_get_one_owner(root: int, tree: Path) -> None:
    data = archive(member("d/", uid=1), member("d/f", b"x", uid=1), tars.symlink("d/l", "f"), member("made/by/the/way"))
    put(root, "/etc", data, owner=(1000, 1001))
    for name in ("d", "d/f", "d/l", "made", "made/by/the"):
        status = (tree / "etc" / name).lstat()
        assert (status.st_uid, status.st_gid) == (1000, 1001)


def test_directories_and_other_things_replace_each_other_unless_forbidden(root: int, tree: Path) -> None:
    over_directory, over_file = archive(member("conf", b"file")), archive(member("passwd/"), member("passwd/x", b"x"))
    for data, words in ((over_directory, "directory"), (over_file, "non-directory")):
        with pytest.raises(InvalidParameter, match=f'cannot overwrite {words} "/'):
            put(root, "/etc", data, keep_kinds=True)
    assert (tree / "etc/conf/a").read_text() == "a"
    put(root, "/etc", over_directory)
    put(root, "/etc", over_file)
    assert (tree / "etc/conf").read_text() == "file"
    assert (tree / "etc/passwd/x").read_text() == "x"


def test_a_directory_that_is_there_keeps_what_is_in_it(root: int, tree: Path) -> None:
    put(root, "/", archive(member("etc/", mode=0o700), member("etc/new", b"x")), keep_kinds=True)
    assert (tree / "etc/passwd").exists()
    assert (tree / "etc").stat().st_mode & 0o777 == 0o700


def test_the_target_itself_is_left_as_it_is(root: int, tree: Path) -> None:
    os.chmod(tree / "etc", 0o711)
    put(root, "/etc", archive(member("./", mode=0o777, uid=7), member("./new", b"x")))
    status = (tree / "etc").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o711, 0)


def test_a_target_must_be_a_directory(root: int) -> None:
    with pytest.raises(InvalidParameter, match="extraction point is not a directory"):
        put(root, "/etc/passwd", archive())
    with pytest.raises(NotFound, match="Could not find the file /missing in container c"):
        put(root, "/missing", archive())
    with pytest.raises(InvalidParameter):
        put(root, "/etc\0", archive())


def test_names_that_begin_like_whiteouts_are_ordinary_here(root: int, tree: Path) -> None:
    put(root, "/etc", archive(member(".wh.passwd", b"x")))
    assert (tree / "etc/passwd").exists()
    assert (tree / "etc/.wh.passwd").read_bytes() == b"x"


def test_a_pipe_or_device_is_packed_and_not_opened(root: int, tree: Path) -> None:
    os.mkfifo(tree / "etc/pipe")
    os.mknod(tree / "etc/null", 0o20666, os.makedev(1, 3))
    assert packed(root, "/etc/pipe") == ["pipe"]
    assert packed(root, "/etc/null") == ["null"]


def test_descriptors_are_closed(root: int, tree: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    packed(root, "/")
    next(pack_path(root, "/etc", container="c"))
    put(root, "/etc", archive(member("a/b/c/d", b"x")))
    with pytest.raises(InvalidParameter):
        put(root, "/etc", b"x" * 1000)
    import gc

    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
