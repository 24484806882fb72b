"""Pull: a reference becomes an image of this store.

    resolve   tag → digest → (index →) manifest → configuration: the layers' digests, packed and unpacked, are known
    fetch     each layer that is not here, in parallel: download, hash, decompress, unpack, all at once
    record    the reference now means this image

Nothing is recorded before everything is verified. The order of a layer's messages is dockerd's: Pulling fs layer,
Waiting, Downloading…, Verifying Checksum, Download complete, Extracting…, Pull complete.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from windlass.errors import InvalidParameter, SystemFailure, WindlassError
from windlass.images.registry.client import RegistryClient, Repository
from windlass.images.registry.credentials import ANONYMOUS, Credentials
from windlass.images.registry.failures import RegistryFailure, UnsupportedContent
from windlass.images.registry.manifests import FetchedManifest, ResolvedImage
from windlass.images.transfer.jobs import Jobs
from windlass.images.transfer.progress import Message, Meter, Send, action, message, progress, short_id
from windlass.images.transfer.store import LayerPlan, TransferStore
from windlass.images.transfer.stream import streaming
from windlass.oci import image
from windlass.oci.image import Descriptor, ImageConfig, Manifest
from windlass.oci.platform import Platform, host_platform, maximum_platform, rank
from windlass.oci.reference import Reference

_OTHER_CONFIGS: Final = frozenset({"application/octet-stream", ""})
"""Old registries and tools call a configuration this."""


@dataclass(frozen=True)
class _Work:
    """One pull: what stays the same through all its steps."""

    repository: Repository
    platform: Platform
    send: Send
    explicit: bool = field(default=False)


class Puller:
    """Pulls for a whole daemon: layers that several requests want are fetched once."""

    def __init__(self, client: RegistryClient, store: TransferStore) -> None:
        self._client = client
        self._store = store
        self._jobs: Jobs[None] = Jobs()
        self._downloads = asyncio.Semaphore(client.settings.max_concurrent_downloads)
        self._digests: dict[str, asyncio.Lock] = {}

    def pull(
        self, reference: Reference, *, platform: Platform | None = None, credentials: Credentials = ANONYMOUS
    ) -> AsyncGenerator[Message, None]:
        """Pull an image, or all tags of a repository where the reference has neither tag nor digest.

        Yields progress messages; raises typed errors with dockerd's texts. Leaving early cancels the pull.
        """
        return streaming(lambda send: self._pull(reference, platform, credentials, send))

    async def _pull(
        self, reference: Reference, platform: Platform | None, credentials: Credentials, send: Send
    ) -> None:
        async def use(repository: Repository) -> bool:
            work = _Work(repository, platform or maximum_platform(), send, explicit=platform is not None)
            if reference.tag or reference.digest:
                return await self._pull_one(reference, work)
            changed = False
            for tag in await repository.manifests.tags():
                changed = await self._pull_one(reference.with_tag(tag), work) or changed
            return changed

        changed = await self._client.pulling(reference, credentials, use)
        status = "Downloaded newer image for" if changed else "Image is up to date for"
        send(message(f"Status: {status} {reference.familiar()}"))
        if platform is not None:
            self._warn_of_another_platform(reference, platform, send)

    async def _pull_one(self, reference: Reference, work: _Work) -> bool:
        found = await work.repository.manifests.resolve(
            reference,
            work.platform,
            shown=work.platform if work.explicit else host_platform(),
            local=self._store.read_document,
        )
        label = str(reference.digest or reference.tag)
        work.send(message(f"Pulling from {reference.familiar_name()}", id=label))
        manifest = image.parse_manifest(found.manifest.data)
        _check_types(found.manifest, manifest)
        async with self._store.hold():
            config = await self._config(manifest["config"], work)
            await self._layers(_plans(manifest, config), work)
            await self._documents(found)
            changed = await self._store.record_pull(
                reference,
                found.target.descriptor,
                found.manifest.descriptor,
                manifest["config"],
                work.repository.reference.name,
            )
        work.send(message(f"Digest: {found.target.descriptor['digest']}"))
        return changed

    async def _config(self, descriptor: Descriptor, work: _Work) -> ImageConfig:
        data = self._store.read_document(descriptor["digest"])
        if data is None:
            try:
                data = await work.repository.blobs.read(descriptor)
            except RegistryFailure as error:
                raise SystemFailure(f"error pulling image configuration: {error}") from error
            config = image.parse_image_config(data)
            await self._store.add_document(descriptor, data)
        else:
            config = image.parse_image_config(data)
        if config["os"] not in ("", "linux"):
            raise InvalidParameter(
                f'image operating system "{config["os"]}" cannot be used on this platform: '
                "operating system is not supported"
            )
        return config

    async def _documents(self, found: ResolvedImage) -> None:
        for step in found.path:
            if self._store.read_document(step.descriptor["digest"]) is None:
                await self._store.add_document(step.descriptor, step.data)

    async def _layers(self, plans: Sequence[LayerPlan], work: _Work) -> None:
        """Fetch what is missing, all at once; the first failure cancels the rest and is the one raised."""
        missing = []
        for plan in plans:
            known = self._store.has_layer(plan.chain_id)
            work.send(action(_id(plan), "Already exists" if known else "Pulling fs layer"))
            if not known:
                missing.append(plan)
        try:
            async with asyncio.TaskGroup() as group:
                for plan in missing:
                    group.create_task(self._layer(plan, work))
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from None

    async def _layer(self, plan: LayerPlan, work: _Work) -> None:
        await self._jobs.run(plan.chain_id, lambda send: self._fetch(plan, work, send), work.send)

    async def _fetch(self, plan: LayerPlan, work: _Work, send: Send) -> None:
        """One layer, from the registry or from its blob where that is here. Runs once for all who want it."""
        digest = plan.descriptor["digest"]
        if self._downloads.locked():
            send(action(_id(plan), "Waiting"))
        # The same blob may stand twice in an image, or in two images on different parents: the lock has it fetched
        # once. First the place, then the lock: places are taken in the order of the layers, so no circle can form.
        lock = self._digests.setdefault(digest, asyncio.Lock())
        try:
            async with self._downloads, lock:
                if self._store.has_layer(plan.chain_id):
                    send(action(_id(plan), "Already exists"))
                elif self._store.has_blob(digest):
                    await self._store.add_layer(
                        plan, None, Meter(send, _id(plan), "Extracting", plan.descriptor["size"])
                    )
                    send(action(_id(plan), "Pull complete"))
                else:
                    await self._download(plan, work, send)
        finally:
            if not lock.locked() and self._digests.get(digest) is lock:
                del self._digests[digest]

    async def _download(self, plan: LayerPlan, work: _Work, send: Send) -> None:
        flow, size = _Flow(plan, send), plan.descriptor["size"]
        async with (
            contextlib.aclosing(work.repository.blobs.stream(plan.descriptor, on_break=flow.broken)) as stream,
            contextlib.aclosing(flow.watched(stream)) as watched,
        ):
            await self._store.add_layer(plan, watched, flow.unpacked)
        send(progress(_id(plan), "Extracting", size, size))
        send(action(_id(plan), "Pull complete"))

    def _warn_of_another_platform(self, reference: Reference, wanted: Platform, send: Send) -> None:
        """A manifest that stands alone is taken whatever its platform; who asked for one is told."""
        found = self._store.platform_of(reference)
        if found is not None and rank(found, wanted) is None:
            send(
                message(
                    f"WARNING: image with reference {reference} was found but its platform ({found}) does not match "
                    f"the specified platform ({wanted})"
                )
            )


class _Flow:
    """The messages of one layer while its bytes flow: downloading, and behind it unpacking."""

    def __init__(self, plan: LayerPlan, send: Send) -> None:
        self._plan = plan
        self._send = send
        self._downloading = Meter(send, _id(plan), "Downloading", plan.descriptor["size"])
        self._extracting = Meter(send, _id(plan), "Extracting", plan.descriptor["size"])
        self._complete = False

    async def watched(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Pass the chunks on and report them."""
        done = 0
        async for chunk in chunks:
            done += len(chunk)
            self._downloading(done)
            yield chunk
        self._complete = True
        self._send(action(_id(self._plan), "Verifying Checksum"))
        self._send(action(_id(self._plan), "Download complete"))

    def unpacked(self, done: int) -> None:
        """Unpacking runs all the time; it is shown when there is nothing more to download."""
        if self._complete:
            self._extracting(done)

    def broken(self, error: Exception) -> None:
        """The connection broke; the stream will try to go on."""
        self._send(action(_id(self._plan), "Retrying in 1 second"))


