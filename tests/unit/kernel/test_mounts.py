"""Mounts: options as words, mountinfo, and the new mount API in a mount namespace of the test's own."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kernel import mount_options as words
from windlass.kernel import mounts
from windlass.kernel.idmap import make_table
from windlass.kernel.mount_options import parse_options
from windlass.kernel.mounts import Mount
from windlass.kernel.namespaces import CLONE_NEWNS, unshare

# --- options


@pytest.mark.parametrize(
    ("options", "to_set", "to_clear"),
    [
        ([], 0, 0),
        (["defaults", "async", "loud"], 0, 0),
        (["ro", "nosuid"], words.MOUNT_ATTR_RDONLY | words.MOUNT_ATTR_NOSUID, 0),
        (["ro", "rw"], 0, words.MOUNT_ATTR_RDONLY),
        (["rw", "ro"], words.MOUNT_ATTR_RDONLY, 0),
        (["noatime"], words.MOUNT_ATTR_NOATIME, words.MOUNT_ATTR_ATIME),
        (["noatime", "strictatime"], words.MOUNT_ATTR_STRICTATIME, words.MOUNT_ATTR_ATIME),
        (["strictatime", "relatime"], 0, words.MOUNT_ATTR_ATIME),
        (["nodiratime", "noexec", "exec"], words.MOUNT_ATTR_NODIRATIME, words.MOUNT_ATTR_NOEXEC),
    ],
)
def test_of_contradicting_words_the_last_counts(options: list[str], to_set: int, to_clear: int) -> None:
    parsed = parse_options(options)
    # The access time is a field: whoever sets it clears it first.
    assert (parsed.set, parsed.clear & ~parsed.set | parsed.clear & words.MOUNT_ATTR_ATIME) == (to_set, to_clear)


def test_words_are_attributes_propagation_modes_or_the_file_system_s() -> None:
    parsed = parse_options(["rbind", "rro", "nodev", "rslave", "size=64k", "newinstance", "tmpcopyup", "ridmap"])
    assert parsed.recursive_bind and parsed.bind and parsed.copy_up and parsed.recursive_idmap and parsed.idmap
    assert parsed.recursive_set == words.MOUNT_ATTR_RDONLY
    assert parsed.set == words.MOUNT_ATTR_NODEV
    assert parsed.propagations == ((words.MS_SLAVE, True),)
    assert parsed.data == (("size", "64k"), ("newinstance", None))
    assert parsed.read_only


@given(st.lists(st.text(max_size=12)))
def test_any_words_are_options(options: list[str]) -> None:
    parsed = parse_options(options)
    assert not parsed.set & parsed.clear & ~words.MOUNT_ATTR_ATIME


# --- mountinfo


def test_a_line_of_mountinfo() -> None:
    line = r"36 35 98:0 /mnt1 /mnt\0402\134x rw,noatime master:1 shared:2 - ext3 /dev/ro\011ot rw,errors=continue"
    assert mounts.parse_mountinfo_line(line) == mounts.MountPoint(
        36, 35, "98:0", "/mnt1", "/mnt 2\\x", "rw,noatime", ("master:1", "shared:2"), "ext3", "/dev/ro\tot",
        "rw,errors=continue",
    )  # fmt: skip


@pytest.mark.parametrize("line", ["", "36 35", "36 35 98:0 / /mnt rw ext3 /dev/root rw", "a b 1:2 / / rw - x y z"])
def test_what_is_no_line_of_mountinfo(line: str) -> None:
    with pytest.raises(ValueError, match=r"mountinfo|invalid literal"):
        mounts.parse_mountinfo_line(line)


def test_this_process_s_mounts() -> None:
    found = mounts.mountinfo()
    assert "/" in [mount.target for mount in found]
    assert [mount.type for mount in found if mount.target == "/proc"][-1] == "proc"


@pytest.mark.parametrize("value", [[], ["overlay"], ["overlay", "x", "ro"], [1, "x", []], ["a", "b", [], [], []]])
def test_what_json_is_no_mount(value: list[object]) -> None:
    with pytest.raises(ValueError, match="not a mount"):
        Mount.from_json(value)


def test_a_mount_survives_json() -> None:
    mount = Mount("overlay", "overlay", ("upperdir=/u", "workdir=/w"), ("/a", "/b"))
    assert Mount.from_json([mount.type, mount.source, list(mount.options), list(mount.lower)]) == mount
    assert Mount.from_json(["bind", "/x", ["rbind"]]) == Mount("bind", "/x", ("rbind",))


# --- the kernel


def apart(test: Callable[[Path], None], folder: Path) -> None:
    """Run in a child with a mount namespace of its own, whose root is private and `folder` a tmpfs."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            unshare(CLONE_NEWNS)
            root = os.open("/", os.O_PATH)
            mounts.set_attributes(root, propagation=words.MS_PRIVATE, recursive=True)
            mounts.mount_all([Mount("tmpfs", "tmpfs", ("mode=755",))], str(folder))
            os.chdir(folder)
            test(folder)
            code = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        words_ = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, words_


