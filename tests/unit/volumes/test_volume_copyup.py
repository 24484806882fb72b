"""Filling a volume from an image: byte- and mode-exact, all or nothing, and never led out of either tree."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from windlass.errors import InvalidParameter, SystemFailure
from windlass.volumes import Volumes, copy_up, copyup, open_subpath, trees


@pytest.fixture
async def volumes(tmp_path: Path) -> AsyncIterator[Volumes]:
    opened = await Volumes.open(tmp_path / "volumes")
    yield opened
    await opened.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    top = tmp_path / "image"
    (top / "sub" / "deeper").mkdir(parents=True)
    (top / "file").write_bytes(b"hello" * 1000)
    (top / "sub" / "script").write_text("#!/bin/sh\n")
    (top / "sub" / "script").chmod(0o4755)
    os.link(top / "file", top / "sub" / "hard")
    (top / "link").symlink_to("/etc/passwd")
    (top / "sub" / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "fifo", 0o620)
    with (top / "sparse").open("wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
        file.truncate(20 << 20)
    (top / "empty").write_bytes(b"")
    os.utime(top / "file", ns=(1_000_000_000_000_000_001, 1_100_000_000_000_000_007))
    (top / "sub" / "deeper").chmod(0o1777)
    (top / "sub").chmod(0o555)
    os.utime(top / "sub", ns=(5, 1_200_000_000_000_000_000))
    top.chmod(0o2750)
    return top


def snapshot(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything about every file that a copy must keep."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in [".", *names, *files]:
            path = Path(directory, name)
            info = path.lstat()
            kind = stat.S_IFMT(info.st_mode)
            data: object = None
            if stat.S_ISLNK(info.st_mode):
                data = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                data = path.read_bytes()
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            found[os.path.relpath(path, top)] = (
                *(kind, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, info.st_rdev),
                *(info.st_size if kind != stat.S_IFDIR else 0, data, attributes),
            )
    return found


def make_deep(top: Path, depth: int) -> None:
    """d/d/d/…, deeper than a path can say."""
    current = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=current)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
        os.close(current)
        current = below
    os.close(current)


def copy(image: Path, target: Path) -> bool:
    fd = os.open(image, os.O_PATH | os.O_DIRECTORY)
    try:
        return copy_up(fd, str(target))
    finally:
        os.close(fd)


def test_a_copy_is_exact(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    assert copy(image, target)
    assert snapshot(target) == snapshot(image)
    assert (target / "file").stat().st_ino == (target / "sub" / "hard").stat().st_ino
    assert (target / "sparse").stat().st_blocks * 512 < 1 << 20
    (image / "sub").chmod(0o755)
    (target / "sub").chmod(0o755)


@pytest.mark.root
def test_owners_devices_and_attributes_come_over(image: Path, tmp_path: Path) -> None:
    os.chown(image / "file", 1000, 2000)
    os.chown(image / "link", 3000, 4000, follow_symlinks=False)
    os.mknod(image / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(image / "sub" / "script", "security.capability", capability)
    os.setxattr(image, "trusted.windlass", b"x")
    target = tmp_path / "target"
    target.mkdir()
    assert copy(image, target)
    assert snapshot(target) == snapshot(image)
    assert os.getxattr(target / "sub" / "script", "security.capability") == capability


@pytest.mark.root
def test_owners_are_translated_for_a_user_namespace(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    fd = os.open(image, os.O_PATH | os.O_DIRECTORY)
    copy_up(fd, str(target), owner=lambda uid, gid: (uid + 100000, gid + 200000))
    os.close(fd)
    for name in (".", "file", "link", "fifo", "sub/deeper"):
        info = (target / name).lstat()
        assert (info.st_uid, info.st_gid) == (100000, 200000)


def test_a_volume_with_anything_in_it_is_left_alone(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "theirs").write_text("x")
    assert not copy(image, target)
    assert os.listdir(target) == ["theirs"]


def test_sockets_stay_behind(tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "target"
    image.mkdir()
    target.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(image / "socket"))
    (image / "file").write_text("x")
    assert copy(image, target)
    assert os.listdir(target) == ["file"]


def test_an_empty_directory_still_gives_its_mode(tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "target"
    image.mkdir()
    image.chmod(0o1777)
    target.mkdir()
    assert copy(image, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o1777


def test_a_deep_tree_needs_no_deep_stack(tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "target"
    image.mkdir()
    target.mkdir()
    make_deep(image, 1500)
    assert copy(image, target)
    assert os.path.isdir(f"{target}/{'d/' * 1500}")
    parent = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for name in ("image", "target"):
        trees.remove(parent, name)
    os.close(parent)


def test_removal_reaches_deeper_than_any_path_and_holds_one_descriptor(tmp_path: Path) -> None:
    make_deep(tmp_path, 6000)
    parent = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (parent + 20, before[1]))
    try:
        trees.remove(parent, "d")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        os.close(parent)
    assert os.listdir(tmp_path) == []


def test_a_link_in_the_place_of_a_directory_is_not_followed(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody exchanges a directory of the volume for a link between its making and its filling."""
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    original = copyup.openat2

    def exchange(directory: int, path: str, flags: int, **keywords: int) -> int:
        place = target / "sub"
        if place.is_dir() and not place.is_symlink() and path.endswith("/sub"):
            place.rmdir()
            place.symlink_to(outside)
        return original(directory, path, flags, **keywords)

    monkeypatch.setattr(copyup, "openat2", exchange)
    with pytest.raises(OSError, match="sub") as caught:
        copy(image, target)
    assert caught.value.errno in {errno.ELOOP, errno.ENOTDIR}
    assert os.listdir(outside) == []


