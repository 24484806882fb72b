"""The store as the engine uses it: import, tag, list, root file systems, commit, and back after a restart."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support import imagestore, tars
from support.imagestore import collected, container_root, reference, state, stream
from support.tars import archive, member, symlink
from windlass.errors import Conflict, InvalidParameter, NotFound, NotImplementedByEngine
from windlass.images import Images
from windlass.images.archive.pack import pack_tree

pytestmark = pytest.mark.root

PASSWD = b"root:x:0:0::/:/bin/sh\n"
ROOT = archive(
    member("bin/", mode=0o755),
    member("bin/sh", b"#!", mode=0o755),
    member("etc/", mode=0o755),
    member("etc/passwd", PASSWD),
)


@pytest.fixture(params=["overlay2", "vfs"])
async def images(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Images]:
    images = await Images.open(tmp_path / "images", driver=request.param)
    yield images
    await images.close()


async def make(images: Images, name: str = "base:1", data: bytes = ROOT, **options: Any) -> Any:
    return await images.import_(stream(data), reference=reference(name), **options)


async def test_an_archive_becomes_an_image(images: Images) -> None:
    image = await make(images, message="from a test", changes=['CMD ["sh"]', "ENV A=b", "LABEL k=v"])
    assert image.repo_tags == ["base:1"]
    assert images.resolve("base:1").id == image.id == images.resolve(image.id[7:19]).id
    found = images.inspect("base:1")
    assert found["Config"]["Cmd"] == ["sh"]
    assert found["Config"]["Env"] == ["A=b"]
    assert found["Comment"] == "from a test"
    assert found["Size"] == len(b"#!") + len(PASSWD)
    assert found["RootFS"]["Layers"] == image.diff_ids
    assert found["Os"] == "linux"
    assert images.history("base:1")[0]["Comment"] == "from a test"
    assert [one["RepoTags"] for one in images.summaries()] == [["base:1"]]


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: data], ids=["gzip", "plain"])
async def test_the_diff_id_is_that_of_the_plain_archive(images: Images, pack: Any) -> None:
    import hashlib

    image = await make(images, data=pack(ROOT))
    assert image.diff_ids == [f"sha256:{hashlib.sha256(ROOT).hexdigest()}"]


async def test_the_same_archive_twice_shares_its_layer(images: Images) -> None:
    one = await make(images, "one:1")
    two = await make(images, "two:1", changes=["ENV A=b"])
    assert one.id != two.id
    assert one.chain == two.chain
    await images.remove("one:1", in_use={})
    assert images.resolve("two:1").id == two.id
    await images.create_rootfs("c", two.id, storage_opt={})
    assert imagestore.read(images, "c", "/etc/passwd").startswith(b"root")


async def test_a_name_moves_to_the_image_that_gets_it(images: Images) -> None:
    one, two = await make(images, "x:1"), await make(images, "x:1", changes=["ENV A=b"])
    assert images.resolve("x:1").id == two.id
    assert images.resolve(one.id).repo_tags == []
    await images.tag(one, reference("x:1"))
    assert images.resolve("x:1").id == one.id


BROKEN = {
    "an escape": archive(member("ok", b"x"), symlink("l", ".."), member("l/x", b"x")),
    "truncated": ROOT[:1500],
    "without an end": ROOT[: -1024 - 512],
    "noise": os.urandom(5000),
    "a truncated gzip": gzip.compress(ROOT)[:-3],
    "garbage behind gzip": gzip.compress(ROOT) + b"garbage",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_failed_import_leaves_the_store_as_it_was(images: Images, name: str) -> None:
    await make(images)
    before = state(images)
    with pytest.raises(InvalidParameter):
        await make(images, "bad:1", BROKEN[name])
    assert state(images) == before
    with pytest.raises(InvalidParameter):
        await make(images, "bad:1", changes=["FROM x"])
    assert state(images) == before


async def test_an_import_that_is_cancelled_leaves_nothing(images: Images) -> None:
    before = state(images)
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield ROOT[:2000]
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(images.import_(endless(), reference=reference("bad:1")))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert state(images) == before


async def test_a_client_that_goes_away_leaves_nothing(images: Images) -> None:
    before = state(images)

    async def broken() -> AsyncIterator[bytes]:
        yield ROOT[:2000]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await images.import_(broken(), reference=reference("bad:1"))
    assert state(images) == before


async def test_a_fresh_container_has_no_changes_but_all_mount_points(images: Images) -> None:
    image = await make(images)
    await images.create_rootfs("c", image.id, storage_opt={})
    assert await images.changes("c") == []
    assert await images.rootfs_usage("c") == (0, image.size)
    with container_root(images, "c") as root:
        for path in ("dev/pts", "dev/shm", "proc", "sys"):
            assert (root / path).is_dir()
        for path in (".dockerenv", "dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf"):
            assert (root / path).is_file()
        assert os.readlink(root / "etc/mtab") == "/proc/mounts"
        assert (root / ".dockerenv").stat().st_mode & 0o777 == 0o755


async def test_mount_points_of_an_image_that_has_them_are_left_alone(images: Images) -> None:
    data = archive(
        member("etc/", mode=0o700, mtime=5),
        member("etc/hosts", b"mine", mode=0o600),
        symlink("etc/mtab", "elsewhere"),
        member("proc/", mode=0o111),
    )
    image = await make(images, data=data)
    await images.create_rootfs("c", image.id, storage_opt={})
    with container_root(images, "c") as root:
        assert (root / "etc/hosts").read_text() == "mine"
        assert os.readlink(root / "etc/mtab") == "elsewhere"
        assert stat.S_IMODE((root / "proc").stat().st_mode) == 0o111
        assert stat.S_IMODE((root / "etc").stat().st_mode) == 0o700


HOSTILE = {
    "links to the host": archive(symlink("etc", "/../../tmp/windlass-victim"), symlink("dev", "/proc/1/root/tmp")),
    "links in circles": archive(symlink("etc", "dev"), symlink("dev", "etc")),
    "files in the way": archive(member("etc", b"x"), member("dev", b"x"), member("proc", b"x"), member("sys", b"x")),
    "devices in the way": archive(member("proc", kind=b"3", device=(1, 3)), member(".dockerenv", kind=b"6")),
    "links to nothing": archive(symlink("etc", "nowhere/at/all"), symlink(".dockerenv", "/etc/x")),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_mount_points_are_made_inside_a_hostile_image_only(images: Images, name: str, tmp_path: Path) -> None:
    image = await make(images, data=HOSTILE[name])
    await images.create_rootfs("c", image.id, storage_opt={})
    assert await images.changes("c") == []
    assert not os.path.lexists("/tmp/windlass-victim")


async def test_a_container_without_an_image(images: Images) -> None:
    await images.create_rootfs("c", None, storage_opt={})
    with container_root(images, "c") as root:
        (root / "file").write_text("x")
    assert await images.changes("c") == [{"Path": "/file", "Kind": 1}]


async def test_what_can_go_wrong_with_a_root(images: Images) -> None:
    image = await make(images)
    await images.create_rootfs("c", image.id, storage_opt={})
    with pytest.raises(Conflict):
        await images.create_rootfs("c", image.id, storage_opt={})
    with pytest.raises(NotFound):
        await images.create_rootfs("d", "sha256:" + "0" * 64, storage_opt={})
    with pytest.raises(InvalidParameter):
        await images.create_rootfs("d", image.id, storage_opt={"size": "1G"})
    await images.remove_rootfs("c")
    await images.remove_rootfs("c")
    with pytest.raises(NotFound):
        images.rootfs_mounts("c")


async def commit(images: Images, name: str, base: Any, text: str, **options: Any) -> Any:
    await images.create_rootfs(name, base.id, storage_opt={})
    with container_root(images, name) as root:
        (root / "etc/new").write_text(text)
        (root / "etc/passwd").unlink(missing_ok=True)
    return await images.commit(name, base.id, config={"Cmd": ["sh"]}, reference=reference(f"{name}:1"), **options)


async def test_a_container_becomes_an_image(images: Images) -> None:
    base = await make(images)
    image = await commit(images, "c", base, "new", comment="why", author="me", changes=["USER 5"])
    assert image.parent == base.id
    assert image.chain[0] == base.chain[0] and len(image.chain) == 2
    found = images.inspect("c:1")
    assert (found["Comment"], found["Author"], found["Parent"]) == ("why", "me", base.id)
    assert found["Config"]["User"] == "5"
    assert [step["Comment"] for step in images.history("c:1")] == ["why", "Imported from -"]
    await images.create_rootfs("d", image.id, storage_opt={})
    assert await images.changes("d") == []
    with container_root(images, "d") as root:
        assert (root / "etc/new").read_text() == "new"
        assert not (root / "etc/passwd").exists()
        assert (root / "bin/sh").exists()
    names = exported_names(images, "d")
    assert "etc/new" in names
    assert "etc/passwd" not in names


def exported_names(images: Images, name: str) -> list[str]:
    """The names of a container's export."""
    with container_root(images, name) as root:
        fd = os.open(root / ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            return tars.names(b"".join(pack_tree(fd)))
        finally:
            os.close(fd)


async def test_usage_counts_shared_layers_once(images: Images) -> None:
    base = await make(images)
    await commit(images, "c", base, "x" * 1000)
    usage = await images.usage({})
    assert usage["LayersSize"] == base.size + 1000
    sizes = {one["RepoTags"][0]: (one["Size"], one["SharedSize"]) for one in usage["Images"]}
    assert sizes == {"base:1": (base.size, base.size), "c:1": (base.size + 1000, base.size)}


async def test_everything_is_there_after_a_restart(images: Images) -> None:
    image = await make(images)
    await images.create_rootfs("kept", image.id, storage_opt={})
    with container_root(images, "kept") as root:
        (root / "file").write_text("kept")
    await images.create_rootfs("stranger", image.id, storage_opt={})
    before = state(images)
    await images.close()
    again = await Images.open(images.root)
    assert again.driver_name == images.driver_name, "the driver that has the images"
    assert state(again) == before
    await again.reconcile(["kept"])
    assert again.roots.names() == ["kept"]
    assert imagestore.read(again, "kept", "/file") == b"kept"
    await again.close()


async def test_the_store_is_an_oci_layout(images: Images) -> None:
    image = await make(images)
    assert json.loads((images.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((images.root / "index.json").read_text())
    assert [one["digest"] for one in index["manifests"]] == [image.manifest["digest"]]
    manifest = json.loads(images.content.read(image.manifest["digest"]))
    assert manifest["config"]["digest"] == image.id
    await images.remove("base:1", in_use={})
    assert json.loads((images.root / "index.json").read_text())["manifests"] == []


async def test_removing_an_image_removes_all_of_it(images: Images) -> None:
    before = state(images)
    image = await make(images)
    done = await images.remove("base:1", in_use={})
    assert done == [{"Untagged": "base:1"}, {"Deleted": image.id}, {"Deleted": image.chain[0]}]
    assert state(images) == before


async def test_layers_stay_while_a_container_stands_on_them(images: Images) -> None:
    image = await make(images)
    await images.create_rootfs("c", image.id, storage_opt={})
    await images.remove("base:1", force=True, in_use={})
    assert images.list() == []
    assert imagestore.read(images, "c", "/etc/passwd").startswith(b"root")
    await images.remove_rootfs("c")
    await images.reconcile([])
    async with images.hold():
        pass
    assert [info for info in images.driver.walk() if info.name != "empty-init"] == []


async def test_nothing_is_collected_while_somebody_holds(images: Images) -> None:
    async with images.hold():
        digest = images.content.add(b"a document of somebody's")
        await make(images, "x:1")
        await images.remove("x:1", in_use={})
        assert images.content.has(digest)
    assert not images.content.has(digest)


async def test_many_at_once(images: Images) -> None:
    async def one(number: int) -> None:
        image = await make(images, f"n{number}:1", archive(member(f"f{number % 3}", b"x" * 1000)))
        await images.create_rootfs(f"c{number}", image.id, storage_opt={})
        await images.remove_rootfs(f"c{number}")
        await images.remove(f"n{number}:1", in_use={})

    await asyncio.gather(*(one(number) for number in range(12)))
    assert images.list() == []
    async with images.hold():
        pass
    assert list(images.content.all()) == []


async def test_directories_that_a_layer_only_passes_look_as_below(images: Images) -> None:
    below = archive(member("./", mode=0o711, uid=3), member("tmp/", mode=0o1777), member("tmp/x"))
    base = await make(images, data=below)
    async with images.hold():
        made = images.layers.make([archive(member("tmp/new", b"x"))], base.diff_ids)
        config = dict(base.config) | {"rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, made.diff_id]}}
        image = images.add(config, [*base.record.layers, made])
    await images.create_rootfs("c", image.id, storage_opt={})
    with container_root(images, "c") as root:
        assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
        assert (stat.S_IMODE((root / ".").stat().st_mode), (root / ".").stat().st_uid) == (0o711, 3)


async def test_damage_is_found(images: Images) -> None:
    image = await make(images)
    assert await images.fsck() == []
    blob = images.content.path(image.record.layers[0].blob)
    data = bytearray(blob.read_bytes())
    data[50] ^= 1
    blob.write_bytes(data)
    assert await images.fsck(thorough=False) == []
    assert await images.fsck() == [f"blob {image.record.layers[0].blob} is damaged (image {image.id})"]
    blob.unlink()
    assert await images.fsck() == [f"blob {image.record.layers[0].blob} is missing (image {image.id})"]


async def test_drivers_are_chosen_by_name_or_by_what_works(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="unknown storage driver: zfs"):
        await Images.open(tmp_path / "a", driver="zfs")
    with pytest.raises(NotImplementedByEngine, match="btrfs storage driver does not work"):
        await Images.open(tmp_path / "b", driver="btrfs")
    images = await Images.open(tmp_path / "c")
    assert images.driver_name == "overlay2"
    await images.close()
    images = await Images.open(tmp_path / "c", driver="overlay")
    assert images.driver_name == "overlay2"
    await images.close()


async def test_a_damaged_record_is_not_overwritten(tmp_path: Path) -> None:
    from windlass.errors import SystemFailure

    images = await Images.open(tmp_path / "a")
    await make(images)
    await images.close()
    (tmp_path / "a/records.json").write_text('{"version": 1, "images"')
    with pytest.raises(SystemFailure, match=r"records.json is damaged"):
        await Images.open(tmp_path / "a")
    assert (tmp_path / "a/records.json").read_text() == '{"version": 1, "images"'


async def test_a_full_disk_is_said_and_leaves_the_store_usable(tmp_path: Path) -> None:
    from windlass.errors import SystemFailure

    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", point], check=True)
    try:
        images = await Images.open(point / "images")
        await make(images)
        before = state(images)
        with pytest.raises(SystemFailure, match="No space left on device"):
            await make(images, "big:1", archive(member("big", os.urandom(5_000_000))))
        assert state(images) == before
        await make(images, "small:1", archive(member("small", b"x")))
        await images.close()
    finally:
        subprocess.run(["umount", point], check=True)


async def test_export_of_a_container_is_an_archive_of_its_root(images: Images) -> None:
    image = await make(images)
    await images.create_rootfs("c", image.id, storage_opt={})
    with container_root(images, "c") as root:
        fd = os.open(root / ".", os.O_RDONLY | os.O_DIRECTORY)
        exported = b"".join(pack_tree(fd))
        os.close(fd)
    again = await make(images, "again:1", exported)
    await images.create_rootfs("d", again.id, storage_opt={})
    assert await images.changes("d") == []
    assert imagestore.read(images, "d", "/etc/passwd") == imagestore.read(images, "c", "/etc/passwd")


async def test_saved_bytes_are_the_same_each_time(images: Images) -> None:
    await make(images)
    assert await collected(images.save(["base:1"])) == await collected(images.save(["base:1"]))