def _plans(manifest: Manifest, config: ImageConfig) -> list[LayerPlan]:
    layers, diff_ids = manifest["layers"], config["rootfs"]["diff_ids"]
    if len(layers) != len(diff_ids):
        raise SystemFailure("layers from manifest don't match image configuration")
    chain = image.chain_ids(diff_ids)
    return [
        LayerPlan(layer, diff_id, chain_id, chain[number - 1] if number else None)
        for number, (layer, diff_id, chain_id) in enumerate(zip(layers, diff_ids, chain, strict=True))
    ]


def _check_types(found: FetchedManifest, manifest: Manifest) -> None:
    """Only images: charts, signatures, models and plugins live in registries too."""
    config_type = manifest["config"]["mediaType"]
    if config_type not in image.CONFIG_TYPES | _OTHER_CONFIGS:
        if found.descriptor["mediaType"] == image.MEDIA_DOCKER_MANIFEST:
            kind = "plugin" if config_type == image.MEDIA_DOCKER_PLUGIN_CONFIG else "unknown"
            raise UnsupportedContent(f'Encountered remote "{config_type}"({kind}) when fetching')
        if config_type.lower().startswith("application/vnd.docker.ai."):
            raise UnsupportedContent("AI models are not supported by the engine")
        raise UnsupportedContent(f"unsupported media type {config_type}")
    for layer in manifest["layers"]:
        if layer["mediaType"] not in image.LAYER_COMPRESSION:
            raise UnsupportedContent(f"unsupported media type {layer['mediaType']}")


def first_failure(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to raise: a typed one before others, never a cancellation that it caused."""
    flat: list[BaseException] = []
    pending: list[BaseException] = [failures]
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseExceptionGroup):
            pending = [*one.exceptions, *pending]
        else:
            flat.append(one)
    real = [one for one in flat if not isinstance(one, asyncio.CancelledError)]
    return next((one for one in real if isinstance(one, WindlassError)), (real or flat)[0])


def _id(plan: LayerPlan) -> str:
    return short_id(plan.descriptor["digest"])
