"""`load`: images from an archive, in the form of `docker save` (old or new) or an OCI layout.

The archive is read once, as it comes. The list of what belongs together may be its last entry, so whatever may be a
layer is unpacked on the way, without a name, and gets its name when the list is known; other files are kept as blobs:

    entries ─┬▶ layers     blob + unpacked under a temporary name ─┐
             ├▶ documents  blob                                    ├─▶ manifest.json or index.json ─▶ images
             └▶ links      name ─▶ name                            ┘

Nothing is recorded before all of it is understood and verified; what turned out to be nothing is collected. Archives
are hostile: names in them are only keys of a table and never paths of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import posixpath
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from windlass.errors import InvalidParameter, NotFound, WindlassError
from windlass.images.archive.compression import decompressed, detect
from windlass.images.archive.header import BLOCK, HARD_LINK, REGULAR, SYMLINK, Entry, decode
from windlass.images.archive.reader import TarReader
from windlass.images.archive.streams import fed, in_thread
from windlass.images.layers import LAYER_TYPES, Staged
from windlass.images.records import ImageRecord, LayerRecord
from windlass.images.store import Images
from windlass.images.transfer.progress import Message, Meter, Send, progress, short_id
from windlass.images.transfer.stream import streaming
from windlass.oci.digest import Digest, is_digest
from windlass.oci.image import (
    INDEX_TYPES,
    MEDIA_OCI_CONFIG,
    Descriptor,
    chain_ids,
    image_platform,
    parse_image_config,
    parse_index,
    parse_manifest,
)
from windlass.oci.platform import Platform, best_match, maximum_platform, parse_platform, platform_from_json, rank
from windlass.oci.reference import Reference, parse_reference

_DOCUMENT_LIMIT: Final = 16 << 20
_MOST_FILES: Final = 100_000
_MOST_LINKS: Final = 16
_PIECE: Final = 1 << 20


@dataclass
class _Contents:
    """What was found in the archive: blobs by name, layers that are unpacked already, names that mean other names."""

    blobs: dict[str, Descriptor] = field(default_factory=dict)
    staged: dict[Digest, Staged] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Descriptor:
        """The blob of a name, through links. Raises InvalidParameter."""
        key = _normal(name)
        for _ in range(_MOST_LINKS):
            if key in self.blobs:
                return self.blobs[key]
            if key not in self.links:
                break
            key = self.links[key]
        raise InvalidParameter(f"invalid archive: {name} is not in it")


class _Found(NamedTuple):
    """An image as the archive describes it."""

    config: Digest
    layers: tuple[Descriptor, ...]
    names: tuple[Reference, ...]
    manifest: Descriptor | None


def load(
    images: Images, body: AsyncIterator[bytes], *, platform: str | Platform | None = None, quiet: bool = False
) -> AsyncIterator[Message]:
    """Load all images of an archive; yields dockerd's progress messages.

    Raises:
        InvalidParameter: the archive is malformed; nothing of it is kept.
        NotFound: no image of it is for the platform.
    """
    wanted = parse_platform(platform) if isinstance(platform, str) and platform else platform or None
    return streaming(lambda send: _load(images, body, wanted, send, quiet=quiet))


async def _load(
    images: Images, body: AsyncIterator[bytes], platform: Platform | None, send: Send, *, quiet: bool
) -> None:
    loop = asyncio.get_running_loop()

    def tell(message: Message) -> None:
        if not quiet:
            loop.call_soon_threadsafe(send, message)

    async with images.hold():
        with contextlib.ExitStack() as staging:
            contents = await fed(body, lambda chunks: _read(images, chunks, staging, tell), images.workers)
            found = await in_thread(lambda: _understand(images, contents, platform, tell), images.workers)
    for one in found:
        for name in one.names:
            send({"stream": f"Loaded image: {name.familiar()}\n"})
        if not one.names:
            send({"stream": f"Loaded image ID: {one.config}\n"})


# Reading


def _read(images: Images, chunks: Iterator[bytes], staging: contextlib.ExitStack, tell: Send) -> _Contents:
    """Take the archive in."""
    plain = decompressed(chunks)
    reader = TarReader(lambda: next(plain, b""))
    contents = _Contents()
    for entry in reader:
        name = _normal(entry.name.decode("utf-8", "surrogateescape"))
        if entry.kind == REGULAR:
            if len(contents.blobs) >= _MOST_FILES:
                raise InvalidParameter(f"invalid archive: more than {_MOST_FILES} files")
            if name in contents.blobs:
                raise InvalidParameter(f"invalid archive: {name} is in it twice")
            contents.blobs[name] = _take(images, name, entry, reader, contents, staging, tell)
        elif entry.kind in {SYMLINK, HARD_LINK}:
            target = entry.link.decode("utf-8", "surrogateescape")
            base = posixpath.dirname(name) if entry.kind == SYMLINK else ""
            contents.links[name] = _normal(posixpath.join(base, target))
    reader.finish()
    return contents


def _take(
    images: Images,
    name: str,
    entry: Entry,
    reader: TarReader,
    contents: _Contents,
    staging: contextlib.ExitStack,
    tell: Send,
) -> Descriptor:
    """One file: a layer is unpacked at once if the storage driver can do that without its parent."""
    expected = _expected(name)
    meter = Meter(tell, (short_id(expected) if expected else name)[:12], "Loading layer", entry.size)
    first, chunks = _counted(reader, meter)
    kind = _layer_kind(first, entry.size)
    media_type = LAYER_TYPES.get(kind, "")
    known = None if expected is None else Descriptor(mediaType=media_type, digest=expected, size=entry.size)
    if kind != _NO_LAYER and known is not None and images.content.has(known["digest"]):
        for _ in chunks:
            pass  # a blob of this digest is here already, verified; what this one is does not matter
        return known
    if kind == _NO_LAYER or images.driver.needs_parent:
        with images.content.begin(expected, entry.size) as ingest:
            for chunk in chunks:
                ingest.write(chunk)
            digest = ingest.publish()
        return known or Descriptor(mediaType=media_type, digest=digest, size=entry.size)
    staged = staging.enter_context(images.layers.staging(chunks, None, known=known, pack=known is None))
    contents.staged[staged.blob["digest"]] = staged
    return staged.blob


_NO_LAYER: Final = "none"


def _layer_kind(first: bytes, size: int) -> str:
    """How a file is compressed if it may be a layer."""
    if kind := detect(first):
        return kind
    if size >= BLOCK:
        with contextlib.suppress(InvalidParameter):
            decode(first[:BLOCK].ljust(BLOCK, b"\0"))
            return ""
    return _NO_LAYER


def _counted(reader: TarReader, meter: Meter) -> tuple[bytes, Iterator[bytes]]:
    """The first block of a file's data, and all of the data in pieces."""
    pieces = (bytes(view) for view in reader.data())
    first = b""
    while len(first) < BLOCK and (piece := next(pieces, b"")):
        first += piece

    def whole() -> Iterator[bytes]:
        done = len(first)
        if first:
            yield first
        for piece in pieces:
            done += len(piece)
            if len(piece) > BLOCK:
                meter(done)
            yield piece

    return first[:BLOCK], whole()


