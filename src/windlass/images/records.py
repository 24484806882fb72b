"""What the images are: one document on disk, replaced whole by each change.

    records.json
      images      image ID (digest of its configuration) → ImageRecord
      names       full reference (docker.io/library/x:tag, …@sha256:…) → image ID
      sources     blob digest → repositories that are known to have it, latest first

A JSON document and not a database: an engine has hundreds of images, not millions; a change writes some ten kilobytes
in one atomic rename, a reader needs no lock (it holds an immutable snapshot), and a person can read it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson

from windlass.errors import SystemFailure
from windlass.images.durable import write_atomically
from windlass.oci.digest import Digest
from windlass.oci.image import Descriptor

_MOST_SOURCES: Final = 8
_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """An image that is here.

    Attributes:
        manifest: descriptor of its manifest, a blob here.
        target: descriptor of what its name points to in its registry: the manifest or an index.
        layers: blob digests, diff IDs and unpacked sizes, lowest first.
        parent: ID of the image that it was committed from, or "".
        tagged: when it last got a name, nanoseconds since the epoch.
    """

    manifest: Descriptor
    target: Descriptor
    layers: tuple[LayerRecord, ...]
    parent: str = ""
    tagged: int = 0


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """A layer of an image."""

    blob: Digest
    diff_id: Digest
    chain_id: Digest
    media_type: str
    blob_size: int
    size: int
    """Bytes of its files when unpacked."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The whole state at one moment; never changed."""

    images: Mapping[str, ImageRecord] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def with_image(self, image_id: str, record: ImageRecord) -> Snapshot:
        """An image more, or another record for one."""
        return replace(self, images={**self.images, image_id: record})

    def without_image(self, image_id: str) -> Snapshot:
        """An image less, with its names."""
        images = {key: record for key, record in self.images.items() if key != image_id}
        return replace(self, images=images, names={n: i for n, i in self.names.items() if i != image_id})

    def with_name(self, name: str, image_id: str) -> Snapshot:
        """A name that means an image."""
        return replace(self, names={**self.names, name: image_id})

    def without_name(self, name: str) -> Snapshot:
        """A name less."""
        return replace(self, names={key: value for key, value in self.names.items() if key != name})

    def with_source(self, digest: str, repository: str) -> Snapshot:
        """A repository that has a blob."""
        known = [repository, *(one for one in self.sources.get(digest, ()) if one != repository)]
        return replace(self, sources={**self.sources, digest: tuple(known[:_MOST_SOURCES])})


class Records:
    """The document, in memory and on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.now = Snapshot()
        """Reading needs no lock: a change replaces this as a whole."""

    def open(self) -> None:
        """Read it. Raises SystemFailure where it is not ours to understand."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        try:
            self.now = _decode(orjson.loads(data))
        except (ValueError, KeyError, TypeError) as error:
            raise SystemFailure(f"{self._path} is damaged: {error}") from error

    def update(self, change: Callable[[Snapshot], Snapshot]) -> Snapshot:
        """Change the state: on disk first, then for readers. A change that changes nothing writes nothing."""
        with self._lock:
            after = change(self.now)
            if after is not self.now and after != self.now:
                write_atomically(self._path, orjson.dumps(_encode(after), option=orjson.OPT_INDENT_2))
                self.now = after
            return self.now


def _encode(state: Snapshot) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "images": dict(state.images),
        "names": dict(state.names),
        "sources": {key: list(value) for key, value in state.sources.items()},
    }


def _decode(document: dict[str, Any]) -> Snapshot:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']} is not known to this program")
    images = {}
    for image_id, fields in document["images"].items():
        layers = tuple(LayerRecord(**layer) for layer in fields.pop("layers"))
        images[image_id] = ImageRecord(layers=layers, **fields)
    return Snapshot(
        images=images,
        names=document["names"],
        sources={key: tuple(value) for key, value in document["sources"].items()},
    )
