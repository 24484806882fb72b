"""`save` and `load`: archives of ours, of docker's old and new forms, OCI layouts; and such as nobody should make."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from support import imagestore, tars
from support.imagestore import collected, loaded, reference, state, stream
from support.tars import archive, hard_link, member, symlink
from windlass.errors import InvalidParameter, NotFound, WindlassError
from windlass.images import Images
from windlass.oci.platform import host_platform

pytestmark = pytest.mark.root

BASE = archive(member("etc/", mode=0o755), member("etc/a", b"a"), member("etc/b", b"b"))
TOP = archive(member("etc/", mode=0o755), member("etc/.wh.a"), member("etc/c", b"c"))
ARCHITECTURE = host_platform().architecture


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config(*layers: bytes, architecture: str = ARCHITECTURE, **fields: Any) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}
    document = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": rootfs, **fields}
    return json.dumps(document).encode()


def old_docker_archive(tag: str = "old:1", *layers: bytes) -> dict[str, bytes]:
    """As docker up to version 24 has it: a directory for each layer."""
    layers = layers or (BASE, TOP)
    image = config(*layers)
    name = f"{digest(image)[7:]}.json"
    files = {name: image}
    for number, layer in enumerate(layers):
        files[f"{number:064x}/layer.tar"] = layer
        files[f"{number:064x}/json"] = b"{}"
        files[f"{number:064x}/VERSION"] = b"1.0"
    entry = {"Config": name, "RepoTags": [tag], "Layers": [f"{n:064x}/layer.tar" for n in range(len(layers))]}
    files["manifest.json"] = json.dumps([entry]).encode()
    files["repositories"] = b"{}"
    return files


def blob(data: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **fields}


MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def oci_image(
    *packed: tuple[bytes, str], plain: tuple[bytes, ...], **fields: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Manifest descriptor and blobs of an image with layers packed in some way."""
    image = config(*plain, **fields)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(image, "application/vnd.oci.image.config.v1+json"),
            "layers": [blob(data, f"application/vnd.oci.image.layer.v1.tar{suffix}") for data, suffix in packed],
        }
    ).encode()
    blobs = {f"blobs/sha256/{digest(data)[7:]}": data for data in (image, manifest, *(data for data, _ in packed))}
    platform = {"architecture": fields.get("architecture", ARCHITECTURE), "os": "linux"}
    return blob(manifest, MANIFEST, platform=platform), blobs


def oci_layout(name: str = "docker.io/library/oci:1", **kinds: Any) -> dict[str, bytes]:
    layers = ((gzip.compress(BASE, mtime=0), "+gzip"), (zstandard.compress(TOP), "+zstd"))
    descriptor, blobs = oci_image(*layers, plain=(BASE, TOP))
    descriptor["annotations"] = {"io.containerd.image.name": name}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}
    return {**blobs, "index.json": json.dumps(index).encode(), "oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}


@pytest.fixture(params=["overlay2", "vfs"])
async def images(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Images]:
    images = await Images.open(tmp_path / "images", driver=request.param)
    yield images
    await images.close()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Images]:
    images = await Images.open(tmp_path / "other")
    yield images
    await images.close()


async def contents(images: Images, name: str) -> dict[str, bytes]:
    """The files of an image."""
    image = images.resolve(name)
    await images.create_rootfs("look", image.id, storage_opt={})
    found = {}
    for path in ("etc/a", "etc/b", "etc/c"):
        try:
            found[path] = imagestore.read(images, "look", path)
        except FileNotFoundError:
            pass
    assert await images.changes("look") == []
    await images.remove_rootfs("look")
    return found


EXPECTED = {"etc/b": b"b", "etc/c": b"c"}


async def test_an_old_docker_archive(images: Images) -> None:
    assert await loaded(images, tars.files(old_docker_archive())) == ["Loaded image: old:1"]
    image = images.resolve("old:1")
    assert image.id == digest(config(BASE, TOP)), "the ID is the digest of the configuration"
    assert image.diff_ids == [digest(BASE), digest(TOP)]
    assert await contents(images, "old:1") == EXPECTED


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstandard.compress], ids=["gzip", "xz", "zstd"])
async def test_archive_and_layers_may_be_compressed(images: Images, pack: Any) -> None:
    files = old_docker_archive()
    files = {name: pack(data) if name.endswith("layer.tar") else data for name, data in files.items()}
    assert await loaded(images, pack(tars.files(files))) == ["Loaded image: old:1"]
    assert await contents(images, "old:1") == EXPECTED


