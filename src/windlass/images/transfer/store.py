"""What pull and push need of the content store and the snapshots: a small protocol, so that neither knows the other.

    document   a manifest, index or image configuration: small, kept as a blob
    layer      a blob that is also unpacked on its parents, under its chain ID

Whatever is added inside `hold()` is safe from garbage collection until the hold ends; what then belongs to no image is
collected. So a pull that fails leaves the store as it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from windlass.oci.digest import Digest
from windlass.oci.image import Descriptor
from windlass.oci.platform import Platform
from windlass.oci.reference import Reference

OnUnpacked = Callable[[int], None]
"""Told how many bytes of the blob have been unpacked; called on the loop."""


@dataclass(frozen=True)
class LayerPlan:
    """A layer to add."""

    descriptor: Descriptor
    diff_id: Digest
    chain_id: Digest
    parent: Digest | None
    """The chain ID of the layer below."""


@dataclass(frozen=True)
class PushImage:
    """An image as it goes out: a manifest, and the blobs that it names, all of them here."""

    manifest: Descriptor
    data: bytes
    config: Descriptor
    layers: Sequence[Descriptor]
    diff_ids: Sequence[Digest]


class TransferStore(Protocol):
    """The store, as pull and push see it."""

    def hold(self) -> AbstractAsyncContextManager[object]:
        """Keep what is added from here on until the context ends."""
        ...

    def read_document(self, digest: Digest) -> bytes | None:
        """A document that is here, else None."""
        ...

    async def add_document(self, descriptor: Descriptor, data: bytes) -> None:
        """Keep a document that has been verified."""
        ...

    def has_blob(self, digest: Digest) -> bool:
        """Whether a layer's blob is here."""
        ...

    def has_layer(self, chain_id: Digest) -> bool:
        """Whether a layer is here unpacked."""
        ...

    async def add_layer(self, plan: LayerPlan, chunks: AsyncIterator[bytes] | None, on_unpacked: OnUnpacked) -> None:
        """Store a layer's blob from `chunks` (None: from the blob that is here) while unpacking it on its parents.

        Both digests and the size are verified before anything becomes visible; a failure or a cancellation leaves
        nothing. The parents may still be on their way: a driver that needs them waits. Raises typed errors.
        """
        ...

    async def record_pull(
        self, reference: Reference, target: Descriptor, manifest: Descriptor, config: Descriptor, source: str
    ) -> bool:
        """Make an image of what has been added, under `reference`; remember `source`, the repository it came from.

        Returns whether this changed what the reference means.
        """
        ...

    def platform_of(self, reference: Reference) -> Platform | None:
        """The platform of the image of this name, None where there is none."""
        ...

    def tagged(self, repository: Reference) -> list[Reference]:
        """The references with a tag that this repository has here."""
        ...

    async def push_image(self, reference: Reference, platform: Platform | None) -> PushImage:
        """What to push for a reference; layers whose blob is not kept are packed now. Raises `NotFound`."""
        ...

    def open_blob(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a blob that is here."""
        ...

    def sources_of(self, digest: Digest) -> list[str]:
        """The repositories (`domain/path`) that a blob is known to be in, latest first."""
        ...

    async def record_push(self, reference: Reference, image: PushImage) -> None:
        """Remember that an image's blobs are in a repository now, and its digest there."""
        ...
