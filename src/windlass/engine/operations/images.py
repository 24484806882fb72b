"""Operations of the tags Image and Distribution."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from windlass.engine.filters import Filters
from windlass.engine.images import platform_of, reference_of
from windlass.engine.operations.parts import Parts
from windlass.errors import InvalidParameter
from windlass.oci.platform import parse_platform
from windlass.oci.reference import parse_reference

Document = dict[str, Any]
Progress = AsyncIterator[Document]


class ImageOperations:
    """A part of `Engine`."""

    parts: Parts

    async def image_list(self, *, all: bool, filters: Filters, shared_size: bool, manifests: bool) -> list[Document]:
        """ImageList."""
        work = self.parts.images
        return self.parts.core.images.summaries(filters=filters, all=all, shared_size=shared_size, in_use=work.in_use())

    async def image_create(
        self,
        *,
        from_image: str,
        from_src: str,
        repo: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str,
        auth: Any,
        body: AsyncIterator[bytes],
    ) -> Progress:
        """ImageCreate: pull, or import."""
        work = self.parts.images
        if from_image:
            wanted = parse_platform(platform) if platform else None
            return await work.pull(from_image, tag, platform=wanted, auth=auth)
        if not from_src:
            raise InvalidParameter("one of fromImage and fromSrc is needed")
        return await work.import_(
            from_src,
            body,
            reference=reference_of(repo, tag),
            changes=changes,
            message=message,
            platform=platform,
        )

    async def image_inspect(self, name: str, *, manifests: bool, platform: Document | None) -> Document:
        """ImageInspect."""
        return self.parts.core.images.inspect(name, manifests=manifests, platform=platform_of(platform))

    async def image_history(self, name: str, *, platform: Document | None) -> list[Document]:
        """ImageHistory."""
        return self.parts.core.images.history(name, platform=platform_of(platform))

    async def image_push(self, name: str, *, tag: str, platform: Document | None, auth: Any) -> Progress:
        """ImagePush."""
        return await self.parts.images.push(name, tag, platform=platform_of(platform), auth=auth)

    async def image_tag(self, name: str, *, repo: str, tag: str) -> None:
        """ImageTag."""
        images = self.parts.core.images
        image = images.resolve(name)
        reference = reference_of(repo, tag)
        if reference is None:
            raise InvalidParameter("repository name must have at least one component")
        await images.tag(image, reference)
        self.parts.images.event("tag", image.id, image, reference.familiar())

    async def image_delete(
        self, name: str, *, force: bool, noprune: bool, platforms: Sequence[Document]
    ) -> list[Document]:
        """ImageDelete."""
        return await self.parts.images.remove(name, force=force, noprune=noprune)

    async def image_search(self, *, term: str, limit: int, filters: Filters, auth: Any) -> list[Document]:
        """ImageSearch."""
        return await self.parts.images.transfers.search(term, limit=limit, filters=filters, auth=auth)

    async def image_prune(self, *, filters: Filters) -> Document:
        """ImagePrune."""
        return await self.parts.images.prune(filters)

    async def image_commit(
        self,
        *,
        container: str,
        repo: str,
        tag: str,
        comment: str,
        author: str,
        pause: bool,
        changes: Sequence[str],
        body: Document,
    ) -> Document:
        """ImageCommit."""
        image_id = await self.parts.commits.commit(
            self.parts.core.store.find(container),
            reference=reference_of(repo, tag),
            comment=comment,
            author=author,
            pause=pause,
            changes=changes,
            body=body,
        )
        return {"Id": image_id}

    async def image_get(self, *, names: Sequence[str], platform: Document | None) -> AsyncIterator[bytes]:
        """ImageGet and ImageGetAll."""
        images = self.parts.core.images
        for name in names:
            images.resolve(name, platform=platform_of(platform))
        for name in names:
            self.parts.images.event("save", images.resolve(name).id, images.resolve(name))
        return images.save(names, platform=platform_of(platform))

    async def image_load(self, *, quiet: bool, platform: Document | None, body: AsyncIterator[bytes]) -> Progress:
        """ImageLoad."""
        return await self.parts.images.load(body, platform=platform_of(platform), quiet=quiet)

    async def distribution_inspect(self, name: str, *, auth: Any) -> Document:
        """DistributionInspect."""
        return await self.parts.images.transfers.inspect(parse_reference(name).with_default_tag(), auth=auth)