async def test_links_in_an_archive_stand_for_files_in_it(images: Images) -> None:
    """docker wrote a layer that occurs twice as a link."""
    files = old_docker_archive("twice:1", BASE, TOP, BASE)
    third = f"{2:064x}/layer.tar"
    del files[third]
    members = [member(name, data) for name, data in files.items()]
    for link in (symlink(third, f"../{0:064x}/layer.tar"), hard_link(third, f"{0:064x}/layer.tar")):
        await loaded(images, archive(*members, link))
        assert await contents(images, "twice:1") == {"etc/a": b"a", "etc/b": b"b", "etc/c": b"c"}
        await images.remove("twice:1", in_use={})


async def test_an_oci_layout_keeps_its_digests(images: Images) -> None:
    files = oci_layout()
    assert await loaded(images, tars.files(files)) == ["Loaded image: oci:1"]
    image = images.resolve("oci:1")
    index = json.loads(files["index.json"])
    assert image.manifest["digest"] == index["manifests"][0]["digest"]
    assert await contents(images, "oci:1") == EXPECTED


async def test_of_several_platforms_the_fitting_one_is_taken(images: Images) -> None:
    layer = (gzip.compress(BASE, mtime=0), "+gzip")
    ours, blobs = oci_image(layer, plain=(BASE,))
    foreign, more = oci_image(layer, plain=(BASE,), architecture="s390x")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [foreign, ours]}).encode()
    top = {
        "schemaVersion": 2,
        "manifests": [blob(index, INDEX, annotations={"org.opencontainers.image.ref.name": "multi:1"})],
    }
    files = {**blobs, **more, f"blobs/sha256/{digest(index)[7:]}": index, "index.json": json.dumps(top).encode()}
    await loaded(images, tars.files(files))
    assert images.resolve("multi:1").platform.architecture == ARCHITECTURE
    await loaded(images, tars.files(files), platform="linux/s390x")
    assert images.resolve("multi:1").platform.architecture == "s390x"
    with pytest.raises(NotFound):
        await loaded(images, tars.files(files), platform="linux/riscv64")


async def test_an_image_without_a_name(images: Images) -> None:
    files = old_docker_archive()
    document = json.loads(files["manifest.json"])
    document[0]["RepoTags"] = None
    files["manifest.json"] = json.dumps(document).encode()
    assert await loaded(images, tars.files(files)) == [f"Loaded image ID: {digest(config(BASE, TOP))}"]


async def test_progress_has_dockers_shape(images: Images) -> None:
    messages = [message async for message in images.load(stream(tars.files(old_docker_archive())))]
    layers = [message for message in messages if message.get("status") == "Loading layer"]
    assert layers and all({"id", "progressDetail", "progress"} <= set(message) for message in layers)
    quiet = [message async for message in images.load(stream(tars.files(old_docker_archive("b:1"))), quiet=True)]
    assert quiet == [{"stream": "Loaded image: b:1\n"}]


async def imported(images: Images, name: str, data: bytes = BASE, **options: Any) -> Any:
    return await images.import_(stream(data), reference=reference(name), **options)


async def test_what_is_saved_is_loaded_with_the_same_ids_and_digests(images: Images, other: Images) -> None:
    await loaded(images, tars.files(oci_layout()))
    await imported(images, "mine:1", changes=["ENV A=b"])
    saved = await collected(images.save(["oci:1", "mine:1"]))
    assert await loaded(other, saved) == ["Loaded image: oci:1", "Loaded image: mine:1"]
    for name in ("oci:1", "mine:1"):
        one, two = images.resolve(name), other.resolve(name)
        assert (one.id, one.manifest, one.chain) == (two.id, two.manifest, two.chain)
    assert await collected(other.save(["oci:1", "mine:1"])) == saved
    assert await contents(other, "oci:1") == EXPECTED


