"""A store in memory that keeps the transfer protocol's promises, and checks that its users keep theirs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import orjson

from windlass.errors import SystemFailure
from windlass.images.transfer.store import LayerPlan, OnUnpacked, PushImage
from windlass.oci import image
from windlass.oci.digest import Digest, sha256_digest
from windlass.oci.image import Descriptor
from windlass.oci.platform import Platform, platform_from_json
from windlass.oci.reference import Reference


class MemoryStore:
    """Layers are bare tars here, so a blob's digest is also its diff ID. `references` maps to manifest digests."""

    def __init__(self) -> None:
        self.documents: dict[Digest, bytes] = {}
        self.blobs: dict[Digest, bytes] = {}
        self.layers: set[Digest] = set()
        self.references: dict[Reference, Digest] = {}
        self.sources: dict[Digest, list[str]] = {}
        self.unpacked: list[Digest] = []
        self.active = 0
        self.most_active = 0
        self.holds = 0
        self.gate: asyncio.Event | None = None
        """When set, `add_layer` waits here with half of the bytes read."""

    def state(self) -> tuple[object, ...]:
        return (
            dict(self.documents),
            dict(self.blobs),
            set(self.layers),
            dict(self.references),
        )

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        self.holds += 1
        try:
            yield
        finally:
            self.holds -= 1
            if not self.holds:
                self._collect()

    def read_document(self, digest: Digest) -> bytes | None:
        return self.documents.get(digest)

    async def add_document(self, descriptor: Descriptor, data: bytes) -> None:
        assert self.holds and sha256_digest(data) == descriptor["digest"] and len(data) == descriptor["size"]
        self.documents[descriptor["digest"]] = data

    def has_blob(self, digest: Digest) -> bool:
        return digest in self.blobs

    def has_layer(self, chain_id: Digest) -> bool:
        return chain_id in self.layers

    async def add_layer(self, plan: LayerPlan, chunks: AsyncIterator[bytes] | None, on_unpacked: OnUnpacked) -> None:
        assert self.holds and plan.chain_id not in self.layers
        digest = plan.descriptor["digest"]
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            if chunks is not None:
                data = b""
                async for chunk in chunks:
                    data += chunk
                    on_unpacked(len(data))
                    if self.gate is not None:
                        await self.gate.wait()
                if sha256_digest(data) != digest or len(data) != plan.descriptor["size"]:
                    raise SystemFailure(f"filesystem layer verification failed for digest {digest}")
                self.blobs[digest] = data
            if sha256_digest(self.blobs[digest]) != plan.diff_id:
                raise SystemFailure("layers from manifest don't match image configuration")
            self.layers.add(plan.chain_id)
            self.unpacked.append(digest)
        finally:
            self.active -= 1

    async def record_pull(
        self, reference: Reference, target: Descriptor, manifest: Descriptor, config: Descriptor, source: str
    ) -> bool:
        document = image.parse_manifest(self.documents[manifest["digest"]])
        assert config["digest"] in self.documents and target["digest"] in self.documents
        for layer in document["layers"]:
            assert layer["digest"] in self.blobs
            self.sources.setdefault(layer["digest"], []).insert(0, source)
        changed = self.references.get(reference) != manifest["digest"]
        self.references[reference] = manifest["digest"]
        return changed

    def platform_of(self, reference: Reference) -> Platform | None:
        if reference not in self.references:
            return None
        manifest = image.parse_manifest(self.documents[self.references[reference]])
        return platform_from_json(orjson.loads(self.documents[manifest["config"]["digest"]]))

    def tagged(self, repository: Reference) -> list[Reference]:
        return sorted(one for one in self.references if one.repository() == repository and one.tag)

    async def push_image(self, reference: Reference, platform: Platform | None) -> PushImage:
        digest = self.references[reference]
        data = self.documents[digest]
        manifest = image.parse_manifest(data)
        config = image.parse_image_config(self.documents[manifest["config"]["digest"]])
        descriptor = Descriptor(mediaType=image.MEDIA_OCI_MANIFEST, digest=digest, size=len(data))
        return PushImage(descriptor, data, manifest["config"], manifest["layers"], config["rootfs"]["diff_ids"])

    async def open_blob(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        data = self.blobs.get(digest) or self.documents[digest]
        for start in range(offset, len(data), 100_000):
            yield data[start : start + 100_000]

    def sources_of(self, digest: Digest) -> list[str]:
        return self.sources.get(digest, [])

    async def record_push(self, reference: Reference, image: PushImage) -> None:
        for layer in image.layers:
            self.sources.setdefault(layer["digest"], []).insert(0, reference.name)

    def _collect(self) -> None:
        kept: set[Digest] = set()
        chains: set[Digest] = set()
        for digest in self.references.values():
            manifest = image.parse_manifest(self.documents[digest])
            kept |= {digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
            config = image.parse_image_config(self.documents[manifest["config"]["digest"]])
            chains |= set(image.chain_ids(config["rootfs"]["diff_ids"]))
        indexes = {d for d, data in self.documents.items() if image.document_kind(data) == "index"} if kept else set()
        self.documents = {digest: data for digest, data in self.documents.items() if digest in kept | indexes}
        self.blobs = {digest: data for digest, data in self.blobs.items() if digest in kept}
        self.layers &= chains
