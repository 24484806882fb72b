"""`load`: images from an archive, in the form of `docker save` (old or new) or an OCI layout.

The archive is read once, as it comes; what may be a layer or a document is put into the content store on the way, under
its digest, because the list of what belongs together may be the last entry. Then images are put together, layers that
are not here are unpacked, and what turned out to be nothing is collected. Archives are hostile: names in them are only
keys of a table and never paths of ours.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from windlass.errors import InvalidParameter, WindlassError
from windlass.images.archive.compression import decompressed, detect
from windlass.images.archive.header import HARD_LINK, REGULAR, SYMLINK
from windlass.images.archive.reader import TarReader
from windlass.images.pump import consume
from windlass.images.records import ImageRecord, LayerRecord
from windlass.images.store import Images
from windlass.oci.digest import Digest
from windlass.oci.image import (
    INDEX_TYPES,
    MEDIA_OCI_CONFIG,
    MEDIA_OCI_LAYER,
    MEDIA_OCI_LAYER_GZIP,
    MEDIA_OCI_LAYER_ZSTD,
    MEDIA_OCI_MANIFEST,
    Descriptor,
    chain_ids,
    encode_document,
    image_platform,
    parse_image_config,
    parse_index,
    parse_manifest,
)
from windlass.oci.platform import Platform, best_match, maximum_platform, parse_platform, platform_from_json
from windlass.oci.reference import Reference, parse_reference

_DOCUMENT_LIMIT: Final = 16 << 20
_MOST_FILES: Final = 100_000
_LAYER_TYPES: Final = {"": MEDIA_OCI_LAYER, "gzip": MEDIA_OCI_LAYER_GZIP, "zstd": MEDIA_OCI_LAYER_ZSTD}


@dataclass
class _Contents:
    """What was found in the archive: name to blob, and names that mean another name."""

    blobs: dict[str, tuple[Digest, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> tuple[Digest, int]:
        """The blob of a name, through links. Raises InvalidParameter."""
        key = posixpath.normpath(name)
        for _ in range(16):
            if key in self.blobs:
                return self.blobs[key]
            if key not in self.links:
                break
            key = self.links[key]
        raise InvalidParameter(f"invalid archive: {name} is not in it")


@dataclass(frozen=True)
class _Found:
    """An image as the archive describes it."""

    config: Digest
    layers: tuple[tuple[Digest, int], ...]
    names: tuple[Reference, ...]
    manifest: Descriptor | None


async def load(
    images: Images, body: AsyncIterator[bytes], *, platform: str | Platform | None = None, quiet: bool = False
) -> AsyncIterator[dict[str, Any]]:
    """Load all images of an archive; yields dockerd's progress messages.

    Raises:
        InvalidParameter: the archive is malformed; nothing of it is kept.
    """
    async with images.hold():
        contents = await consume(body, lambda source: _read(images, source))
        found = await asyncio.to_thread(_interpret, images, contents, platform)
        if not found:
            raise InvalidParameter("invalid archive: it has no image")
        for one in found:
            layers: list[LayerRecord] = []
            config = parse_image_config(images.content.read(one.config))
            diff_ids = config["rootfs"]["diff_ids"]
            if len(diff_ids) != len(one.layers):
                raise InvalidParameter(
                    f"invalid archive: image {one.config} has {len(diff_ids)} diff IDs, but {len(one.layers)} layers"
                )
            for position, (blob, size) in enumerate(one.layers):
                new = not images.layers.has(chain_ids(diff_ids)[position])
                layers.append(await asyncio.to_thread(_layer, images, blob, size, diff_ids, position))
                if new and not quiet:
                    detail = {"current": size, "total": size}
                    yield {"status": "Loading layer", "progressDetail": detail, "id": diff_ids[position][7:19]}
            await asyncio.to_thread(_record, images, one, layers)
            for name in one.names:
                yield {"stream": f"Loaded image: {name.familiar()}\n"}
            if not one.names:
                yield {"stream": f"Loaded image ID: {one.config}\n"}


def _read(images: Images, source: Callable[[], bytes]) -> _Contents:
    pieces = decompressed(iter(source, b""))
    reader = TarReader(lambda: next(pieces, b""))
    contents = _Contents()
    for entry in reader:
        name = posixpath.normpath(entry.name.decode("utf-8", "surrogateescape")).lstrip("/")
        if entry.kind == REGULAR:
            if len(contents.blobs) >= _MOST_FILES:
                raise InvalidParameter(f"invalid archive: more than {_MOST_FILES} files")
            with images.content.begin() as ingest:
                for data in reader.data():
                    ingest.write(data)
                contents.blobs[name] = (ingest.publish(_expected(name)), ingest.size)
        elif entry.kind in {SYMLINK, HARD_LINK}:
            target = entry.link.decode("utf-8", "surrogateescape")
            base = posixpath.dirname(name) if entry.kind == SYMLINK else ""
            contents.links[name] = posixpath.normpath(posixpath.join(base, target))
    reader.finish()
    return contents


def _expected(name: str) -> Digest | None:
    """A blob of a layout says what it must be."""
    parts = name.split("/")
    return Digest(f"{parts[1]}:{parts[2]}") if len(parts) == 3 and parts[:2] == ["blobs", "sha256"] else None


def _document(images: Images, contents: _Contents, name: str) -> Any:
    try:
        return orjson.loads(images.content.read(contents.find(name)[0], limit=_DOCUMENT_LIMIT))
    except ValueError as error:
        raise InvalidParameter(f"invalid archive: {name} is not JSON: {error}") from None


def _interpret(images: Images, contents: _Contents, platform: str | Platform | None) -> list[_Found]:
    manifests = list(_manifests(images, contents, platform)) if "index.json" in contents.blobs else []
    if "manifest.json" not in contents.blobs:
        return [found for _, found in manifests]
    by_config = {found.config: found for _, found in manifests}
    document = _document(images, contents, "manifest.json")
    if not isinstance(document, list):
        raise InvalidParameter("invalid archive: manifest.json is not a list")
    result = []
    for entry in document:
        try:
            config = contents.find(entry["Config"])[0]
            layers = tuple(contents.find(layer) for layer in entry["Layers"] or ())
            names = tuple(parse_reference(tag).with_default_tag() for tag in entry.get("RepoTags") or ())
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidParameter(f"invalid archive: manifest.json: {error!r}") from None
        # The manifest that came along keeps the image's digest as it was in its registry.
        same = by_config.get(config)
        kept = same.manifest if same is not None and same.layers == layers else None
        result.append(_Found(config, layers, names, kept))
    return result


def _manifests(
    images: Images, contents: _Contents, platform: str | Platform | None
) -> Iterator[tuple[Descriptor, _Found]]:
    """Images of an OCI layout; of an index the one for this machine (or `platform`)."""
    index = parse_index(images.content.read(contents.find("index.json")[0], limit=_DOCUMENT_LIMIT))
    for descriptor in index["manifests"]:
        annotations = descriptor.get("annotations") or {}
        full = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name") or ""
        names = _named(full)
        chosen = _choose(images, contents, descriptor, platform)
        if chosen is None:
            continue
        manifest = parse_manifest(images.content.read(Digest(chosen["digest"])))
        layers = tuple((Digest(layer["digest"]), int(layer["size"])) for layer in manifest["layers"])
        for digest, _ in layers:
            contents.find(f"blobs/{digest.replace(':', '/')}")
        yield chosen, _Found(Digest(manifest["config"]["digest"]), layers, names, chosen)


def _named(text: str) -> tuple[Reference, ...]:
    """A full name, if it is one: a bare tag says nothing about the repository."""
    if "/" not in text and ":" not in text:
        return ()
    try:
        return (parse_reference(text).with_default_tag(),)
    except WindlassError:
        return ()


def _choose(
    images: Images, contents: _Contents, descriptor: Descriptor, platform: str | Platform | None
) -> Descriptor | None:
    digest = Digest(descriptor["digest"])
    contents.find(f"blobs/{digest.replace(':', '/')}")
    if descriptor["mediaType"] not in INDEX_TYPES:
        return descriptor
    offered = parse_index(images.content.read(digest))["manifests"]
    here = [one for one in offered if f"blobs/{one['digest'].replace(':', '/')}" in contents.blobs]
    wanted = parse_platform(platform) if isinstance(platform, str) else platform or maximum_platform()
    best = best_match([platform_from_json(one.get("platform") or {}) for one in here], wanted)
    return None if best is None else here[best]


def _layer(images: Images, blob: Digest, size: int, diff_ids: list[Digest], position: int) -> LayerRecord:
    chain = chain_ids(diff_ids)[: position + 1]
    path = images.content.path(blob)
    with path.open("rb") as file:
        kind = detect(file.read(6))
    if kind not in _LAYER_TYPES:
        raise InvalidParameter(f"invalid archive: layer {blob} is compressed with {kind}")
    descriptor = Descriptor(mediaType=_LAYER_TYPES[kind], digest=blob, size=size)
    for record in images.records.now.images.values():
        for known in record.layers:
            if known.chain_id == chain[-1] and images.layers.has(chain[-1]):
                return LayerRecord(
                    blob=blob,
                    diff_id=diff_ids[position],
                    chain_id=chain[-1],
                    media_type=descriptor["mediaType"],
                    blob_size=size,
                    size=known.size,
                )
    with path.open("rb", buffering=0) as file:
        return images.layers.receive(
            lambda: file.read(1 << 20),
            descriptor,
            diff_ids[position],
            chain[-1],
            chain[-2] if position else None,
            keep=False,
        )


def _record(images: Images, found: _Found, layers: list[LayerRecord]) -> None:
    manifest = found.manifest
    if manifest is None:
        data = encode_document(
            {
                "schemaVersion": 2,
                "mediaType": MEDIA_OCI_MANIFEST,
                "config": Descriptor(
                    mediaType=MEDIA_OCI_CONFIG, digest=found.config, size=images.content.size(found.config)
                ),
                "layers": [
                    Descriptor(mediaType=layer.media_type, digest=layer.blob, size=layer.blob_size) for layer in layers
                ],
            }
        )
        manifest = Descriptor(mediaType=MEDIA_OCI_MANIFEST, digest=images.content.add(data), size=len(data))
    plain = Descriptor(mediaType=manifest["mediaType"], digest=manifest["digest"], size=manifest["size"])
    # The platform is checked by whoever runs it; here it must only be one that can be read.
    image_platform(parse_image_config(images.content.read(found.config)))
    record = ImageRecord(manifest=plain, target=plain, layers=tuple(layers))
    images.record(str(found.config), record, found.names)