async def test_the_saved_archive_has_both_forms(images: Images) -> None:
    image = await imported(images, "mine:1")
    await images.tag(image, reference("mine:2"))
    files = tars.contents(await collected(images.save(["mine:1", "mine:2"])))
    entry = json.loads(files["manifest.json"])[0]
    assert entry["RepoTags"] == ["mine:1", "mine:2"]
    assert digest(files[entry["Config"]]) == image.id
    assert [digest(gzip.decompress(files[layer])) for layer in entry["Layers"]] == image.diff_ids
    index = json.loads(files["index.json"])
    assert [one["annotations"]["io.containerd.image.name"] for one in index["manifests"]] == [
        "docker.io/library/mine:1",
        "docker.io/library/mine:2",
    ]
    assert json.loads(files["repositories"])["mine"].keys() == {"1", "2"}
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


async def test_saving_what_is_not_there(images: Images) -> None:
    with pytest.raises(NotFound, match="No such image: missing:latest"):
        await collected(images.save(["missing"]))
    with pytest.raises(InvalidParameter):
        await collected(images.save([]))


async def test_a_saved_image_may_go_away_meanwhile(images: Images) -> None:
    import os

    await imported(images, "big:1", archive(member("big", os.urandom(3_000_000))))
    stream_ = images.save(["big:1"])
    first = await anext(stream_)  # type: ignore[call-overload]
    await images.remove("big:1", in_use={})
    rest = await collected(stream_)
    assert set(json.loads(tars.contents(first + rest)["manifest.json"])[0]["RepoTags"]) == {"big:1"}
    async with images.hold():
        pass
    assert list(images.content.all()) == []


async def test_loading_again_changes_nothing(images: Images) -> None:
    await loaded(images, tars.files(oci_layout()))
    before = state(images)
    await loaded(images, tars.files(oci_layout()))
    after = state(images)
    assert {key: after[key] for key in ("blobs", "snapshots", "names")} == {
        key: before[key] for key in ("blobs", "snapshots", "names")
    }


async def test_a_layer_that_is_here_already_is_used(images: Images) -> None:
    await imported(images, "base:1", BASE)
    await loaded(images, tars.files(old_docker_archive()))
    assert images.resolve("old:1").chain[0] == images.resolve("base:1").chain[0]
    assert await contents(images, "old:1") == EXPECTED


def changed(files: Mapping[str, bytes], **changes: Any) -> dict[str, bytes]:
    """A docker archive whose manifest.json says something else."""
    document = json.loads(files["manifest.json"])
    document[0] |= changes
    return {**files, "manifest.json": json.dumps(document).encode()}