def mounted(folder: Path) -> list[mounts.MountPoint]:
    """What is mounted on or below a directory (others come and go on a busy machine)."""
    return [mount for mount in mounts.mountinfo() if mount.target.startswith(str(folder))]


def line_of(target: Path) -> mounts.MountPoint:
    return [mount for mount in mounts.mountinfo() if mount.target == str(target)][-1]


@pytest.mark.root
def test_an_overlay_of_many_layers_with_long_names(tmp_path: Path) -> None:
    def test(folder: Path) -> None:
        long = folder / ("n" * 200) / ("m" * 200)
        long.mkdir(parents=True)
        lower = []
        for number in range(120):
            layer = long / str(number)
            layer.mkdir()
            (layer / f"from{number}").write_text("")
            (layer / "same").write_text(str(number))
            lower.append(str(layer))
        for name in ("upper", "work", "merged"):
            (long / name).mkdir()
        options = (f"upperdir={long}/upper", f"workdir={long}/work")
        mounts.mount_all([Mount("overlay", "overlay", options, tuple(lower))], str(long / "merged"))
        assert len(os.listdir(long / "merged")) == 121
        assert (long / "merged/same").read_text() == "0"  # the first is the topmost
        (long / "merged/new").write_text("")
        assert (long / "upper/new").exists()

    apart(test, tmp_path)


@pytest.mark.root
def test_a_bind_has_its_attributes_before_it_is_seen(tmp_path: Path) -> None:
    def test(folder: Path) -> None:
        (folder / "source").mkdir()
        (folder / "target").mkdir()
        (folder / "source/file").write_text("x")
        options = parse_options(["rbind", "ro", "nosuid", "nodev", "noexec", "noatime"])
        tree = mounts.detached_bind(str(folder / "source"), options)
        with pytest.raises(OSError, match="Read-only"):
            os.open("file", os.O_WRONLY, dir_fd=tree)
        place = os.open(folder / "target", os.O_PATH)
        mounts.move_mount(tree, place)
        found = line_of(folder / "target")
        assert set(found.options.split(",")) == {"ro", "nosuid", "nodev", "noexec", "noatime"}
        (folder / "source/file").write_text("y")
        assert (folder / "target/file").read_text() == "y"

    apart(test, tmp_path)


@pytest.mark.root
def test_mounts_that_cannot_all_be_made_are_all_taken_away(tmp_path: Path) -> None:
    def test(folder: Path) -> None:
        (folder / "t").mkdir()
        before = mounted(folder)
        with pytest.raises(OSError, match="no-such-type") as caught:
            mounts.mount_all([Mount("tmpfs", "a", ()), Mount("no-such-type", "b", ())], str(folder / "t"))
        assert caught.value.errno == errno.ENODEV
        assert mounted(folder) == before
        mounts.mount_all([Mount("tmpfs", "a", ()), Mount("tmpfs", "b", ())], str(folder / "t"))
        assert len(mounted(folder)) == len(before) + 2
        mounts.unmount_all(str(folder / "t"))
        assert mounted(folder) == before
        mounts.unmount_all(str(folder / "t"))

    apart(test, tmp_path)


@pytest.mark.root
def test_a_refusal_has_the_file_system_s_own_words(tmp_path: Path) -> None:
    def test(folder: Path) -> None:
        with pytest.raises(OSError, match=r"mount tmpfs: .*sizes?") as caught:
            mounts.new_filesystem("tmpfs", "x", [("sizes", "5")])
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError, match="NUL"):
            mounts.new_filesystem("tmpfs", "x", [("size", "5\0")])

    apart(test, tmp_path)


@pytest.mark.root
def test_a_mount_that_is_never_attached_is_never_seen(tmp_path: Path) -> None:
    def test(folder: Path) -> None:
        before = mounted(folder)
        fd = mounts.detached(Mount("tmpfs", "x", ("size=1m", "nodev")))
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        assert mounted(folder) == before
        os.close(fd)

    apart(test, tmp_path)


@pytest.mark.root
def test_a_mount_is_attached_to_a_name_that_is_not_followed(tmp_path: Path) -> None:
    def test(folder: Path) -> None:
        (folder / "a").mkdir()
        (folder / "b").symlink_to("a")
        here = os.open(folder, os.O_PATH)
        mounts.move_mount(mounts.new_filesystem("tmpfs", "x"), here, "a")
        assert line_of(folder / "a").source == "x"
        with pytest.raises(OSError, match="move_mount"):
            mounts.move_mount(mounts.new_filesystem("tmpfs", "x"), here, "b")

    apart(test, tmp_path)


@pytest.mark.root
def test_an_idmapped_mount_shows_other_owners(tmp_path: Path) -> None:
    def test(folder: Path) -> None:
        (folder / "source").mkdir()
        os.chown(folder / "source", 5, 6)
        table = make_table([(0, 1000, 100)], [(0, 2000, 100)])
        tree = mounts.detached_bind(str(folder / "source"), parse_options(["bind"]))
        mounts.map_identities(tree, table)
        found = os.fstat(tree)
        assert (found.st_uid, found.st_gid) == (1005, 2006)

    apart(test, tmp_path)
