"""What every storage driver promises, run against each of them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support import treeview
from windlass.errors import Conflict, InvalidParameter, NotFound, NotImplementedByEngine
from windlass.images import trees
from windlass.images.archive.unpack import LAYER_ALONE, LAYER_ON_TREE, unpack
from windlass.images.snapshots import DRIVERS, Change, ChangeKind, Driver, Info
from windlass.kernel.mounts import mount_all, mountinfo, unmount_all

pytestmark = pytest.mark.root

A, B, C = "a" * 64, "b" * 64, "c" * 64
MODIFIED, ADDED, DELETED = ChangeKind


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A btrfs file system in a file."""
    place = tmp_path_factory.mktemp("btrfs")
    image, point = place / "image", place / "point"
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("no mkfs.btrfs here")
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    point.mkdir()
    done = subprocess.run(["mount", "-o", "loop", image, point], capture_output=True)
    if done.returncode:
        pytest.skip(f"btrfs cannot be mounted here: {done.stderr.decode()}")
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.fixture(params=sorted(DRIVERS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The name of a driver, and an empty directory in which it works."""
    if request.param != "btrfs":
        yield request.param, str(tmp_path / "snapshots")
        return
    root = request.getfixturevalue("btrfs") / request.node.name.replace("/", "_")
    yield request.param, str(root)


@pytest.fixture
def new(place: tuple[str, str]) -> Iterator[Callable[[], Driver]]:
    """Opens the driver (again); what it has mounted and made is taken away at the end."""
    made: list[Driver] = []

    def start() -> Driver:
        driver = DRIVERS[place[0]](place[1])
        try:
            driver.open()
        except NotImplementedByEngine as error:
            pytest.skip(str(error))
        made.append(driver)
        return driver

    yield start
    for driver in made[-1:]:
        for info in sorted(driver.walk(), key=lambda info: info.is_layer):
            if not info.is_layer:
                driver.remove(info.name)
        while layers := list(driver.walk()):
            needed = {info.parent for info in layers}
            for info in layers:
                if info.name not in needed:
                    driver.remove(info.name)
        driver.close()
    assert not [mount for mount in mountinfo() if mount.target.startswith(place[1] + "/")]


@pytest.fixture
def driver(new: Callable[[], Driver]) -> Driver:
    return new()


@contextmanager
def mounted(driver: Driver, name: str, tmp_path: Path, *, layer: bool = False) -> Iterator[Path]:
    point = tmp_path / f"mounted-{name[:8]}-{threading.get_ident()}"
    point.mkdir()
    mounts = driver.view(name) if layer else driver.mounts(name)
    mount_all(mounts, str(point))
    try:
        yield point
    finally:
        unmount_all(str(point))
        point.rmdir()


def archive(root: Path) -> bytes:
    return subprocess.run(
        ["tar", "--format=pax", "--xattrs", "--sort=name", "-C", root, "-cf", "-", "."], check=True, capture_output=True
    ).stdout


def add_layer(driver: Driver, layer: str, parent: str | None, data: bytes) -> None:
    """Unpack an archive as a layer, as `LayerStore` does."""
    driver.prepare(".new", parent)
    fd = os.open(driver.directory(".new"), os.O_RDONLY)
    try:
        unpack(partial(next, iter([data]), b""), fd, LAYER_ON_TREE if driver.needs_parent else LAYER_ALONE)
    finally:
        os.close(fd)
    driver.commit(layer, ".new")


@pytest.fixture
def base(driver: Driver, tmp_path: Path) -> dict[bytes, treeview.Node]:
    """A layer `A` with some files; gives what is in it."""
    root = tmp_path / "base"
    (root / "etc/deep/er").mkdir(parents=True)
    (root / "etc/passwd").write_text("root")
    (root / "etc/deep/file").write_text("deep")
    (root / "etc/deep/er/file").write_text("deeper")
    (root / "bin").mkdir()
    (root / "bin/tool").write_bytes(b"#!" * 5000)
    os.link(root / "bin/tool", root / "bin/alias")
    os.symlink("bin", root / "link")
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    (root / "plain").touch()
    os.setxattr(root / "bin", "user.note", b"hello")
    os.chmod(root / "bin/tool", 0o4755)
    os.chown(root / "etc/passwd", 12, 34)
    os.chmod(root, 0o711)
    os.utime(root / "etc/passwd", ns=(10**18 + 1, 10**18 + 1))
    add_layer(driver, A, None, archive(root))
    return treeview.view(root)


def test_a_layer_is_seen_as_it_was_unpacked(driver: Driver, base: dict[bytes, Any], tmp_path: Path) -> None:
    with mounted(driver, A, tmp_path, layer=True) as point:
        assert treeview.view(point) == base
        assert stat.S_IMODE(point.stat().st_mode) == 0o711
        with pytest.raises(OSError, match="Read-only"):
            (point / "new").touch()


def test_a_root_shows_its_layer_and_keeps_what_is_written(
    driver: Driver, base: dict[bytes, Any], tmp_path: Path
) -> None:
    driver.prepare("one", A)
    driver.prepare("two", A)
    with mounted(driver, "one", tmp_path) as point:
        assert treeview.view(point) == base
        assert stat.S_IMODE(point.stat().st_mode) == 0o711
        (point / "etc/passwd").write_text("changed")
        shutil.rmtree(point / "bin")
    with mounted(driver, "one", tmp_path) as point:
        assert (point / "etc/passwd").read_text() == "changed"
        assert not (point / "bin").exists()
    for other in (driver.mounts("two"), driver.view(A)):
        point = tmp_path / "other"
        point.mkdir()
        mount_all(other, str(point))
        try:
            assert treeview.view(point) == base
        finally:
            unmount_all(str(point))
            point.rmdir()


def test_a_root_on_nothing_is_empty_and_writable(driver: Driver, tmp_path: Path) -> None:
    driver.prepare("bare", None)
    with mounted(driver, "bare", tmp_path) as point:
        assert os.listdir(point) == []
        assert stat.S_IMODE(point.stat().st_mode) == 0o755
        (point / "file").write_text("x")
    assert driver.changes("bare") == [Change(b"file", ADDED)]


def test_a_root_can_be_mounted_read_only(driver: Driver, base: dict[bytes, Any], tmp_path: Path) -> None:
    driver.prepare("one", A)
    point = tmp_path / "point"
    point.mkdir()
    mount_all(driver.mounts("one", read_only=True), str(point))
    try:
        assert treeview.view(point) == base
        with pytest.raises(OSError, match="Read-only"):
            (point / "new").touch()
    finally:
        unmount_all(str(point))


def change_everything(point: Path) -> list[Change]:
    """All kinds of changes; gives the list that `docker diff` shows of them."""
    (point / "added").mkdir()
    (point / "added/file").write_text("new")
    (point / "etc/passwd").unlink()
    with (point / "bin/tool").open("ab") as file:
        file.write(b"more")
    os.chmod(point / "plain", 0o600)
    shutil.rmtree(point / "etc/deep")
    (point / "etc/deep").mkdir()
    (point / "etc/deep/other").write_text("instead")
    (point / "link").unlink()
    (point / "link").mkdir()
    (point / "link/inside").touch()
    return [
        Change(b"added", ADDED),
        Change(b"added/file", ADDED),
        Change(b"bin", MODIFIED),
        Change(b"bin/tool", MODIFIED),
        Change(b"etc", MODIFIED),
        Change(b"etc/deep", MODIFIED),
        Change(b"etc/deep/er", DELETED),
        Change(b"etc/deep/file", DELETED),
        Change(b"etc/deep/other", ADDED),
        Change(b"etc/passwd", DELETED),
        Change(b"link", MODIFIED),
        Change(b"link/inside", ADDED),
        Change(b"plain", MODIFIED),
    ]


def test_changes_are_the_same_whatever_the_driver(driver: Driver, base: dict[bytes, Any], tmp_path: Path) -> None:
    driver.prepare("one", A)
    assert driver.changes("one") == []
    with mounted(driver, "one", tmp_path) as point:
        # A hard link is one file under two names; an overlay breaks it when it is written to, a copy does not.
        (point / "bin/alias").unlink()
        expected = sorted([*change_everything(point), Change(b"bin/alias", DELETED)])
    assert driver.changes("one") == expected


def test_what_was_opened_but_not_changed_is_no_change(driver: Driver, base: dict[bytes, Any], tmp_path: Path) -> None:
    driver.prepare("one", A)
    with mounted(driver, "one", tmp_path) as point:
        os.close(os.open(point / "etc/deep/file", os.O_RDWR))
        os.chown(point / "etc/deep/er", 0, 0)
    assert driver.changes("one") == []


def test_what_was_written_packs_into_a_layer_that_gives_the_same_tree(
    driver: Driver, base: dict[bytes, Any], tmp_path: Path
) -> None:
    driver.prepare("one", A)
    with mounted(driver, "one", tmp_path) as point:
        (point / "bin/alias").unlink()
        change_everything(point)
        expected = treeview.view(point)
    packed = b"".join(driver.pack("one"))
    add_layer(driver, B, A, packed)
    with mounted(driver, B, tmp_path, layer=True) as point:
        assert treeview.view(point) == expected
    driver.prepare("two", B)
    assert driver.changes("two") == []
    with mounted(driver, "two", tmp_path) as point:
        assert treeview.view(point) == expected


def test_a_root_becomes_a_layer(driver: Driver, base: dict[bytes, Any], tmp_path: Path) -> None:
    driver.prepare("one", A)
    with mounted(driver, "one", tmp_path) as point:
        (point / "new").write_text("new")
        os.utime(point / "new", ns=(1, 1))  # what FUSE says of a time that was not set lags behind
        expected = treeview.view(point)
    driver.commit(B, "one")
    assert driver.stat("one") is None
    assert driver.stat(B) == Info(B, A, True)
    driver.prepare("two", B)
    with mounted(driver, "two", tmp_path) as point:
        assert treeview.view(point) == expected
    assert driver.changes(B) == [Change(b"new", ADDED)]


def test_a_layer_that_is_there_already_stays(driver: Driver, base: dict[bytes, Any]) -> None:
    driver.prepare(".again", None)
    driver.commit(A, ".again")
    assert driver.stat(".again") is None
    assert {info.name for info in driver.walk()} == {A}
    assert os.path.exists(f"{driver.directory(A)}/etc/passwd")


def test_many_layers_on_each_other(driver: Driver, base: dict[bytes, Any], tmp_path: Path) -> None:
    parent = A
    for number in range(40):
        name = f"{number:064x}"
        driver.prepare(".next", parent)
        Path(driver.directory(".next"), f"file{number}").touch()
        driver.commit(name, ".next")
        parent = name
    driver.prepare("top", parent)
    with mounted(driver, "top", tmp_path) as point:
        assert {f"file{number}" for number in range(40)} <= set(os.listdir(point))


def test_usage_counts_what_was_written_only(driver: Driver, base: dict[bytes, Any], tmp_path: Path) -> None:
    driver.prepare("one", A)
    assert driver.usage("one") == (0, 0)
    with mounted(driver, "one", tmp_path) as point:
        (point / "data").write_bytes(b"x" * 100_000)
    assert driver.usage("one") == (100_000, 1)


def test_nothing_goes_while_something_stands_on_it(driver: Driver, base: dict[bytes, Any]) -> None:
    driver.prepare("one", A)
    with pytest.raises(Conflict):
        driver.remove(A)
    driver.remove("one")
    driver.remove("one")
    driver.remove(A)
    assert list(driver.walk()) == []
    with pytest.raises(NotFound):
        driver.mounts("one")
    with pytest.raises(NotFound):
        driver.view(A)


def test_names_that_are_taken_or_no_names_are_refused(driver: Driver, base: dict[bytes, Any]) -> None:
    driver.prepare("one", A)
    with pytest.raises(Conflict):
        driver.prepare("one", A)
    for name in ("", ".", "..", "a/b", "x" * 300, "a\0b"):
        with pytest.raises(InvalidParameter):
            driver.prepare(name, None)
    with pytest.raises(NotFound):
        driver.mounts("unknown")


def test_what_is_removed_is_deleted_before_the_end(
    driver: Driver, base: dict[bytes, Any], place: tuple[str, str], tmp_path: Path
) -> None:
    driver.prepare("one", A)
    with mounted(driver, "one", tmp_path) as point:
        (point / "data").write_bytes(b"x" * 100_000)
    driver.remove("one")
    driver.remove(A)
    driver.close()
    left = [path for path in Path(place[1]).rglob("*") if path.parent != Path(place[1])]
    assert left == []


def test_everything_is_found_again(
    new: Callable[[], Driver], driver: Driver, base: dict[bytes, Any], tmp_path: Path
) -> None:
    driver.prepare("one", A)
    with mounted(driver, "one", tmp_path) as point:
        (point / "kept").write_text("kept")
    again = new()
    assert sorted(again.walk()) == sorted([Info(A, None, True), Info("one", A, False)])
    with mounted(again, "one", tmp_path) as point:
        assert (point / "kept").read_text() == "kept"


def test_a_crash_leaves_what_was_complete(
    new: Callable[[], Driver], driver: Driver, base: dict[bytes, Any], place: tuple[str, str]
) -> None:
    driver.prepare("one", A)
    driver.prepare(".layer-being-made", A)
    driver.prepare("half", A)
    root = Path(place[1])
    (root / "roots/half/parent").unlink()  # what makes it complete comes last
    (root / "roots/stranger").mkdir()
    (root / "layers/odd").mkdir()
    (root / "trash/old").mkdir()
    (root / "trash/old/file").touch()
    again = new()
    assert {info.name for info in again.walk()} == {A, "one"}
    again.prepare("half", A)
    again.close()
    assert os.listdir(root / "trash") == []
    assert sorted(os.listdir(root / "roots")) == ["half", "one"]
    assert os.listdir(root / "layers") == [A]


def test_a_prepared_root_that_was_interrupted_is_made_anew(driver: Driver, place: tuple[str, str]) -> None:
    os.makedirs(f"{place[1]}/roots/one/fs/left")
    driver.prepare("one", None)
    assert os.listdir(driver.directory("one")) == []


def test_many_threads_at_once(driver: Driver, base: dict[bytes, Any]) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                driver.prepare(f"{number}-{turn}", A)
                driver.mounts(f"{number}-{turn}")
                driver.remove(f"{number}-{turn}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {info.name for info in driver.walk()} == {A}


def test_storage_options_are_refused_clearly(driver: Driver) -> None:
    driver.check_options({})
    with pytest.raises(InvalidParameter, match=r"storage-opt|Unknown option"):
        driver.check_options({"size": "10G"})
    with pytest.raises(InvalidParameter):
        driver.check_options({"colour": "red"})


def test_status_names_the_file_system_below(driver: Driver) -> None:
    status = dict(driver.status())
    assert status["Backing Filesystem"] in {"ext4", "xfs", "btrfs", "tmpfs", "overlay"}


def test_the_store_is_closed_to_others(driver: Driver, place: tuple[str, str]) -> None:
    assert stat.S_IMODE(os.stat(place[1]).st_mode) == 0o700


def test_a_container_may_make_subvolumes_of_its_own(btrfs: Path) -> None:
    driver = DRIVERS["btrfs"](str(btrfs / "nested"))
    driver.open()
    driver.prepare("one", None)
    subprocess.run(["btrfs", "-q", "subvolume", "create", f"{driver.directory('one')}/inner"], check=True)
    Path(driver.directory("one"), "inner/file").touch()
    driver.remove("one")
    driver.close()
    assert os.listdir(btrfs / "nested/trash") == []


@pytest.mark.parametrize("name", ["btrfs", "overlay2"])
def test_a_file_system_that_cannot_do_it_is_refused(name: str, tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    kind = ["-t", "tmpfs", "none"] if name == "btrfs" else ["-t", "overlay", "none", "-o"]
    if name == "overlay2":
        for part in ("l", "u", "w"):
            (tmp_path / part).mkdir()
        kind.append(f"lowerdir={tmp_path}/l,upperdir={tmp_path}/u,workdir={tmp_path}/w")
    subprocess.run(["mount", *kind, point], check=True)
    try:
        with pytest.raises(NotImplementedByEngine, match=r"storage driver does not work|needs"):
            DRIVERS[name](str(point / "snapshots")).open()
    finally:
        subprocess.run(["umount", point], check=True)


def test_removing_does_not_follow_what_a_container_left(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    inside = tmp_path / "inside"
    inside.mkdir()
    os.symlink(outside, inside / "link")
    os.symlink("/", inside / "slash")
    trees.remove(str(inside))
    assert (outside / "precious").exists()
    assert not inside.exists()
