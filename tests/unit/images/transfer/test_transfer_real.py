"""Transfers through Debian's docker-registry: what goes out comes back byte for byte; tokens, mounts, all tags."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest
from memory_store import MemoryStore

from support.docker_registry import RunningRegistry, TokenIssuer, docker_registry
from windlass.errors import SystemFailure
from windlass.images.registry import registry_settings
from windlass.images.transfer import Transfers
from windlass.oci import image
from windlass.oci.digest import Digest, sha256_digest
from windlass.oci.reference import Reference, parse_reference

LAYERS = [bytes([number]) * 2_000_000 for number in range(6)]
USER = {"username": "user", "password": "secret"}


def filled(*references: Reference) -> MemoryStore:
    """A store with one image under these names."""
    store = MemoryStore()
    diff_ids = [sha256_digest(layer) for layer in LAYERS]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    config_data = orjson.dumps(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": image.MEDIA_OCI_MANIFEST,
        "config": {
            "mediaType": image.MEDIA_OCI_CONFIG,
            "digest": sha256_digest(config_data),
            "size": len(config_data),
        },
        "layers": [
            {"mediaType": image.MEDIA_OCI_LAYER, "digest": sha256_digest(layer), "size": len(layer)} for layer in LAYERS
        ],
    }
    data = orjson.dumps(manifest)
    store.documents = {sha256_digest(config_data): config_data, sha256_digest(data): data}
    store.blobs = {sha256_digest(layer): layer for layer in LAYERS}
    store.layers = set(image.chain_ids(diff_ids))
    store.references = dict.fromkeys(references, sha256_digest(data))
    return store


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


async def copied(source: Reference, target: MemoryStore, **auth: object) -> list[str]:
    transfers = Transfers(registry_settings(), target)
    try:
        return [one["status"] async for one in transfers.pull(source, **auth)]  # type: ignore[arg-type]
    finally:
        await transfers.close()


@pytest.fixture
async def senders() -> AsyncIterator[list[Transfers]]:
    opened: list[Transfers] = []
    yield opened
    for one in opened:
        await one.close()


async def test_there_and_back(registry: RunningRegistry, senders: list[Transfers]) -> None:
    reference = parse_reference(f"{registry.host}/there/back:1")
    store = filled(reference)
    senders.append(sender := Transfers(registry_settings(), store))
    pushed = [one async for one in sender.push(reference)]
    assert pushed[-1]["aux"]["Digest"] == store.references[reference]
    target = MemoryStore()
    statuses = await copied(reference, target)
    assert statuses[-1] == f"Status: Downloaded newer image for {reference.familiar()}"
    assert target.state() == store.state()
    assert (await copied(reference, target))[-1].startswith("Status: Image is up to date")


async def test_mounted_and_all_tags(registry: RunningRegistry, senders: list[Transfers]) -> None:
    first = parse_reference(f"{registry.host}/tags/one:1")
    others = [parse_reference(f"{registry.host}/tags/two:{tag}") for tag in ("a", "b")]
    senders.append(sender := Transfers(registry_settings(), filled(first, *others)))
    assert "Pushed" in [one.get("status") async for one in sender.push(first)]
    statuses = [one.get("status") async for one in sender.push(others[0].repository())]
    assert statuses.count("Mounted from tags/one") == len(LAYERS)
    assert statuses.count("Layer already exists") == len(LAYERS)
    target = MemoryStore()
    await copied(others[0].repository(), target)
    assert sorted(target.references) == others


async def test_many_pulls_at_once_with_tokens(tmp_path: Path, senders: list[Transfers]) -> None:
    issuer = TokenIssuer(tmp_path / "issuer")
    async with issuer.server:
        with docker_registry(tmp_path / "registry", auth=issuer.section()) as running:
            references = [parse_reference(f"{running.host}/team/x:{number}") for number in range(4)]
            senders.append(sender := Transfers(registry_settings(), filled(*references)))
            async for _ in sender.push(references[0].repository(), auth=USER):
                pass
            target = MemoryStore()
            senders.append(receiver := Transfers(registry_settings(), target))
            issuer.asked.clear()

            async def pull(reference: Reference) -> None:
                async for _ in receiver.pull(reference, auth=USER):
                    pass

            await asyncio.gather(*[pull(reference) for reference in references])
            assert sorted(target.references) == references
            assert len(issuer.asked) == 1
            assert sorted(target.unpacked) == sorted(sha256_digest(layer) for layer in LAYERS)


async def test_a_registry_whose_disk_lies(tmp_path: Path, senders: list[Transfers]) -> None:
    with docker_registry(tmp_path / "registry") as running:
        reference = parse_reference(f"{running.host}/spoiled:1")
        senders.append(sender := Transfers(registry_settings(), filled(reference)))
        async for _ in sender.push(reference):
            pass
        digest: Digest = sha256_digest(LAYERS[3])
        encoded = digest.partition(":")[2]
        [blob] = running.root.glob(f"**/blobs/sha256/{encoded[:2]}/{encoded}/data")
        blob.write_bytes(b"!" * len(LAYERS[3]))
        target = MemoryStore()
        with pytest.raises(SystemFailure, match=f"filesystem layer verification failed for digest {digest}"):
            await copied(reference, target)
        assert target.state() == ({}, {}, set(), {})