async def test_the_first_container_fills_a_volume_and_the_second_finds_it_filled(volumes: Volumes, image: Path) -> None:
    path = Path((await volumes.create("data"))["Mountpoint"])
    fd = os.open(image, os.O_PATH | os.O_DIRECTORY)
    try:
        assert await volumes.populate("data", fd)
        (path / "file").write_text("changed")
        assert not await volumes.populate("data", fd)
        assert (path / "file").read_text() == "changed"
    finally:
        os.close(fd)


async def test_a_copy_that_fails_leaves_nothing(volumes: Volumes, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = (await volumes.create("data"))["Mountpoint"]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fd = os.open(image, os.O_PATH | os.O_DIRECTORY)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(copyup, "_copy_data", full)
            with pytest.raises(SystemFailure, match="failed to populate volume data: no space left on device"):
                await volumes.populate("data", fd)
        assert os.listdir(path) == []
        assert await volumes.populate("data", fd)
        assert snapshot(Path(path)) == snapshot(image)
    finally:
        os.close(fd)


def test_a_copy_that_was_killed_is_begun_anew(image: Path, tmp_path: Path) -> None:
    async def fill() -> str:
        volumes = await Volumes.open(tmp_path / "volumes")
        path: str = (await volumes.create("data"))["Mountpoint"]
        fd = os.open(image, os.O_PATH | os.O_DIRECTORY)
        try:
            assert await volumes.populate("data", fd)
        finally:
            os.close(fd)
            await volumes.close()
        return path

    pid = os.fork()
    if pid == 0:
        left = 3
        original = os.utime

        def die(*arguments: object, **keywords: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            original(*arguments, **keywords)  # type: ignore[arg-type]

        os.utime = die  # type: ignore[assignment]
        try:
            asyncio.run(fill())
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert os.listdir(tmp_path / "volumes" / "data" / "_data")
    assert snapshot(Path(asyncio.run(fill()))) == snapshot(image)


# --- a place inside a volume


def test_a_subpath_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to("/a")
    (tmp_path / "up").symlink_to("../../../../../../a")
    for subpath in ("a", "absolute", "up", "./a/"):
        fd = open_subpath(str(tmp_path), subpath)
        assert os.fstat(fd).st_ino == (tmp_path / "a").stat().st_ino
        os.close(fd)
    (tmp_path / "out").symlink_to("/etc/passwd")
    with pytest.raises(InvalidParameter, match=r"cannot access path .*/out: no such file or directory"):
        open_subpath(str(tmp_path), "out")


@pytest.mark.parametrize("subpath", ["/a", "../a", "a/../../b", "a\0b"])
def test_a_subpath_is_relative(tmp_path: Path, subpath: str) -> None:
    with pytest.raises(InvalidParameter, match="subpath must be a relative path within the volume"):
        open_subpath(str(tmp_path), subpath)


def test_a_missing_subpath_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"cannot access path .*/none: no such file or directory"):
        open_subpath(str(tmp_path), "none")
