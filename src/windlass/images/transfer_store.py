"""The store as pull and push see it: `transfer.store.TransferStore` over content, snapshots and records."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from windlass.errors import InvalidParameter, NotFound, SystemFailure
from windlass.images.pump import consume
from windlass.images.records import ImageRecord, LayerRecord, Snapshot
from windlass.images.store import Images
from windlass.images.transfer.store import LayerPlan, OnUnpacked, PushImage
from windlass.oci.digest import Digest
from windlass.oci.image import Descriptor, chain_ids, parse_image_config, parse_manifest
from windlass.oci.platform import Platform, rank
from windlass.oci.reference import Reference

_PIECE: Final = 1 << 20


class ImageTransferStore:
    """See `transfer.store.TransferStore`, whose promises these methods keep."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._received: dict[Digest, LayerRecord] = {}
        self._layer_ready: dict[Digest, asyncio.Event] = {}

    def hold(self) -> AbstractAsyncContextManager[object]:
        return self._images.hold()

    def read_document(self, digest: Digest) -> bytes | None:
        try:
            return self._images.content.read(digest)
        except NotFound:
            return None

    async def add_document(self, descriptor: Descriptor, data: bytes) -> None:
        await asyncio.to_thread(self._images.content.add, data, Digest(descriptor["digest"]))

    def has_blob(self, digest: Digest) -> bool:
        return self._images.content.has(digest)

    def has_layer(self, chain_id: Digest) -> bool:
        return self._images.layers.has(chain_id) and self._known(chain_id) is not None

    def _known(self, chain_id: Digest) -> LayerRecord | None:
        """What is known of an unpacked layer: from this pull, or from an image that has it."""
        if chain_id in self._received:
            return self._received[chain_id]
        for record in self._images.records.now.images.values():
            for layer in record.layers:
                if layer.chain_id == chain_id:
                    return layer
        return None

    async def add_layer(self, plan: LayerPlan, chunks: AsyncIterator[bytes] | None, on_unpacked: OnUnpacked) -> None:
        ready = self._layer_ready.setdefault(plan.chain_id, asyncio.Event())
        if self._images.driver.needs_parent and plan.parent is not None and not self.has_layer(plan.parent):
            await self._layer_ready.setdefault(plan.parent, asyncio.Event()).wait()
        try:
            stream = chunks if chunks is not None else self.open_blob(Digest(plan.descriptor["digest"]), 0)
            loop = asyncio.get_running_loop()

            def work(source: Callable[[], bytes]) -> LayerRecord:
                done = 0

                def counted() -> bytes:
                    nonlocal done
                    data = source()
                    done += len(data)
                    loop.call_soon_threadsafe(on_unpacked, done)
                    return data

                return self._images.layers.receive(
                    counted, plan.descriptor, plan.diff_id, plan.chain_id, plan.parent, keep=chunks is not None
                )

            try:
                self._received[plan.chain_id] = await consume(stream, work)
            except InvalidParameter as error:
                # What a registry gave us is not the client's mistake.
                raise SystemFailure(f"failed to register layer: {error}") from error
        finally:
            ready.set()

    async def record_pull(
        self, reference: Reference, target: Descriptor, manifest: Descriptor, config: Descriptor, source: str
    ) -> bool:
        document = parse_manifest(self._images.content.read(Digest(manifest["digest"])))
        configuration = parse_image_config(self._images.content.read(Digest(config["digest"])))
        layers = []
        diff_ids = configuration["rootfs"]["diff_ids"]
        chain = chain_ids(diff_ids)
        for descriptor, diff_id, chain_id in zip(document["layers"], diff_ids, chain, strict=True):
            known = self._known(chain_id)
            if known is None:
                raise SystemFailure(f"layer {chain_id} is missing")
            layers.append(
                LayerRecord(
                    blob=Digest(descriptor["digest"]),
                    diff_id=diff_id,
                    chain_id=chain_id,
                    media_type=descriptor["mediaType"],
                    blob_size=descriptor["size"],
                    size=known.size,
                )
            )
        by_digest = Reference(reference.domain, reference.path, None, Digest(target["digest"]))
        names = [by_digest] if reference.digest is not None else [reference, by_digest]
        before = self._images.records.now.names.get(str(reference))
        record = ImageRecord(manifest=manifest, target=target, layers=tuple(layers))
        await asyncio.to_thread(self._images.record, str(config["digest"]), record, names)
        await asyncio.to_thread(self._remember, [layer.blob for layer in layers], source)
        for chain_id in chain:
            self._received.pop(chain_id, None)
            self._layer_ready.pop(chain_id, None)
        return before != config["digest"]

    def _remember(self, blobs: list[Digest], source: str) -> None:
        def change(now: Snapshot) -> Snapshot:
            for blob in blobs:
                now = now.with_source(blob, source)
            return now

        self._images.records.update(change)

    def platform_of(self, reference: Reference) -> Platform | None:
        image_id = self._images.records.now.names.get(str(reference.with_default_tag()))
        return self._images.catalog.get(image_id).platform if image_id else None

    def tagged(self, repository: Reference) -> list[Reference]:
        from windlass.oci.reference import parse_reference

        prefix = f"{repository.repository()}:"
        names = [name for name in self._images.records.now.names if name.startswith(prefix) and "@" not in name]
        return [parse_reference(name) for name in sorted(names)]

    async def push_image(self, reference: Reference, platform: Platform | None) -> PushImage:
        image = self._images.resolve(str(reference))
        if platform is not None and rank(image.platform, platform) is None:
            raise NotFound(f"image with reference {reference.familiar()} does not provide the platform ({platform})")
        data = self._images.content.read(Digest(image.manifest["digest"]))
        document = parse_manifest(data)
        return PushImage(image.manifest, data, document["config"], document["layers"], image.diff_ids)

    async def open_blob(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        with self._images.content.hold([digest]):
            try:
                descriptor = await asyncio.to_thread(os.open, self._images.content.path(digest), os.O_RDONLY)
            except FileNotFoundError:
                raise NotFound(f"content {digest} not found") from None
            try:
                while data := await asyncio.to_thread(os.pread, descriptor, _PIECE, offset):
                    offset += len(data)
                    yield data
            finally:
                os.close(descriptor)

    def sources_of(self, digest: Digest) -> list[str]:
        return list(self._images.records.now.sources.get(digest, ()))

    async def record_push(self, reference: Reference, image: PushImage) -> None:
        by_digest = Reference(reference.domain, reference.path, None, Digest(image.manifest["digest"]))
        source = f"{reference.domain}/{reference.path}"
        config = str(image.config["digest"])
        record = self._images.catalog.get(config).record
        await asyncio.to_thread(self._images.record, config, record, [by_digest])
        await asyncio.to_thread(self._remember, [Digest(layer["digest"]) for layer in image.layers], source)
