"""Volumes on a real disk: their life, their users, and what a kill at any moment leaves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from windlass.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from windlass.volumes import Volumes, local
from windlass.volumes.records import Record, Records


@pytest.fixture
async def volumes(tmp_path: Path) -> AsyncIterator[Volumes]:
    opened = await Volumes.open(tmp_path / "volumes")
    yield opened
    await opened.close()


def left_over(root: Path) -> list[str]:
    return [name for name in os.listdir(root / "volumes") if name.startswith(".")]


async def test_a_volume_as_the_api_shows_it(volumes: Volumes, tmp_path: Path) -> None:
    made = await volumes.create("data", labels={"a": "b"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made.pop("CreatedAt"))
    assert made == {
        "Driver": "local",
        "Labels": {"a": "b"},
        "Mountpoint": f"{tmp_path}/volumes/data/_data",
        "Name": "data",
        "Options": None,
        "Scope": "local",
    }
    assert os.path.isdir(f"{tmp_path}/volumes/data/_data")
    assert os.stat(tmp_path / "volumes").st_mode & 0o777 == 0o701


async def test_a_volume_without_a_name_is_anonymous(volumes: Volumes) -> None:
    made = await volumes.create(labels={"x": "y"})
    assert re.fullmatch("[0-9a-f]{64}", made["Name"])
    assert made["Labels"] == {"x": "y", "com.docker.volume.anonymous": ""}
    assert volumes.is_anonymous(made["Name"])


async def test_creating_twice_returns_the_first(volumes: Volumes) -> None:
    first = await volumes.create("data", labels={"a": "b"})
    assert await volumes.create("data", "local", labels={"other": "label"}) == first


async def test_many_at_once_make_one(volumes: Volumes) -> None:
    made = await asyncio.gather(*(volumes.create("data", labels={"n": str(n)}) for n in range(10)))
    assert all(one == made[0] for one in made)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("a/b",), InvalidParameter, 'create a/b: "a/b" includes invalid characters'),
        (("x",), InvalidParameter, "create x: volume name is too short"),
        (("data", "nfs"), NotFound, 'create data: error looking up volume plugin nfs: plugin "nfs" not found'),
        (("data", "", {"colour": "red"}), InvalidParameter, 'create data: invalid option: "colour"'),
        (("data", "local", {"size": "1g"}), InvalidParameter, "create data: quota size requested but no quota support"),
    ],
)
async def test_what_cannot_be_made(
    volumes: Volumes, tmp_path: Path, arguments: tuple[str, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        await volumes.create(*arguments)
    assert volumes.list() == []
    assert os.listdir(tmp_path / "volumes") == []


async def test_a_name_is_of_one_driver(volumes: Volumes) -> None:
    await volumes.create("data")
    with pytest.raises(Conflict, match="create data: conflict: volume name must be unique"):
        await volumes.create("data", "other")


async def test_a_missing_volume(volumes: Volumes) -> None:
    for call in (volumes.inspect, volumes.is_anonymous):
        with pytest.raises(NotFound, match=r"^get nope: no such volume$"):
            call("nope")
    with pytest.raises(NotFound, match="get nope: no such volume"):
        await volumes.remove("nope")
    await volumes.remove("nope", force=True)
    with pytest.raises(NotFound):
        await volumes.mount("nope", "c1")


async def test_a_volume_in_use_is_not_removed(volumes: Volumes) -> None:
    await volumes.create("data")
    volumes.refer("data", "c2")
    volumes.refer("data", "c1")
    with pytest.raises(Conflict, match=re.escape("remove data: volume is in use - [c1, c2]")):
        await volumes.remove("data", force=True)
    volumes.release("data", "c1")
    volumes.release("data", "c2")
    volumes.release("data", "c3")
    await volumes.mount("data", "c4")
    with pytest.raises(Conflict, match=re.escape("[c4]")):
        await volumes.remove("data")
    await volumes.unmount("data", "c4")
    await volumes.remove("data")
    assert "data" not in volumes


async def test_removal_takes_the_data_and_nothing_else(volumes: Volumes, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "kept").write_text("kept")
    data = Path((await volumes.create("data"))["Mountpoint"])
    deep = data
    for index in range(30):
        deep = deep / f"d{index}"
        deep.mkdir()
        (deep / "file").write_text("x")
        (deep / "link").symlink_to(outside)
    (data / "absolute").symlink_to("/")
    deep.chmod(0)
    await volumes.remove("data")
    assert os.listdir(tmp_path / "volumes") == []
    assert (outside / "kept").read_text() == "kept"


async def test_filters(volumes: Volumes) -> None:
    await volumes.create("one", labels={"tier": "db"})
    await volumes.create("two")
    volumes.refer("two", "c1")
    assert [volume["Name"] for volume in volumes.list()] == ["one", "two"]
    assert [volume["Name"] for volume in volumes.list({"dangling": ["true"]})] == ["one"]
    assert [volume["Name"] for volume in volumes.list({"label": ["tier=db"]})] == ["one"]
    assert [volume["Name"] for volume in volumes.list({"name": ["tw"]})] == ["two"]


async def test_prune_takes_what_nobody_named_and_nobody_uses(volumes: Volumes) -> None:
    named = (await volumes.create("named"))["Name"]
    used = (await volumes.create())["Name"]
    volumes.refer(used, "c1")
    unused = await volumes.create()
    Path(unused["Mountpoint"], "file").write_bytes(b"x" * 1000)
    assert await volumes.prune() == {"VolumesDeleted": [unused["Name"]], "SpaceReclaimed": 1000}
    assert await volumes.prune() == {"VolumesDeleted": None, "SpaceReclaimed": 0}
    assert (await volumes.prune({"all": ["true"]}))["VolumesDeleted"] == [named]
    assert [volume["Name"] for volume in volumes.list()] == [used]


async def test_usage_counts_each_inode_once(volumes: Volumes) -> None:
    data = Path((await volumes.create("data"))["Mountpoint"])
    (data / "file").write_bytes(b"x" * 1000)
    (data / "sub").mkdir()
    os.link(data / "file", data / "sub" / "same")
    (data / "link").symlink_to("/")
    volumes.refer("data", "c1")
    (found,) = await volumes.usage()
    assert found["UsageData"] == {"Size": 1001, "RefCount": 1}


async def test_volumes_are_found_again(tmp_path: Path) -> None:
    first = await Volumes.open(tmp_path / "volumes")
    made = [await first.create("data", labels={"a": "b"}), await first.create()]
    await first.close()
    second = await Volumes.open(tmp_path / "volumes")
    assert sorted(volume["Name"] for volume in second.list()) == sorted(volume["Name"] for volume in made)
    assert second.inspect("data") == made[0]
    await second.restore({"data": ["c1"], "gone": ["c2"]}, {"data": ["c1"]})
    assert second.users("data") == ["c1"]
    await second.close()


async def test_data_is_not_dropped_for_want_of_a_record(tmp_path: Path) -> None:
    root = tmp_path / "volumes"
    for name in ("foreign", "torn", "not a name"):
        (root / name / "_data").mkdir(parents=True)
    (root / "torn" / "volume.json").write_text('{"labels": {"a"')
    (root / "no-data").mkdir()
    volumes = await Volumes.open(root)
    assert [volume["Name"] for volume in volumes.list()] == ["foreign", "torn"]
    assert (root / "not a name").exists()
    await volumes.close()


async def test_a_full_disk_is_said_and_leaves_nothing(
    volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "volume.json")

    monkeypatch.setattr(Records, "_write", full)
    with pytest.raises(SystemFailure, match=r"create data: volume.json: no space left on device"):
        await volumes.create("data")
    assert os.listdir(tmp_path / "volumes") == []


# --- killed at any moment


@pytest.mark.parametrize("step", range(1, 40))
async def test_a_kill_at_any_system_call_leaves_volumes_whole(tmp_path: Path, step: int) -> None:
    """A child makes and removes volumes and is killed at its `step`-th call that changes the disk."""
    pid = os.fork()
    if pid == 0:
        try:
            _kill_at(step)
            records = Records(str(tmp_path / "volumes"))
            records.open()
            for name in ("first", "second", "third"):
                records.create(Record(name=name, labels={"name": name}, created="2026-01-01T00:00:00Z"))
                with open(f"{records.data(name)}/file", "w") as file:
                    file.write("x")
            records.discard(records.detach("second"))
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    volumes = await Volumes.open(tmp_path / "volumes")
    names = [volume["Name"] for volume in volumes.list()]
    assert names in (
        [],
        ["first"],
        ["first", "second"],
        ["first", "second", "third"],
        ["first", "third"],
    )
    for volume in volumes.list():
        assert volume["Labels"] == {"name": volume["Name"]}
        assert os.path.isdir(volume["Mountpoint"])
    assert left_over(tmp_path) == []
    if status == 0:
        assert names == ["first", "third"]
    await volumes.close()


def _kill_at(step: int) -> None:
    """From now on: count the calls that change the disk, and die at the given one."""
    left = step

    def counted(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: object, **keywords: object) -> object:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)

        setattr(os, name, call)

    for name in ("mkdir", "rename", "write", "unlink", "rmdir", "fsync", "open"):
        counted(name)


# --- file systems of their own


@pytest.mark.root
async def test_a_tmpfs_is_mounted_for_the_first_user_and_unmounted_after_the_last(volumes: Volumes) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=1777,nosuid"}
    path = (await volumes.create("cache", driver_opts=options))["Mountpoint"]
    assert volumes.inspect("cache")["Options"] == options
    assert not local.is_mounted(path)
    for container in ("c1", "c2", "c1"):
        assert await volumes.mount("cache", container) == path
    assert os.statvfs(path).f_blocks * os.statvfs(path).f_frsize == 1 << 20
    assert len(local.mounts_below(path)) == 1
    with pytest.raises(Conflict, match="in use"):
        await volumes.remove("cache")
    for container in ("c1", "c1", "nobody"):
        await volumes.unmount("cache", container)
    assert local.is_mounted(path)
    await volumes.unmount("cache", "c2")
    assert not local.is_mounted(path)
    await volumes.remove("cache")


@pytest.mark.root
async def test_a_bind_shows_a_directory_of_the_host_and_outlives_the_volume(volumes: Volumes, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("theirs")
    made = await volumes.create("bound", driver_opts={"type": "none", "device": str(source), "o": "bind,ro"})
    path = await volumes.mount("bound", "c1")
    assert Path(path, "file").read_text() == "theirs"
    with pytest.raises(OSError, match="Read-only"):
        Path(path, "file").write_text("ours")
    assert (await volumes.usage())[0]["UsageData"]["Size"] == -1
    await volumes.unmount("bound", "c1")
    await volumes.remove("bound")
    assert not os.path.exists(made["Mountpoint"])
    assert (source / "file").read_text() == "theirs"


@pytest.mark.root
async def test_a_mount_that_fails_says_so_as_dockerd_does(volumes: Volumes) -> None:
    options = {"type": "none", "device": "/does/not/exist", "o": "bind"}
    path = (await volumes.create("bad", driver_opts=options))["Mountpoint"]
    with pytest.raises(SystemFailure) as caught:
        await volumes.mount("bad", "c1")
    assert str(caught.value) == (
        f"error while mounting volume '{path}': failed to mount local volume: "
        f"mount /does/not/exist:{path}, flags: 0x1000: no such file or directory"
    )
    assert volumes.users("bad") == []
    await volumes.create("odd", driver_opts={"type": "nofs", "device": "x"})
    with pytest.raises(SystemFailure, match="no such device"):
        await volumes.mount("odd", "c1")


@pytest.mark.root
async def test_a_server_without_an_address_is_an_error(volumes: Volumes) -> None:
    options = {"type": "nfs", "device": ":/x", "o": "addr=no such host"}
    await volumes.create("remote", driver_opts=options)
    with pytest.raises(InvalidParameter, match="error resolving passed in network volume address: lookup no such host"):
        await volumes.mount("remote", "c1")


@pytest.mark.root
async def test_after_a_restart_mounts_stay_for_running_containers_only(tmp_path: Path) -> None:
    first = await Volumes.open(tmp_path / "volumes")
    options = {"type": "tmpfs", "device": "tmpfs"}
    paths = []
    for name in ("used", "unused"):
        await first.create(name, driver_opts=options)
        paths.append(await first.mount(name, "c1"))
    Path(paths[0], "file").write_text("x")
    await first.close()
    second = await Volumes.open(tmp_path / "volumes")
    await second.restore({"used": ["c1"], "unused": ["c1"]}, {"used": ["c1"]})
    assert [local.is_mounted(path) for path in paths] == [True, False]
    assert await second.mount("used", "c2") == paths[0]
    assert Path(paths[0], "file").read_text() == "x"
    await second.unmount("used", "c1")
    await second.unmount("used", "c2")
    assert not local.is_mounted(paths[0])
    await second.close()


@pytest.mark.root
async def test_a_foreign_mount_inside_keeps_a_volume_from_being_removed(volumes: Volumes, tmp_path: Path) -> None:
    source = tmp_path / "precious"
    source.mkdir()
    (source / "file").write_text("precious")
    path = Path((await volumes.create("data"))["Mountpoint"])
    (path / "inner").mkdir()
    local.mount(local_bind(source), str(path / "inner"))
    try:
        with pytest.raises(Conflict, match=f"remove data: volume is in use - mounted: {path}/inner"):
            await volumes.remove("data")
        assert (source / "file").read_text() == "precious"
    finally:
        local.unmount(str(path / "inner"))
    await volumes.remove("data")


def local_bind(source: Path) -> local.LocalMount:
    return local.LocalMount(type="none", device=str(source), options=("bind",))


async def test_a_caller_that_goes_away_does_not_part_disk_and_memory(volumes: Volumes) -> None:
    tasks = [asyncio.create_task(volumes.create(f"volume-{number}")) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    on_disk = sorted(os.listdir(os.path.dirname(os.path.dirname(volumes._records.data("x")))))
    assert on_disk == [volume["Name"] for volume in volumes.list()]
