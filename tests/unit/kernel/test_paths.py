"""Paths inside a root: what resolves where, and that nothing leads out, whatever the tree holds."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from windlass.kernel import paths


@contextlib.contextmanager
def refused(*numbers: int) -> Iterator[None]:
    """An OSError with one of these numbers comes of the block."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        yield
    assert caught.value.errno in numbers


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root with a few things, beside a directory of the host with a file."""
    root = tmp_path / "root"
    for folder in ("a/b", "etc", "run"):
        (root / folder).mkdir(parents=True)
    (root / "etc/passwd").write_text("root\n")
    (root / "var").symlink_to("/run")
    (root / "up").symlink_to("../../../../../../etc")
    (root / "host").symlink_to(tmp_path / "host")
    (root / "dangling").symlink_to("/not/yet")
    (root / "loop").symlink_to("loop")
    (root / "chain").symlink_to("var/../dangling")
    (root / "magic").symlink_to("/proc/self/root")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_text("secret\n")
    return root


@pytest.fixture
def root(tree: Path) -> Iterator[int]:
    fd = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def opened(fd: int) -> str:
    path = os.readlink(f"/proc/self/fd/{fd}")
    os.close(fd)
    return path


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/", ""),
        ("", ""),
        (".", ""),
        ("..", ""),
        ("/../../a/b", "a/b"),
        ("a//b/.", "a/b"),
        ("var", "run"),
        ("/var/../etc/passwd", "etc/passwd"),
        ("up/passwd", "etc/passwd"),
        ("a/b/../../../../etc", "etc"),
    ],
)
def test_paths_and_links_resolve_with_the_root_as_slash(tree: Path, root: int, path: str, place: str) -> None:
    assert opened(paths.open_in_root(root, path, paths.O_PATH)) == str(tree / place).rstrip("/")
    assert opened(paths.try_open_in_root(root, path, paths.O_PATH)) == str(tree / place).rstrip("/")


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("nope", errno.ENOENT),
        ("host", errno.ENOENT),  # inside the root there is no such path
        ("host/secret", errno.ENOENT),
        ("etc/passwd/x", errno.ENOTDIR),
        ("loop", errno.ELOOP),
        ("x\0y", errno.EINVAL),
        ("n" * 256, errno.ENAMETOOLONG),
    ],
)
def test_what_is_not_there_is_an_error(root: int, path: str, number: int) -> None:
    with refused(number):
        paths.open_in_root(root, path, paths.O_PATH)
    if number in {errno.ENOENT, errno.ENOTDIR}:
        assert paths.try_open_in_root(root, path, paths.O_PATH) == -1
    else:
        with refused(number):
            paths.try_open_in_root(root, path, paths.O_PATH)


def test_magic_links_of_procfs_are_never_followed() -> None:
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        for path in ("/proc/self/root", "/proc/self/cwd", f"/proc/self/fd/{fd}", "/proc/self/exe"):
            with refused(errno.ELOOP):
                paths.open_in_root(fd, path, paths.O_PATH)
    finally:
        os.close(fd)


def test_beneath_follows_no_link_and_no_way_up(root: int) -> None:
    assert opened(paths.open_beneath(root, "/a/b", paths.O_PATH)).endswith("/a/b")
    for path in ("var", "up/passwd", "../host/secret", "a/../../host"):
        with refused(errno.ELOOP, errno.EXDEV):
            paths.open_beneath(root, path, paths.O_PATH)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("new", "new"),
        ("a/new/er/still", "a/new/er/still"),
        ("var/lib/x", "run/lib/x"),
        ("up/new", "etc/new"),
        ("dangling", "not/yet"),
        ("dangling/more", "not/yet/more"),
        ("chain/deep", "not/yet/deep"),
        ("/a/./b//../c", "a/c"),
        ("a/b", "a/b"),
        ("/", ""),
        ("../../../../x", "x"),
    ],
)
def test_directories_are_made_inside_also_through_links_that_point_nowhere(
    tree: Path, root: int, path: str, place: str
) -> None:
    assert opened(paths.mkdir_all_in_root(root, path)) == str(tree / place).rstrip("/")
    assert (tree / place).is_dir()
    assert opened(paths.mkdir_all_in_root(root, path)) == str(tree / place).rstrip("/")


def test_directories_are_not_made_outside(tree: Path, root: int) -> None:
    inside = tree / str(tree.parent / "host").lstrip("/")
    assert opened(paths.mkdir_all_in_root(root, "host/x")) == str(inside / "x")
    assert os.listdir(tree.parent / "host") == ["secret"]


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("etc/passwd", errno.ENOTDIR),
        ("etc/passwd/x", errno.ENOTDIR),
        ("loop/x", errno.ELOOP),
        ("nope/../../x", errno.ENOENT),
        ("a/" + "n" * 256, errno.ENAMETOOLONG),
    ],
)
def test_where_no_directory_can_be_made(tree: Path, root: int, path: str, number: int) -> None:
    before = sorted(str(p) for p in tree.rglob("*"))
    with refused(number):
        paths.mkdir_all_in_root(root, path)
    assert sorted(str(p) for p in tree.rglob("*")) == before


def test_files_are_made_where_they_are_missing_and_left_where_they_are(tree: Path, root: int) -> None:
    assert opened(paths.create_file_in_root(root, "var/new/file", 0o600)) == str(tree / "run/new/file")
    assert stat.S_IMODE((tree / "run/new/file").stat().st_mode) == 0o600
    assert opened(paths.create_file_in_root(root, "dangling")) == str(tree / "not/yet")
    assert opened(paths.create_file_in_root(root, "etc/passwd")) == str(tree / "etc/passwd")
    assert (tree / "etc/passwd").read_text() == "root\n"
    assert opened(paths.create_file_in_root(root, "a")) == str(tree / "a")
    with refused(errno.ELOOP):
        paths.create_file_in_root(root, "loop")


def test_the_parent_and_the_last_component_which_is_not_looked_at(tree: Path, root: int) -> None:
    parent, name = paths.open_parent_in_root(root, "/up/more/loop")
    assert (opened(parent), name) == (str(tree / "etc/more"), "loop")
    for path in ("/", "", "a/..", "a/."):
        with refused(errno.EINVAL):
            paths.open_parent_in_root(root, path)


def test_reading_links_status_and_files(tree: Path, root: int) -> None:
    assert paths.readlink_in_root(root, "up") == "../../../../../../etc"
    assert paths.stat_in_root(root, "up").st_ino == (tree / "etc").stat().st_ino
    assert stat.S_ISLNK(paths.stat_in_root(root, "up", follow=False).st_mode)
    assert paths.read_file_in_root(root, "/up/passwd", limit=100) == b"root\n"
    with refused(errno.EFBIG):
        paths.read_file_in_root(root, "etc/passwd", limit=4)
    os.mkfifo(tree / "fifo")
    for path, number in (("a", errno.EISDIR), ("fifo", errno.EINVAL), ("host/secret", errno.ENOENT)):
        with refused(number):
            paths.read_file_in_root(root, path, limit=100)


def test_no_descriptor_is_left(tree: Path, root: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("new/x", "dangling/y", "loop/x", "etc/passwd/x", "nope/../../x", "host/a", ""):
        for function in (paths.mkdir_all_in_root, paths.create_file_in_root):
            try:
                os.close(function(root, path))
            except OSError:
                pass
    assert len(os.listdir("/proc/self/fd")) == before


NAMES = st.sampled_from(["a", "b", "..", ".", "", "var", "up", "host", "dangling", "chain", "new", "secret"])
TARGETS = st.lists(NAMES, max_size=6).map("/".join) | st.lists(NAMES, max_size=6).map(lambda n: "/" + "/".join(n))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(links=st.dictionaries(st.sampled_from(["l1", "l2", "l3"]), TARGETS, max_size=3), path=st.lists(
    NAMES | st.sampled_from(["l1", "l2", "l3"]), max_size=7).map("/".join), file=st.booleans())  # fmt: skip
def test_nothing_is_ever_made_outside(tree: Path, root: int, links: dict[str, str], path: str, file: bool) -> None:
    for name, target in links.items():
        if target and not (tree / name).is_dir():
            (tree / name).unlink(missing_ok=True)
            (tree / name).symlink_to(target)
    function = paths.create_file_in_root if file else paths.mkdir_all_in_root
    try:
        place = opened(function(root, path))
    except OSError:
        place = str(tree)
    assert place == str(tree) or place.startswith(f"{tree}/")
    assert os.listdir(tree.parent / "host") == ["secret"]
    assert sorted(os.listdir(tree.parent)) == ["host", "root"]


def test_an_exchange_of_a_directory_for_a_link_leads_nowhere(tree: Path, root: int) -> None:
    (tree / "x").mkdir()
    (tree / "y").symlink_to("../../host")
    (tree / "z").symlink_to(tree.parent / "host")
    pid = os.fork()
    if pid == 0:
        library = ctypes.CDLL(None)
        names = [os.fsencode(tree / name) for name in "xyz"]
        while True:
            library.renameat2(-100, names[0], -100, names[1], 2)
            library.renameat2(-100, names[0], -100, names[2], 2)
    try:
        for number in range(300):
            for function in (paths.mkdir_all_in_root, paths.create_file_in_root):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    assert opened(function(root, f"x/made{number}/{function.__name__}")).startswith(f"{tree}/")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert os.listdir(tree.parent / "host") == ["secret"]
