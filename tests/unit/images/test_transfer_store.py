"""Pull and push with the real store behind them: layers unpacked while they come, whatever the driver and the order."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from support import imagestore
from support.fake_registry import FakeRegistry
from support.imagestore import collected, reference, state, stream
from support.tars import archive, member, symlink
from windlass.errors import SystemFailure, WindlassError
from windlass.images import Images
from windlass.images.registry import registry_settings
from windlass.images.registry.client import RegistryClient
from windlass.images.transfer.pull import Puller
from windlass.images.transfer.push import Pusher
from windlass.images.transfer_store import ImageTransferStore
from windlass.oci import image as oci
from windlass.oci.digest import sha256_digest
from windlass.oci.platform import host_platform
from windlass.oci.reference import parse_reference

pytestmark = pytest.mark.root

PLAIN = [
    archive(member("etc/", mode=0o755), member("etc/a", b"a" * 100_000), member("etc/b", b"b")),
    archive(member("etc/.wh.a"), member("etc/c", b"c" * 50_000)),
    archive(member("etc/d", b"d")),
    archive(member("etc/.wh.d"), member("etc/e", b"e")),
]
PACKED = [gzip.compress(PLAIN[0]), zstandard.compress(PLAIN[1]), PLAIN[2], gzip.compress(PLAIN[3])]
TYPES = [oci.MEDIA_OCI_LAYER_GZIP, oci.MEDIA_OCI_LAYER_ZSTD, oci.MEDIA_OCI_LAYER, oci.MEDIA_OCI_LAYER_GZIP]


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


@pytest.fixture
async def client() -> AsyncIterator[RegistryClient]:
    async with RegistryClient(registry_settings(), environment={}) as client:
        yield client


@pytest.fixture(params=["overlay2", "vfs"])
async def images(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Images]:
    images = await Images.open(tmp_path / "images", driver=request.param)
    yield images
    await images.close()


def publish(registry: FakeRegistry, plain: list[bytes], packed: list[bytes], types: list[str], *tags: str) -> Any:
    platform = host_platform()
    config = orjson.dumps(
        {
            "architecture": platform.architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [sha256_digest(layer) for layer in plain]},
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MEDIA_OCI_MANIFEST,
        "config": {"mediaType": oci.MEDIA_OCI_CONFIG, "digest": registry.add_blob(config), "size": len(config)},
        "layers": [
            {"mediaType": kind, "digest": registry.add_blob(layer), "size": len(layer)}
            for layer, kind in zip(packed, types, strict=True)
        ],
    }
    return registry.add_manifest(manifest, *tags)


async def pull(client: RegistryClient, images: Images, registry: FakeRegistry, name: str = "x:1") -> list[Any]:
    puller = Puller(client, ImageTransferStore(images))
    return [one async for one in puller.pull(parse_reference(f"{registry.host}/{name}"))]


async def files(images: Images, name: str) -> set[str]:
    image = images.resolve(name)
    await images.create_rootfs("look", image.id, storage_opt={})
    found = set()
    for letter in "abcde":
        try:
            assert imagestore.read(images, "look", f"etc/{letter}").startswith(letter.encode())
            found.add(letter)
        except FileNotFoundError:
            pass
    await images.remove_rootfs("look")
    return found


async def test_a_pulled_image_is_whole(registry: FakeRegistry, client: RegistryClient, images: Images) -> None:
    digest = publish(registry, PLAIN, PACKED, TYPES, "1")
    await pull(client, images, registry)
    image = images.resolve(f"{registry.host}/x:1")
    assert image.manifest["digest"] == digest
    assert image.repo_digests == [f"{registry.host}/x@{digest}"]
    assert image.diff_ids == [sha256_digest(layer) for layer in PLAIN]
    assert await files(images, f"{registry.host}/x:1") == {"b", "c", "e"}
    assert await images.fsck() == []


async def test_many_pulls_at_once_fetch_each_layer_once(
    registry: FakeRegistry, client: RegistryClient, images: Images
) -> None:
    publish(registry, PLAIN, PACKED, TYPES, "1", "2")
    publish(registry, PLAIN[:2], PACKED[:2], TYPES[:2], "3")
    puller = Puller(client, ImageTransferStore(images))

    async def one(tag: str) -> None:
        async for _ in puller.pull(parse_reference(f"{registry.host}/x:{tag}")):
            pass

    await asyncio.gather(*(one(tag) for tag in "123"))
    for layer in PACKED:
        assert len(registry.requests(f"GET .*{sha256_digest(layer)}")) == 1
    assert await files(images, f"{registry.host}/x:3") == {"b", "c"}


BAD = {
    "not the layer of the configuration": (PLAIN[1], PACKED[0], TYPES[0]),
    "an escape": (archive(symlink("l", ".."), member("l/x", b"x")),) * 2 + (oci.MEDIA_OCI_LAYER,),
    "no archive": (b"x" * 1000,) * 2 + (oci.MEDIA_OCI_LAYER,),
    "cut": (PLAIN[0], PACKED[0][:-10], TYPES[0]),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_layer_leaves_the_store_as_it_was(
    registry: FakeRegistry, client: RegistryClient, images: Images, name: str
) -> None:
    plain, packed, kind = BAD[name]
    publish(registry, [PLAIN[0], plain], [PACKED[0], packed], [TYPES[0], kind], "1")
    before = state(images)
    with pytest.raises(WindlassError):
        await pull(client, images, registry)
    assert state(images) == before


async def test_a_pull_that_is_given_up_leaves_nothing(
    registry: FakeRegistry, client: RegistryClient, images: Images
) -> None:
    publish(registry, PLAIN, PACKED, TYPES, "1")
    before = state(images)
    puller = Puller(client, ImageTransferStore(images))
    messages = puller.pull(parse_reference(f"{registry.host}/x:1"))
    async for message in messages:
        if message.get("status") == "Downloading" or message.get("status") == "Download complete":
            break
    await messages.aclose()  # type: ignore[attr-defined]
    assert state(images) == before
    await pull(client, images, registry)


async def test_a_layer_that_is_here_in_another_form_serves(
    registry: FakeRegistry, client: RegistryClient, images: Images
) -> None:
    """The image has the same ID, but its manifest has to name the blob that is here."""
    await images.import_(stream(PLAIN[0]), reference=reference("base:1"))
    publish(registry, PLAIN, PACKED, TYPES, "1")
    await pull(client, images, registry)
    assert await images.fsck() == []
    saved = await collected(images.save([f"{registry.host}/x:1"]))
    assert saved
    assert await files(images, f"{registry.host}/x:1") == {"b", "c", "e"}


async def test_what_is_pushed_can_be_pulled(
    registry: FakeRegistry, client: RegistryClient, images: Images, tmp_path: Path
) -> None:
    image = await images.import_(stream(PLAIN[0]), reference=parse_reference(f"{registry.host}/mine:1"))
    pusher = Pusher(client, ImageTransferStore(images))
    async for _ in pusher.push(parse_reference(f"{registry.host}/mine:1")):
        pass
    assert images.resolve(image.id).repo_digests == [f"{registry.host}/mine@{image.manifest['digest']}"]
    other = await Images.open(tmp_path / "other")
    await pull(client, other, registry, "mine:1")
    assert other.resolve(f"{registry.host}/mine:1").id == image.id
    await other.close()


async def test_a_failure_names_the_layer_and_is_not_the_clients(
    registry: FakeRegistry, client: RegistryClient, images: Images
) -> None:
    publish(registry, [b"x" * 1000], [b"x" * 1000], [oci.MEDIA_OCI_LAYER], "1")
    with pytest.raises(SystemFailure, match="failed to register layer: invalid tar archive"):
        await pull(client, images, registry)
