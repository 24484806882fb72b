"""The store as pull and push see it: `transfer.store.TransferStore` over content, snapshots and records."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

from windlass.errors import InvalidParameter, NotFound, SystemFailure
from windlass.images.archive.streams import fed
from windlass.images.records import ImageRecord, LayerRecord, Snapshot
from windlass.images.store import Images
from windlass.images.transfer.store import LayerPlan, OnUnpacked, PushImage
from windlass.oci.digest import Digest
from windlass.oci.image import Descriptor, chain_ids, parse_image_config, parse_manifest
from windlass.oci.platform import Platform, rank
from windlass.oci.reference import Reference, parse_reference

_PIECE: Final = 1 << 20


class ImageTransferStore:
    """See `transfer.store.TransferStore`, whose promises these methods keep."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._awaited: dict[Digest, asyncio.Event] = {}

    def hold(self) -> AbstractAsyncContextManager[object]:
        return self._images.hold()

    def read_document(self, digest: Digest) -> bytes | None:
        try:
            return self._images.content.read(digest)
        except NotFound:
            return None

    async def add_document(self, descriptor: Descriptor, data: bytes) -> None:
        await self._images.helped(lambda: self._images.content.add(data, descriptor["digest"]))

    def has_blob(self, digest: Digest) -> bool:
        return self._images.content.has(digest)

    def has_layer(self, chain_id: Digest) -> bool:
        return self._images.known_layer(chain_id) is not None

    async def add_layer(self, plan: LayerPlan, chunks: AsyncIterator[bytes] | None, on_unpacked: OnUnpacked) -> None:
        if self._images.driver.needs_parent and plan.parent is not None:
            while not self.has_layer(plan.parent):
                await self._awaited.setdefault(plan.parent, asyncio.Event()).wait()
        try:
            stream = chunks if chunks is not None else self.open_blob(Digest(plan.descriptor["digest"]), 0)
            loop = asyncio.get_running_loop()

            def counted(source: Iterator[bytes]) -> Iterator[bytes]:
                done = 0
                for chunk in source:
                    yield chunk
                    done += len(chunk)
                    loop.call_soon_threadsafe(on_unpacked, done)

            def work(source: Iterator[bytes]) -> LayerRecord:
                return self._images.layers.receive(
                    counted(source), plan.descriptor, plan.diff_id, plan.chain_id, plan.parent, keep=chunks is not None
                )

            try:
                self._images.remember_layer(await fed(stream, work, self._images.workers))
            except InvalidParameter as error:
                # What a registry gave us is not the client's mistake.
                raise SystemFailure(f"failed to register layer: {error}") from error
        finally:
            if (waiting := self._awaited.pop(plan.chain_id, None)) is not None:
                waiting.set()

    async def record_pull(
        self, reference: Reference, target: Descriptor, manifest: Descriptor, config: Descriptor, source: str
    ) -> bool:
        work = lambda: self._record_pull(reference, target, manifest, config, source)  # noqa: E731
        return await self._images.helped(work)

    def _record_pull(
        self, reference: Reference, target: Descriptor, manifest: Descriptor, config: Descriptor, source: str
    ) -> bool:
        content = self._images.content
        document = parse_manifest(content.read(manifest["digest"]))
        diff_ids = parse_image_config(content.read(config["digest"]))["rootfs"]["diff_ids"]
        layers = []
        for descriptor, chain_id in zip(document["layers"], chain_ids(diff_ids), strict=True):
            known = self._images.known_layer(chain_id)
            if known is None:
                raise SystemFailure(f"layer {chain_id} is missing")
            if content.has(descriptor["digest"]):
                known = dataclasses.replace(
                    known,
                    blob=descriptor["digest"],
                    media_type=descriptor["mediaType"],
                    blob_size=descriptor["size"],
                )
            layers.append(known)
        if [layer.blob for layer in layers] != [descriptor["digest"] for descriptor in document["layers"]]:
            # A layer was here already, packed differently: the image is the same, its manifest has to be ours.
            manifest = self._images.add_manifest(config, layers)
        by_digest = Reference(reference.domain, reference.path, None, Digest(target["digest"]))
        names = [by_digest] if reference.digest is not None else [reference, by_digest]
        before = self._images.records.now.names.get(str(reference))
        self._images.record(
            config["digest"], ImageRecord(manifest=manifest, target=target, layers=tuple(layers)), names
        )
        self._remember([layer.blob for layer in layers], source)
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
                path = self._images.content.path(digest)
                descriptor = await self._images.helped(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except FileNotFoundError:
                raise NotFound(f"content {digest} not found") from None
            try:
                while data := await self._images.helped(partial(os.pread, descriptor, _PIECE, offset)):
                    offset += len(data)
                    yield data
            finally:
                os.close(descriptor)

    def sources_of(self, digest: Digest) -> list[str]:
        return list(self._images.records.now.sources.get(digest, ()))

    async def record_push(self, reference: Reference, image: PushImage) -> None:
        by_digest = Reference(reference.domain, reference.path, None, Digest(image.manifest["digest"]))
        source = f"{reference.domain}/{reference.path}"

        def work() -> None:
            config = image.config["digest"]
            self._images.record(config, self._images.catalog.get(config).record, [by_digest])
            self._remember([layer["digest"] for layer in image.layers], source)

        await self._images.helped(work)
