"""Pull and push against a registry that is real enough, and one that is not; the store never shows half a thing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from memory_store import MemoryStore

from support.fake_registry import FakeRegistry, Reply, error
from windlass.errors import InvalidParameter, NotFound, SystemFailure, WindlassError
from windlass.images.registry import registry_settings
from windlass.images.registry.client import RegistryClient
from windlass.images.transfer import Message
from windlass.images.transfer.pull import Puller
from windlass.images.transfer.push import Pusher
from windlass.oci import image
from windlass.oci.digest import sha256_digest
from windlass.oci.platform import Platform
from windlass.oci.reference import Reference, parse_reference

AMD64 = Platform("linux", "amd64")
LAYERS = [bytes([number]) * 300_000 for number in range(5)]


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


@pytest.fixture
async def client() -> AsyncIterator[RegistryClient]:
    async with RegistryClient(registry_settings(), environment={}, sleep=no_pause) as client:
        yield client


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def puller(client: RegistryClient, store: MemoryStore) -> Puller:
    return Puller(client, store)


@pytest.fixture
def pusher(client: RegistryClient, store: MemoryStore) -> Pusher:
    return Pusher(client, store)


def name(registry: FakeRegistry, text: str = "team/x:1") -> Reference:
    return parse_reference(f"{registry.host}/{text}")


async def read(messages: AsyncIterator[Message]) -> list[Message]:
    return [entry async for entry in messages]


def told(messages: list[Message], id: str | None = None) -> list[str]:
    """The statuses of one id (or of none), without repeats of the same action."""
    statuses = [entry["status"] for entry in messages if entry.get("id") == id and "status" in entry]
    return [status for number, status in enumerate(statuses) if not number or statuses[number - 1] != status]


def short(data: bytes) -> str:
    return sha256_digest(data)[7:19]


async def test_a_pull_tells_its_story_in_dockerds_words(
    registry: FakeRegistry, puller: Puller, store: MemoryStore
) -> None:
    digest = registry.add_image("1", layers=LAYERS)
    messages = await read(puller.pull(name(registry)))
    assert messages[0] == {"status": f"Pulling from {registry.host}/team/x", "id": "1"}
    for layer in LAYERS:
        story = [one for one in told(messages, short(layer)) if one != "Waiting"]
        assert story == [
            "Pulling fs layer",
            "Downloading",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
        ]
    assert [entry["id"] for entry in messages if entry["status"] == "Pulling fs layer"] == [
        short(one) for one in LAYERS
    ]
    assert messages[-2:] == [
        {"status": f"Digest: {digest}"},
        {"status": f"Status: Downloaded newer image for {registry.host}/team/x:1"},
    ]
    assert store.references == {name(registry): digest}
    assert len(store.layers) == len(LAYERS)


async def test_at_most_three_downloads_at_once(registry: FakeRegistry, puller: Puller, store: MemoryStore) -> None:
    registry.add_image("1", layers=LAYERS)
    store.gate = asyncio.Event()
    reading = asyncio.create_task(read(puller.pull(name(registry))))
    while store.active < 3:
        await asyncio.sleep(0.001)
    store.gate.set()
    messages = await reading
    assert store.most_active == 3
    waited = [layer for layer in LAYERS if "Waiting" in told(messages, short(layer))]
    assert waited == LAYERS[3:]


async def test_what_is_here_is_not_fetched_again(registry: FakeRegistry, puller: Puller) -> None:
    registry.add_image("1", layers=LAYERS)
    await read(puller.pull(name(registry)))
    count = len(registry.requests("GET .*(manifests|blobs)"))
    messages = await read(puller.pull(name(registry)))
    assert len(registry.requests("GET .*(manifests|blobs)")) == count
    assert told(messages, short(LAYERS[0])) == ["Already exists"]
    assert messages[-1] == {"status": f"Status: Image is up to date for {registry.host}/team/x:1"}


async def test_shared_layers_come_once(registry: FakeRegistry, puller: Puller, store: MemoryStore) -> None:
    registry.add_image("1", layers=LAYERS[:2])
    registry.add_image("2", layers=[*LAYERS[:2], b"top"])
    await read(puller.pull(name(registry)))
    messages = await read(puller.pull(name(registry, "team/x:2")))
    assert told(messages, short(LAYERS[0])) == ["Already exists"]
    assert "Pull complete" in told(messages, short(b"top"))
    assert len(registry.requests(f"GET .*blobs/{sha256_digest(LAYERS[0])}")) == 1


async def test_the_same_layer_twice_in_an_image_is_fetched_once(
    registry: FakeRegistry, puller: Puller, store: MemoryStore
) -> None:
    twice = [b"empty", b"a", b"empty", b"empty"]
    registry.add_image("1", layers=twice)
    await read(puller.pull(name(registry)))
    assert len(registry.requests(f"GET .*blobs/{sha256_digest(b'empty')}")) == 1
    assert len(store.layers) == 4 and store.unpacked.count(sha256_digest(b"empty")) == 3


async def test_concurrent_pulls_share_downloads_and_both_hear_of_them(
    registry: FakeRegistry, puller: Puller, store: MemoryStore
) -> None:
    registry.add_image("1", "2", layers=LAYERS)
    store.gate = asyncio.Event()
    heard: list[list[Message]] = [[], [], []]

    async def listen(tag: str, messages: list[Message]) -> None:
        async for entry in puller.pull(name(registry, f"team/x:{tag}")):
            messages.append(entry)

    listening = [asyncio.create_task(listen(tag, messages)) for tag, messages in zip("121", heard, strict=True)]
    while not all("Downloading" in told(messages, short(LAYERS[2])) for messages in heard):
        await asyncio.sleep(0.001)
    store.gate.set()
    await asyncio.gather(*listening)
    for messages in heard:
        assert all("Pull complete" in told(messages, short(layer)) for layer in LAYERS)
    for layer in LAYERS:
        assert len(registry.requests(f"GET .*blobs/{sha256_digest(layer)}")) == 1


async def test_a_client_that_hangs_up_leaves_nothing(
    registry: FakeRegistry, puller: Puller, store: MemoryStore
) -> None:
    registry.add_image("1", layers=LAYERS)
    before, store.gate = store.state(), asyncio.Event()
    stream = puller.pull(name(registry))
    async for entry in stream:
        if entry["status"] == "Downloading":
            break
    await stream.aclose()
    assert store.state() == before and store.active == 0 and store.holds == 0
    store.gate = None
    await read(puller.pull(name(registry)))


async def test_one_of_two_may_hang_up(registry: FakeRegistry, puller: Puller, store: MemoryStore) -> None:
    registry.add_image("1", layers=LAYERS)
    store.gate = asyncio.Event()
    leaving, staying = puller.pull(name(registry)), asyncio.create_task(read(puller.pull(name(registry))))
    async for entry in leaving:
        if entry["status"] == "Downloading":
            break
    await leaving.aclose()
    store.gate.set()
    assert (await staying)[-1]["status"].startswith("Status: Downloaded newer image")


@pytest.mark.parametrize(
    ("break_it", "kind", "message"),
    [
        ("blob", SystemFailure, "filesystem layer verification failed for digest sha256:"),
        ("short blob", SystemFailure, "ended after"),
        ("no blob", SystemFailure, "blob unknown: blob unknown to registry"),
        ("no config", SystemFailure, "error pulling image configuration: blob unknown"),
        ("config", SystemFailure, "error pulling image configuration: image config verification failed"),
        ("diff ids", SystemFailure, "layers from manifest don't match image configuration"),
        ("wrong diff id", SystemFailure, "layers from manifest don't match image configuration"),
        ("windows", InvalidParameter, 'image operating system "windows" cannot be used on this platform'),
        ("config type", InvalidParameter, "unsupported media type application/vnd.cncf.helm.config.v1"),
        ("layer type", InvalidParameter, "unsupported media type application/wasm"),
        (
            "plugin",
            InvalidParameter,
            r'Encountered remote "application/vnd.docker.plugin.v1\+json"\(plugin\) when fetching',
        ),
        ("manifest", NotFound, "manifest for .* not found: manifest unknown"),
    ],
)
async def test_a_pull_that_fails_leaves_the_store_as_it_was(
    registry: FakeRegistry, puller: Puller, store: MemoryStore, break_it: str, kind: type[Exception], message: str
) -> None:
    registry.add_image("0", layers=LAYERS[:2])
    await read(puller.pull(name(registry, "team/x:0")))
    before = store.state()
    digest = registry.add_image("1", layers=LAYERS)
    spoil(registry, break_it, image.parse_manifest(registry.manifests[digest][1]))
    with pytest.raises(kind, match=message):
        await read(puller.pull(name(registry)))
    assert store.state() == before and store.holds == 0


def spoil(registry: FakeRegistry, what: str, manifest: Any) -> None:
    last, config = manifest["layers"][-1]["digest"], manifest["config"]["digest"]
    document = orjson.loads(registry.blobs[config])
    media_type = image.MEDIA_OCI_MANIFEST
    match what:
        case "blob":
            registry.blobs[last] = b"!" * len(registry.blobs[last])
        case "short blob":
            registry.blobs[last] = registry.blobs[last][:-1]
        case "no blob":
            del registry.blobs[last]
        case "no config":
            del registry.blobs[config]
        case "config":
            registry.blobs[config] = registry.blobs[config].replace(b"linux", b"Linux")
        case "manifest":
            registry.manifests.clear()
        case "config type":
            manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
        case "layer type":
            manifest["layers"][0]["mediaType"] = "application/wasm"
        case "plugin":
            media_type, manifest["config"]["mediaType"] = image.MEDIA_DOCKER_MANIFEST, image.MEDIA_DOCKER_PLUGIN_CONFIG
        case "diff ids":
            document["rootfs"]["diff_ids"].pop()
        case "wrong diff id":
            document["rootfs"]["diff_ids"][-1] = sha256_digest(b"other")
        case "windows":
            document["os"] = "windows"
    if what in ("diff ids", "wrong diff id", "windows"):
        data = orjson.dumps(document)
        manifest["config"] = {**manifest["config"], "digest": registry.add_blob(data), "size": len(data)}
    if what in ("config type", "layer type", "plugin", "diff ids", "wrong diff id", "windows"):
        registry.add_manifest(manifest, "1", media_type=media_type)


async def test_all_tags_of_a_repository(registry: FakeRegistry, puller: Puller, store: MemoryStore) -> None:
    registry.add_image("1", layers=[b"one"])
    registry.add_image("2", layers=[b"two"])
    messages = await read(puller.pull(name(registry, "team/x")))
    assert [entry["id"] for entry in messages if entry["status"].startswith("Pulling from")] == ["1", "2"]
    assert len(store.references) == 2
    assert messages[-1]["status"] == f"Status: Downloaded newer image for {registry.host}/team/x"


async def test_by_digest(registry: FakeRegistry, puller: Puller, store: MemoryStore) -> None:
    digest = registry.add_image(layers=[b"one"])
    messages = await read(puller.pull(name(registry, f"team/x@{digest}")))
    assert messages[0]["id"] == digest
    assert list(store.references.values()) == [digest]


async def test_a_lone_image_of_another_platform_is_taken_with_a_warning(registry: FakeRegistry, puller: Puller) -> None:
    registry.add_image("1", layers=[b"one"])
    messages = await read(puller.pull(name(registry), platform=Platform("linux", "arm64")))
    assert re.fullmatch(
        r"WARNING: image with reference .*/team/x:1 was found but its platform \(linux/amd64\) does not match the "
        r"specified platform \(linux/arm64\)",
        messages[-1]["status"],
    )


async def test_an_index_is_kept_and_its_digest_is_told(
    registry: FakeRegistry, puller: Puller, store: MemoryStore
) -> None:
    digest = registry.add_image(layers=[b"one"])
    entry = {"mediaType": image.MEDIA_OCI_MANIFEST, "digest": digest, "size": len(registry.manifests[digest][1])}
    entry["platform"] = {"os": "linux", "architecture": "amd64"}
    index = {"schemaVersion": 2, "manifests": [entry]}
    top = registry.add_manifest(index, "1", media_type=image.MEDIA_OCI_INDEX)
    messages = await read(puller.pull(name(registry), platform=AMD64))
    assert {"status": f"Digest: {top}"} in messages
    assert top in store.documents and digest in store.documents
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        await read(puller.pull(name(registry), platform=Platform("linux", "s390x")))


async def test_a_mirror_that_breaks_half_way_is_left_for_the_registry(
    registry: FakeRegistry, store: MemoryStore
) -> None:
    registry.add_image("1", layers=LAYERS)
    async with FakeRegistry() as mirror:
        mirror.blobs, mirror.manifests = dict(registry.blobs), dict(registry.manifests)
        mirror.script(f"GET .*blobs/{sha256_digest(LAYERS[4])}", *[Reply(404)] * 9)
        rules = registry_settings(mirrors=[mirror.url, registry.url])
        async with RegistryClient(rules, environment={}, sleep=no_pause) as client:
            await read(Puller(client, store).pull(parse_reference("team/x:1")))
        assert len(mirror.requests("GET .*blobs")) >= 5 and registry.requests("GET .*blobs")
    assert list(store.references) == [parse_reference("team/x:1")]


# -- push ------------------------------------------------------------------------------------------------------------


async def pulled(registry: FakeRegistry, puller: Puller, store: MemoryStore, target: Reference) -> None:
    registry.add_image("1", layers=LAYERS)
    await read(puller.pull(name(registry)))
    store.references[target] = store.references[name(registry)]


async def test_a_push_tells_its_story_in_dockerds_words(
    registry: FakeRegistry, puller: Puller, pusher: Pusher, store: MemoryStore
) -> None:
    async with FakeRegistry() as other:
        target = name(other, "mine/x:2")
        await pulled(registry, puller, store, target)
        messages = await read(pusher.push(target))
        assert messages[0] == {"status": f"The push refers to repository [{other.host}/mine/x]"}
        preparing = [entry["id"] for entry in messages if entry.get("status") == "Preparing"]
        assert preparing == [short(layer) for layer in reversed(LAYERS)]
        for layer in LAYERS:
            assert told(messages, short(layer)) == ["Preparing", "Pushing", "Pushed"]
        digest = store.references[target]
        size = len(store.documents[digest])
        assert messages[-2:] == [
            {"status": f"2: digest: {digest} size: {size}"},
            {"progressDetail": {}, "aux": {"Tag": "2", "Digest": digest, "Size": size}},
        ]
        assert other.manifests["2"][1] == store.documents[digest]  # byte for byte: nothing is compressed again
        assert all(other.blobs[sha256_digest(layer)] == layer for layer in LAYERS)
        again = await read(pusher.push(target))
        assert told(again, short(LAYERS[0])) == ["Preparing", "Layer already exists"]


async def test_layers_are_mounted_from_where_they_came(
    registry: FakeRegistry, puller: Puller, pusher: Pusher, store: MemoryStore
) -> None:
    target = name(registry, "team/y:1")
    await pulled(registry, puller, store, target)
    registry.script("HEAD .*team/y/blobs", *[error(404, "BLOB_UNKNOWN")] * 5)
    messages = await read(pusher.push(target))
    assert told(messages, short(LAYERS[0])) == ["Preparing", "Mounted from team/x"]
    assert not registry.requests("PUT .*blobs/uploads")


async def test_all_tags_are_pushed_where_none_is_named(
    registry: FakeRegistry, puller: Puller, pusher: Pusher, store: MemoryStore
) -> None:
    async with FakeRegistry() as other:
        await pulled(registry, puller, store, name(other, "x:1"))
        store.references[name(other, "x:2")] = store.references[name(other, "x:1")]
        messages = await read(pusher.push(name(other, "x")))
        assert [entry["aux"]["Tag"] for entry in messages if "aux" in entry] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unknown:1", "^An image does not exist locally with the tag: .*/unknown$"),
        ("team/x:none", "^tag does not exist: .*/team/x:none$"),
        ("team/x@sha256:" + "0" * 64, "^cannot push a digest reference$"),
    ],
)
async def test_pushes_of_what_is_not_here(
    registry: FakeRegistry, puller: Puller, pusher: Pusher, store: MemoryStore, text: str, message: str
) -> None:
    await pulled(registry, puller, store, name(registry))
    stream = pusher.push(name(registry, text))
    assert await anext(stream) == {"status": f"The push refers to repository [{name(registry, text).name}]"}
    with pytest.raises(WindlassError, match=message):
        await anext(stream)


async def test_a_push_that_is_refused(
    registry: FakeRegistry, puller: Puller, pusher: Pusher, store: MemoryStore
) -> None:
    async with FakeRegistry() as other:
        target = name(other, "x:1")
        await pulled(registry, puller, store, target)
        other.script("POST", *[error(401, "UNAUTHORIZED", "authentication required")] * 9)
        with pytest.raises(SystemFailure, match=r"^unauthorized: authentication required$"):
            await read(pusher.push(target))


async def test_a_client_that_hangs_up_ends_a_push(
    registry: FakeRegistry, puller: Puller, pusher: Pusher, store: MemoryStore
) -> None:
    async with FakeRegistry() as other:
        target = name(other, "x:1")
        await pulled(registry, puller, store, target)
        stream = pusher.push(target)
        async for entry in stream:
            if entry["status"] == "Pushing":
                break
        await stream.aclose()
        assert "1" not in other.manifests
