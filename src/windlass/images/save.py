"""`save`: images as one archive that dockerd, podman and any reader of OCI layouts can load.

oci-layout, index.json      OCI image layout (image-spec, image-layout.md)
manifest.json, repositories docker-archive, whose paths point to the same blobs
blobs/sha256/<hex>          configurations, manifests and layers, each once, as they are stored: nothing is recompressed
"""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final

from windlass.errors import InvalidParameter
from windlass.images.image import Image, familiar
from windlass.images.store import Images
from windlass.oci.digest import Digest
from windlass.oci.image import MEDIA_OCI_INDEX, encode_document
from windlass.oci.platform import Platform

_PIECE: Final = 1 << 20


async def save(images: Images, names: Iterable[str], *, platform: str | Platform | None = None) -> AsyncIterator[bytes]:
    """The archive of the named images; each name that is a reference is kept as a tag.

    Raises (before the first byte): NotFound, InvalidParameter.
    """
    chosen: dict[str, tuple[Image, list[str]]] = {}
    wanted = list(names)
    if not wanted:
        raise InvalidParameter("no image is named")
    for name in wanted:
        image = images.resolve(name, platform=platform)
        _, reference = images.catalog.find(name)
        tags = chosen.setdefault(image.id, (image, []))[1]
        if reference is not None and reference.digest is None and str(reference) not in tags:
            tags.append(str(reference))
    pieces = _archive(images, list(chosen.values()))
    while data := await asyncio.to_thread(next, pieces, b""):
        yield data


def _archive(images: Images, chosen: list[tuple[Image, list[str]]]) -> Iterator[bytes]:
    blobs: dict[Digest, None] = {}
    index: list[dict[str, Any]] = []
    archive: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image, tags in chosen:
        layers = [layer.blob for layer in image.record.layers]
        blobs |= dict.fromkeys([Digest(image.id), Digest(image.manifest["digest"]), *layers])
        for tag in tags or [""]:
            annotations = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag.rpartition(":")[2]}
            index.append({**image.manifest, **({"annotations": annotations} if tag else {})})
        archive.append(
            {
                "Config": _path(Digest(image.id)),
                "RepoTags": [familiar(tag) for tag in tags] or None,
                "Layers": [_path(blob) for blob in layers],
            }
        )
        for tag in tags:
            repository, _, name = familiar(tag).rpartition(":")
            top = image.chain_id or ""
            repositories.setdefault(repository, {})[name] = top.partition(":")[2]
    documents = {
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
        "index.json": {"schemaVersion": 2, "mediaType": MEDIA_OCI_INDEX, "manifests": index},
        "manifest.json": archive,
        "repositories": repositories,
    }
    with images.content.hold(blobs):
        yield _header("blobs/", tarfile.DIRTYPE, 0)
        yield _header("blobs/sha256/", tarfile.DIRTYPE, 0)
        for digest in sorted(blobs):
            yield from _blob(images, digest)
        for name, document in documents.items():
            data = encode_document(document)
            yield _header(name, tarfile.REGTYPE, len(data)) + data + bytes(-len(data) % 512)
    yield bytes(1024)


def _path(digest: Digest) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _header(name: str, kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode = kind, size, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return member.tobuf(tarfile.USTAR_FORMAT if size < 8 << 30 else tarfile.GNU_FORMAT)


def _blob(images: Images, digest: Digest) -> Iterator[bytes]:
    size = images.content.size(digest)
    with images.content.path(digest).open("rb", buffering=0) as file:
        yield _header(_path(digest), tarfile.REGTYPE, size)
        while data := file.read(_PIECE):
            yield data
    if size % 512:
        yield bytes(-size % 512)
