"""Images as the engine's clients ask for them: who uses which, events, transfers with the settings of the moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from windlass.engine.core import Core
from windlass.engine.filters import Filters
from windlass.engine.settings import EngineSettings
from windlass.errors import InvalidParameter, SystemFailure
from windlass.images import Image, InUse
from windlass.images.registry.settings import RegistrySettings, registry_settings
from windlass.images.transfer.progress import Message
from windlass.images.transfer.service import Transfers
from windlass.images.transfer.stream import primed
from windlass.images.transfer_store import ImageTransferStore
from windlass.oci.platform import Platform, platform_from_json
from windlass.oci.reference import Reference, parse_reference, parse_repository_tag

Document = dict[str, Any]
_PIECE = 1 << 20


def _registry_settings(settings: EngineSettings) -> RegistrySettings:
    return registry_settings(
        mirrors=settings.registry_mirrors,
        insecure=settings.insecure_registries,
        max_concurrent_downloads=settings.max_concurrent_downloads,
        max_concurrent_uploads=settings.max_concurrent_uploads,
        max_attempts=settings.max_download_attempts,
    )


def platform_of(document: Document | None) -> Platform | None:
    """The API's `platform` parameter."""
    return platform_from_json(document) if document else None


def reference_of(repository: str, tag: str) -> Reference | None:
    """`repo` and `tag` of a request; None where no name is given. Raises InvalidParameter."""
    if not repository:
        return None
    reference = parse_repository_tag(repository, tag) if tag else parse_reference(repository)
    if reference.digest is not None:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    return reference.with_default_tag()


class ImageWork:
    """What the operations on images share."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.transfers = Transfers(_registry_settings(core.settings), ImageTransferStore(core.images))

    def reload(self) -> None:
        """The settings have changed."""
        self.transfers.reload(_registry_settings(self.core.settings))

    def in_use(self) -> dict[str, list[InUse]]:
        """Which containers stand on which image."""
        found: dict[str, list[InUse]] = {}
        for container in self.core.store:
            if container.image_id:
                found.setdefault(container.image_id, []).append(InUse(container.id, container.state.running))
        return found

    def event(self, action: str, actor: str, image: Image | None = None, name: str = "") -> None:
        """Publish what happened to an image."""
        attributes = dict((image.execution.get("Labels") or {}) if image else {})
        attributes["name"] = name or (image.repo_tags[0] if image and image.repo_tags else actor)
        self.core.events.publish("image", action, actor, attributes)

    async def pull(self, name: str, tag: str, *, platform: Platform | None, auth: Any) -> AsyncIterator[Message]:
        """Pull a name with a tag or digest, all tags without. Raises what fails before the first message."""
        reference = parse_repository_tag(name, tag) if tag else parse_reference(name)
        stream = await primed(self.transfers.pull(reference, platform=platform, auth=auth))

        async def told() -> AsyncIterator[Message]:
            async for message in stream:
                yield message
            self.event("pull", reference.familiar(), name=reference.familiar_name())

        return told()

    async def push(self, name: str, tag: str, *, platform: Platform | None, auth: Any) -> AsyncIterator[Message]:
        """Push a tag, all tags without. Raises what fails before the first message."""
        reference = parse_repository_tag(name, tag) if tag else parse_reference(name)
        stream = await primed(self.transfers.push(reference, platform=platform, auth=auth))

        async def told() -> AsyncIterator[Message]:
            async for message in stream:
                yield message
            self.event("push", reference.familiar(), name=reference.familiar_name())

        return told()

    async def import_(
        self,
        source: str,
        body: AsyncIterator[bytes],
        *,
        reference: Reference | None,
        changes: Sequence[str],
        message: str,
        platform: str,
    ) -> AsyncIterator[Message]:
        """An image from an archive: the request's body for "-", else from a URL."""
        stream = body if source == "-" else _download(source)

        async def work() -> AsyncIterator[Message]:
            if source != "-":
                yield {"status": f"Downloading from {source}"}
            image = await self.core.images.import_(
                stream, reference=reference, changes=changes, message=message, platform=platform or None
            )
            self.event("import", image.id, image)
            yield {"status": image.id}

        return work()

    async def load(
        self, body: AsyncIterator[bytes], *, platform: Platform | None, quiet: bool
    ) -> AsyncIterator[Message]:
        """Images from an archive. Raises what fails before the first message."""
        stream = self.core.images.load(body, platform=platform, quiet=quiet)
        first = await anext(stream, None)

        async def told() -> AsyncIterator[Message]:
            if first is not None:
                self._loaded(first)
                yield first
            async for message in stream:
                self._loaded(message)
                yield message

        return told()

    def _loaded(self, message: Message) -> None:
        text = str(message.get("stream") or "")
        for prefix in ("Loaded image: ", "Loaded image ID: "):
            if text.startswith(prefix):
                name = text.removeprefix(prefix).strip()
                image = self.core.images.resolve(name)
                self.event("load", image.id, image, name)

    async def remove(self, name: str, *, force: bool, noprune: bool) -> list[Document]:
        """Remove a name or an image."""
        image = self.core.images.resolve(name)
        done = await self.core.images.remove(name, force=force, noprune=noprune, in_use=self.in_use())
        for entry in done:
            if "Untagged" in entry:
                self.event("untag", image.id, image, image.id)
            elif entry["Deleted"] == image.id:
                self.event("delete", image.id, image, image.id)
        return done

    async def prune(self, filters: Filters) -> Document:
        """Remove what nothing uses."""
        answer = await self.core.images.prune(filters, self.in_use())
        self.core.events.publish("image", "prune", "", {"reclaimed": str(answer["SpaceReclaimed"])})
        return answer


async def _download(url: str) -> AsyncIterator[bytes]:
    """An archive from an http(s) URL; the HTTP client is imported when it is needed."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InvalidParameter(f"invalid URL to import from: {url}")
    aiohttp = await asyncio.to_thread(__import__, "aiohttp")
    try:
        async with aiohttp.ClientSession() as session, session.get(parts.geturl()) as response:
            if response.status >= 400:
                raise SystemFailure(f"bad response from {url}: {response.status} {response.reason}")
            async for piece in response.content.iter_chunked(_PIECE):
                yield piece
    except aiohttp.ClientError as error:
        raise SystemFailure(f"error downloading {url}: {error}") from error
