"""`docker system df`: every byte of the data root and who can give it back (`/system/df` in the shape of API 1.51)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from windlass.engine.core import Core
from windlass.engine.filters import NO_FILTERS
from windlass.engine.images import ImageWork
from windlass.engine.listing import Listing

Document = dict[str, Any]

TYPES: Final = ("container", "image", "volume", "build-cache")


async def usage(core: Core, listing: Listing, images: ImageWork, types: Sequence[str]) -> Document:
    """Usage of the given kinds, of all if none is given."""
    wanted = set(types) or set(TYPES)
    jobs: dict[str, Any] = {}
    if "image" in wanted:
        jobs["image"] = core.images.usage(images.in_use())
    if "container" in wanted:
        jobs["container"] = listing.summaries(all=True, limit=0, size=True, filters=NO_FILTERS)
    if "volume" in wanted:
        jobs["volume"] = core.volumes.usage()
    results = dict(zip(jobs, await asyncio.gather(*jobs.values()), strict=True))
    document: Document = {}
    if "image" in results:
        document |= results["image"]
    if "container" in results:
        document["Containers"] = results["container"]
    if "volume" in results:
        document["Volumes"] = results["volume"]
    if "build-cache" in wanted:
        # Nothing is built here yet, so there is no cache.
        document["BuildCache"] = []
    return document
