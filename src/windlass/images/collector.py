"""What nothing refers to any more goes: mark and sweep over typed references.

    names ─▶ image records ─▶ manifest, what the name points to in its registry, configuration     (blobs)
                           └▶ layers ─▶ their blobs; their snapshots and those below               (blobs, snapshots)
    containers' roots ─▶ the snapshots they stand on
    holders (a pull, an import, a save …) ─▶ everything, as long as they hold

Marking is one pass over the records in memory, sweeping one over the directories. A pass is made after a removal, when
the last holder leaves, and at start, where it also takes care of what a crash left between content and record.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

from windlass.errors import Conflict
from windlass.images.catalog import Catalog
from windlass.images.content import ContentStore
from windlass.images.records import ImageRecord, Records
from windlass.images.roots import is_init_layer
from windlass.images.snapshots import Driver, layer_name
from windlass.oci.digest import Digest


class Problem(NamedTuple):
    """Something in the store that is not as it should be."""

    what: str
    image_id: str | None
    """The image that suffers from it."""


class Collector:
    """Marks and sweeps. Its methods block and may be called from any thread."""

    def __init__(self, content: ContentStore, records: Records, driver: Driver, catalog: Catalog) -> None:
        self._content = content
        self._records = records
        self._driver = driver
        self._catalog = catalog
        self._lock = threading.Lock()
        self._holders = 0

    def hold(self) -> None:
        """From here on nothing is collected, until `release`. Waits for a pass that goes on."""
        with self._lock:
            self._holders += 1

    def release(self) -> bool:
        """The end of a hold; returns whether it was the last one. A pass is the caller's next step."""
        with self._lock:
            self._holders -= 1
            return not self._holders

    def collect(self) -> list[Digest]:
        """One pass, unless somebody holds; returns the chain IDs of the layers that went, topmost first."""
        with self._lock:
            if self._holders:
                return []
            images = self._records.now.images
            gone = self._sweep_layers({layer.chain_id for record in images.values() for layer in record.layers})
            blobs = {digest for image_id, record in images.items() for digest in blobs_of(image_id, record)}
            self._content.remove_unreferenced(blobs)
            self._catalog.forget([known for known in list(self._catalog.known()) if known not in images])
            return gone

    def _sweep_layers(self, wanted: set[Digest]) -> list[Digest]:
        """Remove layers of no image on which nothing stands, again and again, until there is none."""
        names = {layer_name(chain_id) for chain_id in wanted}
        gone: list[Digest] = []
        kept: set[str] = set()
        while True:
            infos = list(self._driver.walk())
            needed = {info.parent for info in infos}
            free = [info for info in infos if info.is_layer and info.name not in needed | names | kept]
            # The mount points of an image's containers stay as long as the image does.
            free = [
                one for one in free if not (is_init_layer(one.name) and (one.parent is None or one.parent in names))
            ]
            if not free:
                return gone
            for info in free:
                try:
                    self._driver.remove(info.name)
                except Conflict:
                    kept.add(info.name)  # a container has come to stand on it just now
                    continue
                if not is_init_layer(info.name):
                    gone.append(Digest(f"sha256:{info.name}"))

    def problems(self, *, thorough: bool) -> Iterator[Problem]:
        """What is missing or, if `thorough`, damaged (every blob is read). What is too much is collected, not told."""
        damaged = set(self._content.damaged()) if thorough else set()
        for image_id, record in self._records.now.images.items():
            for digest in blobs_of(image_id, record):
                if not self._content.has(digest):
                    yield Problem(f"blob {digest} is missing", image_id)
                elif digest in damaged:
                    yield Problem(f"blob {digest} is damaged", image_id)
            for layer in record.layers:
                if self._driver.stat(layer_name(layer.chain_id)) is None:
                    yield Problem(f"layer {layer.chain_id} is not unpacked", image_id)
        for name, image_id in self._records.now.names.items():
            if image_id not in self._records.now.images:
                yield Problem(f"name {name} means an image that is not here", None)
        for info in self._driver.walk():
            if info.parent is not None and self._driver.stat(info.parent) is None:
                yield Problem(f"snapshot {info.name} stands on {info.parent}, which is missing", None)


def blobs_of(image_id: str, record: ImageRecord) -> set[Digest]:
    """All blobs that an image consists of."""
    return {
        Digest(image_id),
        Digest(record.manifest["digest"]),
        Digest(record.target["digest"]),
        *(layer.blob for layer in record.layers),
    }
