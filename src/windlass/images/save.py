"""`save`: images as one archive that dockerd, podman and any reader of OCI layouts can load.

    blobs/sha256/<hex>          configurations, manifests and layers, each once, as they are stored, not packed anew
    oci-layout, index.json      OCI image layout (image-spec, image-layout.md)
    manifest.json, repositories docker-archive, whose paths point to the same blobs

No entry has a time or an owner, so one image gives the same archive always.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final, NamedTuple

from windlass.errors import InvalidParameter, SystemFailure
from windlass.images.archive.header import BLOCK, DIRECTORY, REGULAR, Entry, encode
from windlass.images.archive.pack import END
from windlass.images.archive.streams import taken
from windlass.images.image import Image, familiar
from windlass.images.store import Images
from windlass.oci.digest import Digest
from windlass.oci.image import MEDIA_OCI_INDEX, Descriptor, encode_document
from windlass.oci.platform import Platform

_PIECE: Final = 1 << 20


class _Chosen(NamedTuple):
    image: Image
    tags: list[str]


async def save(images: Images, names: Iterable[str], *, platform: str | Platform | None = None) -> AsyncIterator[bytes]:
    """The archive of the named images; each name that is a reference is kept as a tag, a repository's with all tags.

    Raises (before the first byte): NotFound, InvalidParameter.
    """
    chosen: dict[str, _Chosen] = {}
    for name in names:
        image = images.resolve(name, platform=platform)
        _, reference = images.catalog.find(name)
        tags = chosen.setdefault(image.id, _Chosen(image, [])).tags
        if reference is not None and reference.digest is None and str(reference) not in tags:
            tags.append(str(reference))
    if not chosen:
        raise InvalidParameter("no image is named")
    wanted = [digest for one in chosen.values() for digest in _blobs(one.image)]
    with images.content.hold(wanted):
        async for piece in taken(lambda: _archive(images, list(chosen.values())), images.workers):
            yield piece


def _blobs(image: Image) -> list[Digest]:
    return [Digest(image.id), image.manifest["digest"], *(layer.blob for layer in image.record.layers)]


def _archive(images: Images, chosen: list[_Chosen]) -> Iterator[bytes]:
    blobs: dict[Digest, int] = {}
    index: list[dict[str, Any]] = []
    archive: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image, tags in chosen:
        for digest in _blobs(image):
            blobs[digest] = images.content.size(digest)
        index += [_indexed(image.manifest, tag) for tag in tags or [""]]
        archive.append(
            {
                "Config": _path(Digest(image.id)),
                "RepoTags": [familiar(tag) for tag in tags] or None,
                "Layers": [_path(layer.blob) for layer in image.record.layers],
            }
        )
        for tag in tags:
            repository, _, name = familiar(tag).rpartition(":")
            repositories.setdefault(repository, {})[name] = (image.chain_id or "").partition(":")[2]
    yield encode(Entry(b"blobs/", DIRECTORY, mode=0o755))
    for algorithm in sorted({digest.partition(":")[0] for digest in blobs}):
        yield encode(Entry(f"blobs/{algorithm}/".encode(), DIRECTORY, mode=0o755))
    for digest in sorted(blobs):
        yield from _blob(images, digest, blobs[digest])
    documents = {
        "index.json": {"schemaVersion": 2, "mediaType": MEDIA_OCI_INDEX, "manifests": index},
        "manifest.json": archive,
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
        "repositories": repositories,
    }
    for name, document in documents.items():
        data = encode_document(document)
        yield _header(name, len(data)) + data + bytes(-len(data) % BLOCK)
    yield END


def _indexed(manifest: Descriptor, tag: str) -> dict[str, Any]:
    if not tag:
        return {**manifest}
    annotations = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag.rpartition(":")[2]}
    return {**manifest, "annotations": annotations}


def _path(digest: Digest) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _header(name: str, size: int) -> bytes:
    return encode(Entry(name.encode(), REGULAR, size, stored=size))


def _blob(images: Images, digest: Digest, size: int) -> Iterator[bytes]:
    with images.content.path(digest).open("rb", buffering=0) as file:
        yield _header(_path(digest), size)
        left = size
        while data := file.read(_PIECE):
            left -= len(data)
            yield data
    if left:
        raise SystemFailure(f"blob {digest} is damaged: it has {size - left} bytes instead of {size}")
    if size % BLOCK:
        yield bytes(-size % BLOCK)
