"""The images of one engine: everything below `<data root>/images`.

    images/
      oci-layout, index.json, blobs/   content (images.content)
      records.json                     which images there are, and their names (images.records)
      overlay2/                        layers unpacked, roots of containers (images.snapshots)

`Images` is the front: it finds images, makes them from archives, gives containers their root file systems, and collects
what nothing refers to any more. Long work runs in threads; what only looks into the records does not wait.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from windlass.errors import InvalidParameter, NotImplementedByEngine
from windlass.images import summary
from windlass.images.archive.streams import fed, in_thread
from windlass.images.catalog import Catalog
from windlass.images.changes import apply_changes
from windlass.images.collector import Collector
from windlass.images.content import ContentStore
from windlass.images.durable import remove_temporaries, sync_filesystem, write_atomically
from windlass.images.image import Image
from windlass.images.layers import LayerStore
from windlass.images.records import ImageRecord, LayerRecord, Records, Snapshot
from windlass.images.removal import InUse, Removal
from windlass.images.roots import Roots
from windlass.images.snapshots import DRIVERS, PREFERRED, Driver, layer_name
from windlass.kernel.mounts import Mount
from windlass.oci.digest import Digest
from windlass.oci.image import (
    MEDIA_OCI_CONFIG,
    MEDIA_OCI_INDEX,
    MEDIA_OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Manifest,
    encode_document,
)
from windlass.oci.platform import Platform, parse_platform
from windlass.oci.reference import Reference

T = TypeVar("T")

_WORKERS: Final = 16
_HELPERS: Final = 4


class Images:
    """See the module. Made by `open`."""

    def __init__(self, root: Path, driver: Driver) -> None:
        self.root = root
        self.content = ContentStore(root)
        self.records = Records(root / "records.json")
        self.driver = driver
        self.catalog = Catalog(self.content, self.records)
        self.layers = LayerStore(self.content, driver)
        self.roots = Roots(driver)
        self.collector = Collector(self.content, self.records, driver, self.catalog)
        self.removal = Removal(self.records, self.catalog, self.collector)
        self._made: dict[Digest, LayerRecord] = {}
        # Threads of our own: pulls and imports, which take long, must not keep starts of containers waiting.
        self.workers = ThreadPoolExecutor(_WORKERS, "images-work")
        self.helpers = ThreadPoolExecutor(_HELPERS, "images")
        self.host_platform = self.catalog.host_platform

    @classmethod
    async def open(cls, root: Path, *, driver: str | None = None) -> Images:
        """Open or make the store below `root`, with a storage driver by name, or the best that works here.

        Raises:
            InvalidParameter: no such driver.
            NotImplementedByEngine: it does not work here.
            SystemFailure: the records are damaged.
        """
        return await asyncio.to_thread(cls._open, root, driver)

    @classmethod
    def _open(cls, root: Path, name: str | None) -> Images:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_temporaries(root)
        images = cls(root, _choose(root, {"overlay": "overlay2"}.get(name or "", name)))
        images.content.open()
        images.records.open()
        # What a crash left between a blob or a layer and the record that was to name it.
        images.collector.collect()
        return images

    async def close(self) -> None:
        """Finish what goes on in the background."""
        self.workers.shutdown()
        self.helpers.shutdown()
        await asyncio.to_thread(self.driver.close)

    @property
    def driver_name(self) -> str:
        """The storage driver, by Docker's name."""
        return self.driver.name

    # Finding

    def resolve(self, text: str, *, platform: str | Platform | None = None) -> Image:
        """The image that a name, ID or beginning of an ID means. Raises NotFound, InvalidParameter."""
        return self.catalog.resolve(text, platform=platform)

    def list(self) -> builtins.list[Image]:
        """All images, the youngest first."""
        return self.catalog.all()

    def runs_here(self, image: Image) -> bool:
        """Whether this machine can execute it."""
        return self.catalog.runs_here(image)

    # Making

    async def import_(
        self,
        source: AsyncIterator[bytes],
        *,
        reference: Reference | None,
        changes: Iterable[str] = (),
        message: str = "",
        platform: str | Platform | None = None,
    ) -> Image:
        """An image with one layer, from an archive of a root file system (plain or compressed).

        Raises:
            InvalidParameter: the archive is malformed or a change is; nothing is kept.
        """
        execution = apply_changes({}, changes)
        target = parse_platform(platform) if isinstance(platform, str) and platform else platform or self.host_platform
        async with self.hold():
            layer = await fed(source, lambda chunks: self.layers.make(chunks, []), self.workers)
            now = _timestamp()
            config: dict[str, Any] = {
                "created": now,
                "architecture": target.architecture,
                "os": target.os,
                **({"variant": target.variant} if target.variant else {}),
                "config": execution,
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
                "history": [{"created": now, "comment": message or "Imported from -"}],
            }
            return await self.helped(lambda: self.add(config, [layer], reference=reference))

    def add(
        self,
        config: Mapping[str, Any] | ImageConfig,
        layers: Sequence[LayerRecord],
        *,
        reference: Reference | None = None,
        parent: str = "",
    ) -> Image:
        """Make an image of layers that are here and a configuration; blocking. The caller holds the collection off."""
        config_data = encode_document(config)
        config_digest = self.content.add(config_data)
        config_descriptor = Descriptor(mediaType=MEDIA_OCI_CONFIG, digest=config_digest, size=len(config_data))
        descriptor = self.add_manifest(config_descriptor, layers)
        record = ImageRecord(manifest=descriptor, target=descriptor, layers=tuple(layers), parent=parent)
        return self.record(config_digest, record, [reference] if reference else [])

    def add_manifest(self, config: Descriptor, layers: Sequence[LayerRecord]) -> Descriptor:
        """Make a manifest for a configuration and layers that are here; blocking."""
        manifest: Manifest = {
            "schemaVersion": 2,
            "mediaType": MEDIA_OCI_MANIFEST,
            "config": config,
            "layers": [
                Descriptor(mediaType=layer.media_type, digest=layer.blob, size=layer.blob_size) for layer in layers
            ],
        }
        data = encode_document(manifest)
        return Descriptor(mediaType=MEDIA_OCI_MANIFEST, digest=self.content.add(data), size=len(data))

    def record(self, image_id: str, record: ImageRecord, references: Iterable[Reference]) -> Image:
        """Write an image and names for it down; blocking."""
        self.record_all([(image_id, record, references)])
        return self.catalog.get(image_id)

    def record_all(self, found: Iterable[tuple[str, ImageRecord, Iterable[Reference]]]) -> None:
        """Write images and names for them down, all at once; blocking."""
        listed = [(image_id, record, [str(name) for name in names]) for image_id, record, names in found]

        def change(now: Snapshot) -> Snapshot:
            for image_id, record, names in listed:
                before = now.images.get(image_id)
                if before is not None:
                    record = dataclasses.replace(record, parent=record.parent or before.parent, tagged=before.tagged)
                if names:
                    record = dataclasses.replace(record, tagged=time.time_ns())
                now = now.with_image(image_id, record)
                for name in names:
                    now = now.with_name(name, image_id)
            return now

        for _, record, _ in listed:
            for layer in record.layers:
                self.driver.settle(layer_name(layer.chain_id))
        # What the record names is on the disk before the record is.
        sync_filesystem(self.root)
        self.records.update(change)
        self._index()

    def known_layer(self, chain_id: Digest) -> LayerRecord | None:
        """What is known of a layer that is here, unpacked: from an image that has it, or from whoever just made it."""
        if not self.layers.has(chain_id):
            return None
        for record in self.records.now.images.values():
            for layer in record.layers:
                if layer.chain_id == chain_id:
                    return layer
        return self._made.get(chain_id)

    def remember_layer(self, layer: LayerRecord) -> None:
        """A layer has been made that no image has yet."""
        self._made[layer.chain_id] = layer

    def _index(self) -> None:
        """index.json, so that other programs find our images in the layout."""
        now = self.records.now
        entries = []
        for name, image_id in sorted(now.names.items()):
            if "@" not in name:
                entries.append(
                    {**now.images[image_id].manifest, "annotations": {"org.opencontainers.image.ref.name": name}}
                )
        document = {"schemaVersion": 2, "mediaType": MEDIA_OCI_INDEX, "manifests": entries}
        write_atomically(self.root / "index.json", encode_document(document), durable=False)

    async def tag(self, image: Image, reference: Reference) -> None:
        """Give an image a name, taking it from another one that had it."""
        if reference.digest is not None:
            raise InvalidParameter("refusing to create a tag with a digest reference")
        await self.helped(lambda: self.record(image.id, image.record, [reference.with_default_tag()]))

    # Removing

    async def remove(
        self, text: str, *, force: bool = False, noprune: bool = False, in_use: Mapping[str, Sequence[InUse]]
    ) -> builtins.list[dict[str, str]]:
        """Take a name, or all of an image, away: dockerd's list of what was untagged and deleted.

        Raises NotFound, Conflict (in dockerd's words).
        """
        done = await self.helped(lambda: self.removal.remove(text, force=force, noprune=noprune, in_use=in_use))
        await self.helped(self._index)
        return done

    async def prune(
        self, filters: Mapping[str, Sequence[str]], in_use: Mapping[str, Sequence[InUse]]
    ) -> dict[str, Any]:
        """Remove images that nothing uses: untagged ones, all with `dangling=false`."""
        answer = await self.helped(lambda: self.removal.prune(filters, in_use))
        await self.helped(self._index)
        return answer

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Nothing is collected while somebody is within; what then belongs to no image is."""
        await self.helped(self.collector.hold)
        try:
            yield
        finally:
            if self.collector.release():
                self._made.clear()
            await self.helped(self.collector.collect)

    async def helped(self, work: Callable[[], T]) -> T:
        """Run something short that may wait for the disk."""
        return await in_thread(work, self.helpers)

    async def fsck(self, *, thorough: bool = True) -> builtins.list[str]:
        """What is missing or, if `thorough` (every blob is read), damaged; a line each."""
        found = await in_thread(lambda: list(self.collector.problems(thorough=thorough)), self.workers)
        return [f"{what} (image {image_id})" if image_id else what for what, image_id in found]

    # Describing

    def inspect(self, text: str, *, manifests: bool = False, platform: str | Platform | None = None) -> dict[str, Any]:
        """`GET /images/{name}/json`."""
        return summary.inspection(self.resolve(text, platform=platform), self.driver)

    def history(self, text: str, *, platform: str | Platform | None = None) -> builtins.list[dict[str, Any]]:
        """`GET /images/{name}/history`."""
        return summary.history(self.resolve(text, platform=platform))

    def summaries(
        self,
        *,
        filters: Mapping[str, Sequence[str]] | None = None,
        all: bool = False,
        digests: bool = False,
        shared_size: bool = False,
        in_use: Mapping[str, Sequence[InUse]] | None = None,
    ) -> builtins.list[dict[str, Any]]:
        """`GET /images/json`. Raises InvalidParameter for a filter's value, NotFound for its image."""
        chosen = summary.select(self.catalog, filters or {}, all=all)
        return summary.summaries(chosen, self.catalog.all(), shared_size=shared_size, in_use=in_use)

    async def usage(self, in_use: Mapping[str, Sequence[InUse]] | None = None) -> dict[str, Any]:
        """What `system df` says of images: each, and what all layers take together on disk."""
        images = self.catalog.all()
        sizes = {layer.chain_id: layer.size for image in images for layer in image.record.layers}
        return {
            "LayersSize": sum(sizes.values()),
            "Images": summary.summaries(images, images, shared_size=True, in_use=in_use),
        }

    # Roots of containers

    async def create_rootfs(self, name: str, image_id: str | None, *, storage_opt: Mapping[str, str]) -> None:
        """A writable root file system `name` over an image (None: over nothing). Raises NotFound, InvalidParameter."""
        layer = self.catalog.get(image_id).chain_id if image_id else None
        await self.helped(lambda: self.roots.create(name, layer and layer_name(layer), storage_opt))

    def rootfs_mounts(self, name: str, *, read_only: bool = False) -> builtins.list[Mount]:
        """How the root `name` is mounted. Raises NotFound."""
        return self.driver.mounts(name, read_only=read_only)

    async def remove_rootfs(self, name: str) -> None:
        """Throw the root `name` away; one that is not there is no error."""
        await self.helped(partial(self.roots.remove, name))

    async def changes(self, name: str) -> builtins.list[dict[str, Any]]:
        """What the container wrote, as `GET /containers/{id}/changes` lists it."""
        found = await in_thread(lambda: self.roots.changes(name), self.workers)
        return [{"Path": "/" + path.decode(errors="replace"), "Kind": int(kind)} for path, kind in found]

    async def commit(
        self,
        name: str,
        base: str | None,
        *,
        config: Mapping[str, Any],
        container_config: Mapping[str, Any] | None = None,
        reference: Reference | None = None,
        changes: Iterable[str] = (),
        author: str = "",
        comment: str = "",
    ) -> Image:
        """An image of an image and what the container `name` wrote on it.

        Args:
            base: ID of the image below; None where the container stands on nothing.
            config: the execution configuration of the new image, before `changes`.

        Raises:
            InvalidParameter: a change is wrong.
        """
        execution = apply_changes(dict(config), changes)
        async with self.hold():
            return await in_thread(
                lambda: self._commit(name, base, execution, container_config or {}, reference, author, comment),
                self.workers,
            )

    def load(
        self, body: AsyncIterator[bytes], *, platform: str | Platform | None = None, quiet: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        """Load an archive; see `images.load`."""
        from windlass.images.load import load

        return load(self, body, platform=platform, quiet=quiet)

    def save(self, names: Iterable[str], *, platform: str | Platform | None = None) -> AsyncIterator[bytes]:
        """Save images as an archive; see `images.save`."""
        from windlass.images.save import save

        return save(self, names, platform=platform)

    def _commit(
        self,
        name: str,
        base: str | None,
        execution: Mapping[str, Any],
        container_config: Mapping[str, Any],
        reference: Reference | None,
        author: str,
        comment: str,
    ) -> Image:
        below = self.catalog.get(base) if base else None
        lower = list(below.record.layers) if below else []
        pieces = self.driver.pack(name)
        layer = self.layers.make(pieces, [one.diff_id for one in lower])
        now = _timestamp()
        document: dict[str, Any] = dict(below.config) if below else {"os": "linux"}
        platform = below.platform if below else self.host_platform
        command = " ".join(container_config.get("Cmd") or ())
        history = list(document.get("history") or ())
        history.append({"created": now, "author": author, "created_by": command, "comment": comment})
        document |= {
            "created": now,
            "author": author,
            "architecture": platform.architecture,
            "os": platform.os,
            "config": dict(execution),
            "rootfs": {"type": "layers", "diff_ids": [*(one.diff_id for one in lower), layer.diff_id]},
            "history": [{key: value for key, value in step.items() if value} for step in history],
        }
        if comment:
            document["comment"] = comment
        return self.add(document, [*lower, layer], reference=reference, parent=base or "")

    async def reconcile(self, names: Iterable[str]) -> None:
        """Throw away roots of containers that do not exist, and what only they stood on."""
        known = set(names)
        strange = [name for name in self.roots.names() if name not in known]
        for name in strange:
            await self.helped(partial(self.roots.remove, name))
        if strange:
            await self.helped(self.collector.collect)

    def driver_status(self) -> builtins.list[tuple[str, str]]:
        """What `info` says of the storage driver."""
        return self.driver.status()

    async def rootfs_usage(self, name: str) -> tuple[int, int]:
        """(bytes that the container wrote, bytes of the whole root file system)."""
        written = await in_thread(lambda: self.roots.written(name), self.workers)
        layer = self.roots.image_layer(name)
        return written, written + self._size_up_to(layer)

    def _size_up_to(self, layer: str | None) -> int:
        """Bytes of a layer and all below it."""
        if layer is None:
            return 0
        for record in self.records.now.images.values():
            for position, known in enumerate(record.layers):
                if layer_name(known.chain_id) == layer:
                    return sum(one.size for one in record.layers[: position + 1])
        return 0


def _choose(root: Path, name: str | None) -> Driver:
    if name:
        if name not in DRIVERS:
            raise InvalidParameter(f"unknown storage driver: {name} (one of {', '.join(sorted(DRIVERS))})")
        driver = DRIVERS[name](str(root / name))
        driver.open()
        return driver
    # What was used before is used again: its images are there.
    before = [known for known in DRIVERS if (root / known).exists()]
    problems: list[str] = []
    for known in [*before, *(one for one in PREFERRED if one not in before)]:
        driver = DRIVERS[known](str(root / known))
        try:
            driver.open()
        except NotImplementedByEngine as error:
            problems.append(str(error))
        else:
            return driver
    raise NotImplementedByEngine("no storage driver works here: " + "; ".join(problems))


def _timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
