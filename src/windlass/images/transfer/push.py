"""Push: an image of this store goes to a registry, with the bytes that it came with.

    for each layer, in parallel:  is it there?  can it be mounted from a repository that has it?  else upload it
    then the configuration, then the manifest under its tag

The manifest is the one that the image was pulled, loaded or made with: its digest here and there is the same, and no
layer is compressed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from windlass.errors import SystemFailure
from windlass.images.registry.client import RegistryClient, Repository
from windlass.images.registry.credentials import ANONYMOUS, Credentials
from windlass.images.registry.uploads import Outcome
from windlass.images.transfer.progress import Message, Meter, Send, action, aux, message, short_id
from windlass.images.transfer.pull import first_failure
from windlass.images.transfer.store import PushImage, TransferStore
from windlass.images.transfer.stream import streaming
from windlass.oci.digest import Digest
from windlass.oci.image import Descriptor
from windlass.oci.platform import Platform
from windlass.oci.reference import Reference

_MOUNT_ATTEMPTS: Final = 3


class Pusher:
    """Pushes for a whole daemon."""

    def __init__(self, client: RegistryClient, store: TransferStore) -> None:
        self._client = client
        self._store = store
        self._uploads = asyncio.Semaphore(client.settings.max_concurrent_uploads)

    def push(
        self, reference: Reference, *, platform: Platform | None = None, credentials: Credentials = ANONYMOUS
    ) -> AsyncGenerator[Message, None]:
        """Push an image, or all tags of a repository where the reference has none.

        Yields progress messages; raises typed errors with dockerd's texts. Leaving early cancels the push.
        """
        return streaming(lambda send: self._push(reference, platform, credentials, send))

    async def _push(
        self, reference: Reference, platform: Platform | None, credentials: Credentials, send: Send
    ) -> None:
        send(message(f"The push refers to repository [{reference.name}]"))
        chosen = self._chosen(reference)
        images = [(one, await self._store.push_image(one, platform)) for one in chosen]

        async def use(repository: Repository) -> None:
            for one, image in images:
                await self._push_one(one, image, repository, send)

        await self._client.pushing(reference, credentials, use)

    def _chosen(self, reference: Reference) -> list[Reference]:
        tagged = self._store.tagged(reference.repository())
        if not tagged:
            raise SystemFailure(f"An image does not exist locally with the tag: {reference.familiar_name()}")
        if reference.digest is not None:
            raise SystemFailure("cannot push a digest reference")
        if reference.tag is None:
            return tagged
        if reference not in tagged:
            raise SystemFailure(f"tag does not exist: {reference.familiar()}")
        return [reference]

    async def _push_one(self, reference: Reference, image: PushImage, repository: Repository, send: Send) -> None:
        layers: dict[Digest, tuple[str, Descriptor]] = {}
        for diff_id, descriptor in reversed(list(zip(image.diff_ids, image.layers, strict=True))):
            send(action(short_id(diff_id), "Preparing"))
            layers.setdefault(descriptor["digest"], (short_id(diff_id), descriptor))
        try:
            async with asyncio.TaskGroup() as group:
                for id, descriptor in layers.values():
                    group.create_task(self._layer(id, descriptor, repository, send))
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from None
        await self._upload(image.config, repository, "", lambda entry: None)
        assert reference.tag is not None
        digest = await repository.manifests.put(reference.tag, image.manifest["mediaType"], image.data)
        await self._store.record_push(reference, image)
        send(message(f"{reference.tag}: digest: {digest} size: {len(image.data)}"))
        send(aux({"Tag": reference.tag, "Digest": digest, "Size": len(image.data)}))

    async def _layer(self, id: str, descriptor: Descriptor, repository: Repository, send: Send) -> None:
        if self._uploads.locked():
            send(action(id, "Waiting"))
        async with self._uploads:
            outcome, source = await self._upload(descriptor, repository, id, send)
        texts = {
            Outcome.EXISTS: "Layer already exists",
            Outcome.MOUNTED: f"Mounted from {source}",
            Outcome.UPLOADED: "Pushed",
        }
        send(action(id, texts[outcome]))

    async def _upload(self, descriptor: Descriptor, repository: Repository, id: str, send: Send) -> tuple[Outcome, str]:
        digest, size = descriptor["digest"], descriptor["size"]
        return await repository.uploads.push(
            digest,
            size,
            lambda offset: self._store.open_blob(digest, offset),
            mount_from=self._mount_candidates(digest, repository.reference),
            on_progress=Meter(send, id, "Pushing", size),
        )

    def _mount_candidates(self, digest: Digest, target: Reference) -> list[str]:
        """Repositories of the same registry that have the blob: those that share most of the path first."""
        prefix = f"{target.domain}/"
        found = [name.removeprefix(prefix) for name in self._store.sources_of(digest) if name.startswith(prefix)]
        others = [path for path in dict.fromkeys(found) if path != target.path]
        return sorted(others, key=lambda path: -_shared_parts(path, target.path))[:_MOUNT_ATTEMPTS]


def _shared_parts(one: str, other: str) -> int:
    count = 0
    for left, right in zip(one.split("/"), other.split("/"), strict=False):
        if left != right:
            break
        count += 1
    return count
