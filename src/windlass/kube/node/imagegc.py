"""Removes images that nothing uses: when their disk is too full, the longest unused first, until it is less full.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-garbage-collection
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from windlass.errors import WindlassError
from windlass.images import Image
from windlass.kube.node.images import PodImages
from windlass.kube.node.thresholds import Observation

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")

MINIMUM_AGE: Final = 120.0


class Seen(NamedTuple):
    """When an image was first seen, and when it was used last (0 for never)."""

    first: float
    used: float


def track(seen: Mapping[str, Seen], images: Iterable[str], used: set[str], now: float) -> dict[str, Seen]:
    """What is known of images, brought up to date. Pure."""
    found = {}
    for identity in images:
        before = seen.get(identity, Seen(now, 0.0))
        found[identity] = before._replace(used=now) if identity in used else before
    return found


def order(seen: Mapping[str, Seen], used: set[str], now: float, minimum_age: float) -> list[str]:
    """The images that may go, the longest unused first. Pure."""
    free = [identity for identity, each in seen.items() if identity not in used and now - each.first >= minimum_age]
    return sorted(free, key=lambda identity: (seen[identity].used, seen[identity].first))


def excess(disk: Observation, high: int, low: int) -> int:
    """Bytes to be freed, 0 while the disk is less full than `high` percent. Pure."""
    used = disk.capacity - disk.available
    if high >= 100 or disk.capacity <= 0 or used * 100 // disk.capacity < high:
        return 0
    return max(used - disk.capacity * low // 100, 0)


class ImageCollector:
    """Keeps count of when images were used, and removes them. `named` are images that pods show as volumes."""

    def __init__(
        self,
        images: PodImages,
        *,
        high: int,
        low: int,
        named: Callable[[], Iterable[str]],
        clock: Callable[[], float],
        minimum_age: float = MINIMUM_AGE,
    ) -> None:
        self._images = images
        self._high, self._low = high, low
        self._named = named
        self._clock = clock
        self._minimum_age = minimum_age
        self._seen: dict[str, Seen] = {}

    def look(self) -> dict[str, Image]:
        """Note which images are used now; all images that are here, by id."""
        here = {image.id: image for image in self._images.all()}
        self._seen = track(self._seen, here, self._used(), self._clock())
        return here

    def _used(self) -> set[str]:
        used = set(self._images.in_use())
        for name in self._named():
            image = self._images.find(name)
            if image is not None:
                used.add(image.id)
        return used

    async def collect(self, disk: Observation) -> tuple[int, int]:
        """Free what is too much: bytes that were wanted, and bytes of the images that went."""
        self.look()
        wanted = excess(disk, self._high, self._low)
        if not wanted:
            return 0, 0
        log.info("the images' disk is %d %% full or more: freeing %d bytes", self._high, wanted)
        return wanted, await self._remove(wanted, self._minimum_age)

    async def remove_unused(self) -> int:
        """Free all that nothing uses, however new: the node is short of disk. Bytes of the images that went."""
        self.look()
        return await self._remove(None, 0.0)

    async def _remove(self, wanted: int | None, minimum_age: float) -> int:
        freed = 0
        here = {image.id: image for image in self._images.all()}
        for identity in order(self._seen, self._used(), self._clock(), minimum_age):
            if wanted is not None and freed >= wanted:
                break
            # A container may have been made of it while others were removed.
            if identity not in here or identity in self._used():
                continue
            try:
                await self._images.remove(identity)
            except WindlassError as error:
                log.warning("image %s cannot be removed: %s", identity, error)
                continue
            freed += here[identity].size
            self._seen.pop(identity, None)
        return freed