def broken_archives() -> dict[str, bytes]:
    old, oci = old_docker_archive(), oci_layout()
    index = json.loads(oci["index.json"])
    name = next(iter(json.loads(old["manifest.json"])[0]["Layers"]))
    layer_name = next(n for n in oci if n.startswith("blobs/") and oci[n][:2] == b"\x1f\x8b")
    other_layer = gzip.compress(archive(member("evil", b"x")), mtime=0)
    escape = archive(symlink("l", ".."), member("l/x", b"x"))
    resized = json.loads(oci["index.json"])
    resized["manifests"][0]["size"] += 1
    both = {**json.loads(oci["index.json"]), "layers": []}
    missing = {**index, "manifests": [{**index["manifests"][0], "digest": digest(b"missing")}]}
    return {
        "nothing": b"",
        "no archive": b"x" * 2000,
        "an empty archive": archive(),
        "no manifest": tars.files({"x": b"y"}),
        "truncated": tars.files(old)[:-1500],
        "a manifest that is no JSON": tars.files({**old, "manifest.json": b"{["}),
        "a manifest that is no list": tars.files({**old, "manifest.json": b"{}"}),
        "a manifest with a number": tars.files({**old, "manifest.json": b"[1]"}),
        "a manifest without a configuration": tars.files({**old, "manifest.json": b"[{}]"}),
        "a configuration that is missing": tars.files(changed(old, Config="no.json")),
        "a configuration outside": tars.files(changed(old, Config="/etc/passwd")),
        "a configuration further outside": tars.files(changed(old, Config="../../../../etc/passwd")),
        "a layer that is missing": tars.files(changed(old, Layers=[name, "no/layer.tar"])),
        "a layer too few": tars.files(changed(old, Layers=[name])),
        "a layer too many": tars.files(changed(old, Layers=[name] * 3)),
        "another layer": tars.files(changed(old, Layers=[name, name])),
        "a bad name": tars.files(changed(old, RepoTags=["UPPER:1"])),
        "a layer that is no archive": tars.files({**old, name: b"not an archive" * 100}),
        "a layer that escapes": tars.files(old_docker_archive("evil:1", escape)),
        "a layer that is truncated": tars.files(old_docker_archive("evil:1", BASE[:-1024])),
        "a file twice": archive(*(member(n, d) for n, d in old.items()), member(name, TOP)),
        "a link to outside": archive(
            *(member(n, d) for n, d in old.items() if n != name), symlink(name, "/etc/passwd")
        ),
        "links in a circle": archive(*(member(n, d) for n, d in old.items() if n != name), symlink(name, "layer.tar")),
        "a blob with another content": tars.files({**oci, layer_name: other_layer}),
        "a blob that is missing": tars.files({n: d for n, d in oci.items() if n != layer_name}),
        "an index that names what is missing": tars.files({**oci, "index.json": json.dumps(missing).encode()}),
        "an index with another size": tars.files({**oci, "index.json": json.dumps(resized).encode()}),
        "an index that is a manifest, too": tars.files({**oci, "index.json": json.dumps(both).encode()}),
        "an index that is no JSON": tars.files({**oci, "index.json": b"["}),
        "another configuration's layers": _other_diff_ids(),
    }


def _other_diff_ids() -> bytes:
    """A manifest whose configuration says other diff IDs than its layers have."""
    descriptor, blobs = oci_image((gzip.compress(BASE, mtime=0), "+gzip"), plain=(TOP,))
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    return tars.files({**blobs, "index.json": json.dumps(index).encode()})


BROKEN = broken_archives()


@pytest.mark.parametrize("name", BROKEN)
async def test_a_bad_archive_is_refused_and_leaves_the_store_as_it_was(images: Images, name: str) -> None:
    await imported(images, "mine:1", archive(member("x", b"x")))
    before = state(images)
    with pytest.raises(InvalidParameter):
        await loaded(images, BROKEN[name])
    assert state(images) == before


async def test_one_bad_image_keeps_the_good_one_of_the_same_archive_out(images: Images) -> None:
    good, bad = old_docker_archive("good:1"), old_docker_archive("bad:1", archive(member("other", b"o")))
    manifest = json.loads(good["manifest.json"]) + json.loads(bad["manifest.json"])
    manifest[1]["Layers"] = [manifest[0]["Layers"][0]]
    files = {**bad, **good, "manifest.json": json.dumps(manifest).encode()}
    before = state(images)
    with pytest.raises(InvalidParameter):
        await loaded(images, tars.files(files))
    assert state(images) == before


async def test_damage_anywhere_is_an_error_or_harmless(images: Images) -> None:
    """Flip bytes all over an archive: it loads to what it was, or not at all."""
    data = tars.files(oci_layout())
    await imported(images, "mine:1", archive(member("x", b"x")))
    before = state(images)
    for place in range(0, len(data), len(data) // 60):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        try:
            await loaded(images, bytes(damaged))
        except WindlassError:
            assert state(images) == before
            continue
        for image in list(images.list()):
            if image.repo_tags != ["mine:1"]:
                assert image.diff_ids == [digest(BASE), digest(TOP)]
                await images.remove(image.id, force=True, in_use={})
        assert state(images) == before


async def test_other_readers_accept_what_we_save(images: Images) -> None:
    """The archive is a plain tar with plain names (read here by tarfile, strictly)."""
    await imported(images, "mine:1")
    data = await collected(images.save(["mine:1"]))
    with tarfile.open(fileobj=io.BytesIO(data), errorlevel=2) as opened:
        assert all(entry.isfile() or entry.isdir() for entry in opened)
        assert all(entry.uid == 0 and entry.mtime == 0 for entry in opened)