def _normal(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")


def _expected(name: str) -> Digest | None:
    """A blob of a layout says what it must be."""
    parts = name.split("/")
    if len(parts) == 3 and parts[0] == "blobs" and is_digest(f"{parts[1]}:{parts[2]}"):
        return Digest(f"{parts[1]}:{parts[2]}")
    return None


# Understanding


def _understand(images: Images, contents: _Contents, platform: Platform | None, tell: Send) -> list[_Found]:
    """Put the images together and record them, all or none."""
    found = _interpret(images, contents, platform)
    if not found:
        raise InvalidParameter("invalid archive: it has no image")
    ready = []
    for one in found:
        config = parse_image_config(images.content.read(one.config, limit=_DOCUMENT_LIMIT))
        diff_ids = config["rootfs"]["diff_ids"]
        if len(diff_ids) != len(one.layers):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(one.layers)}"
            )
        if platform is not None and rank(image_platform(config), platform) is None:
            raise NotFound(f"image {one.config} is for {image_platform(config)}, not for {platform}")
        # Without a manifest to be kept, a layer that is here already serves with the blob that it has.
        exact = one.manifest is not None
        layers = [_layer(images, contents, blob, diff_ids, n, exact=exact) for n, blob in enumerate(one.layers)]
        for layer in layers:
            tell(progress(short_id(layer.blob), "Loading layer", layer.blob_size, layer.blob_size))
        ready.append((str(one.config), _record(images, one, layers), one.names))
    images.record_all(ready)
    return found


def _interpret(images: Images, contents: _Contents, platform: Platform | None) -> list[_Found]:
    manifests = list(_manifests(images, contents, platform)) if "index.json" in contents.blobs else []
    if "manifest.json" not in contents.blobs:
        if not manifests and platform is not None:
            raise NotFound(f"no image of the archive is for the platform {platform}")
        return manifests
    by_config = {found.config: found for found in manifests}
    document = _document(images, contents, "manifest.json")
    if not isinstance(document, list):
        raise InvalidParameter("invalid archive: manifest.json is not a list")
    result = []
    for entry in document:
        try:
            config = contents.find(entry["Config"])["digest"]
            layers = tuple(contents.find(layer) for layer in entry["Layers"] or ())
            names = tuple(parse_reference(tag).with_default_tag() for tag in entry.get("RepoTags") or ())
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidParameter(f"invalid archive: manifest.json: {error!r}") from None
        # The manifest that came along keeps the image's digest as it was in its registry.
        same = by_config.get(config)
        digests = [layer["digest"] for layer in layers]
        kept = same.manifest if same is not None and [one["digest"] for one in same.layers] == digests else None
        result.append(_Found(config, layers, names, kept))
    return result


def _document(images: Images, contents: _Contents, name: str) -> Any:
    try:
        return orjson.loads(images.content.read(contents.find(name)["digest"], limit=_DOCUMENT_LIMIT))
    except ValueError as error:
        raise InvalidParameter(f"invalid archive: {name} is not JSON: {error}") from None


def _manifests(images: Images, contents: _Contents, platform: Platform | None) -> Iterator[_Found]:
    """Images of an OCI layout; of an index the one for this machine (or `platform`)."""
    index = parse_index(images.content.read(contents.find("index.json")["digest"], limit=_DOCUMENT_LIMIT))
    for descriptor in index["manifests"]:
        annotations = descriptor.get("annotations") or {}
        full = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name") or ""
        chosen = _choose(images, contents, descriptor, platform)
        if chosen is None:
            continue
        manifest = parse_manifest(images.content.read(chosen["digest"]))
        layers = tuple(_same(contents, layer) for layer in manifest["layers"])
        config = _same(contents, manifest["config"])
        yield _Found(config["digest"], layers, _named(full), chosen)


def _same(contents: _Contents, descriptor: Descriptor) -> Descriptor:
    """A descriptor of a document whose blob is in the archive, with the size that it says."""
    blob = contents.find(_blob_name(descriptor["digest"]))
    if blob["size"] != descriptor["size"]:
        raise InvalidParameter(
            f"invalid archive: blob {descriptor['digest']} has {blob['size']} bytes, not {descriptor['size']}"
        )
    return Descriptor(mediaType=descriptor["mediaType"], digest=descriptor["digest"], size=descriptor["size"])


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _named(text: str) -> tuple[Reference, ...]:
    """A full name, if it is one: a bare tag says nothing about the repository."""
    if "/" not in text and ":" not in text:
        return ()
    try:
        return (parse_reference(text).with_default_tag(),)
    except WindlassError:
        return ()


def _choose(
    images: Images, contents: _Contents, descriptor: Descriptor, platform: Platform | None
) -> Descriptor | None:
    """The manifest that a descriptor stands for: itself, or the best one of an index that is here."""
    blob = _same(contents, descriptor)
    if descriptor["mediaType"] not in INDEX_TYPES:
        return blob
    offered = [
        one
        for one in parse_index(images.content.read(blob["digest"]))["manifests"]
        if _blob_name(one["digest"]) in contents.blobs
    ]
    platforms = [platform_from_json(one.get("platform") or {}) for one in offered]
    best = best_match(platforms, platform or maximum_platform())
    return None if best is None else _same(contents, offered[best])


def _layer(
    images: Images, contents: _Contents, blob: Descriptor, diff_ids: list[Digest], number: int, *, exact: bool
) -> LayerRecord:
    """A layer in its place in the stack: there already, staged, or to be unpacked now."""
    chain = chain_ids(diff_ids[: number + 1])
    here = images.known_layer(chain[-1])
    if here is not None:
        if not exact:
            return here
        media_type = blob["mediaType"] or here.media_type
        return dataclasses.replace(here, blob=blob["digest"], media_type=media_type, blob_size=blob["size"])
    staged = contents.staged.get(blob["digest"])
    if staged is not None and images.driver.stat(staged.snapshot) is not None:
        if staged.diff_id != diff_ids[number]:
            raise InvalidParameter(
                f'invalid diffID for layer {number}: expected "{diff_ids[number]}", got "{staged.diff_id}"'
            )
        placed = images.layers.place(staged, chain[-1], chain[-2] if number else None)
        images.remember_layer(placed)
        return placed
    with images.content.path(blob["digest"]).open("rb", buffering=0) as file:
        pieces = iter(partial(file.read, _PIECE), b"")
        if not exact:
            placed = images.layers.make(pieces, diff_ids[:number], diff_id=diff_ids[number])
        else:
            parent = chain[-2] if number else None
            placed = images.layers.receive(pieces, blob, diff_ids[number], chain[-1], parent, keep=False)
    images.remember_layer(placed)
    return placed


def _record(images: Images, found: _Found, layers: list[LayerRecord]) -> ImageRecord:
    manifest = found.manifest
    if manifest is None:
        size = images.content.size(found.config)
        manifest = images.add_manifest(Descriptor(mediaType=MEDIA_OCI_CONFIG, digest=found.config, size=size), layers)
    return ImageRecord(manifest=manifest, target=manifest, layers=tuple(layers))
