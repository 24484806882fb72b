"""A layer on its way in: one pass over its bytes, which are hashed, kept and unpacked at the same time.

    a blob from a registry   bytes ─▶ ingest ─▶ decompress ─▶ diff ID ─▶ unpack          (the blob is kept as it came)
    an archive to import     bytes ─▶ decompress ─▶ diff ID ─┬▶ compress ─▶ ingest       (the blob is made here)
                                                             └▶ unpack

Everything runs in one thread, with the interpreter's lock released by the hash, the codec and the file system.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator

from windlass.errors import InvalidParameter
from windlass.images.archive.compression import decompressed, gzip_compressor
from windlass.images.archive.unpack import LAYER_ALONE, LAYER_ON_TREE, unpack
from windlass.images.content import ContentStore
from windlass.images.records import LayerRecord
from windlass.images.snapshots import Driver, layer_name
from windlass.oci.digest import Digest
from windlass.oci.image import MEDIA_OCI_LAYER_GZIP, Descriptor, chain_ids

Source = Callable[[], bytes]


class _Tee:
    """A source that shows each piece to a sink on its way."""

    def __init__(self, source: Source, sink: Callable[[bytes], object]) -> None:
        self._source = source
        self._sink = sink

    def __call__(self) -> bytes:
        data = self._source()
        if data:
            self._sink(data)
        return data


def _plain(source: Source) -> Source:
    """The plain bytes of a stream, compressed or not, to its end."""
    pieces = decompressed(iter(source, b""))
    return lambda: next(pieces, b"")


class LayerStore:
    """Puts layers into the content store and the snapshots at once. Its methods block."""

    def __init__(self, content: ContentStore, driver: Driver) -> None:
        self._content = content
        self._driver = driver

    def has(self, chain_id: Digest) -> bool:
        """Whether a layer is here, unpacked."""
        return self._driver.stat(layer_name(chain_id)) is not None

    def receive(
        self,
        source: Source,
        descriptor: Descriptor,
        diff_id: Digest,
        chain_id: Digest,
        parent: Digest | None,
        *,
        keep: bool = True,
    ) -> LayerRecord:
        """Store a blob that is known by its descriptor, and unpack it.

        Args:
            source: the blob's bytes.
            keep: False where the blob is in the store already and is only unpacked.

        Raises:
            InvalidParameter: size, digest or diff ID are not as expected, or the archive is malformed; nothing is kept.
        """
        with self._staging(parent) as staging, self._content.begin() as ingest:
            hasher = hashlib.sha256()
            arriving = _Tee(source, ingest.write) if keep else source
            size = self._unpack(_Tee(_plain(arriving), hasher.update), staging)
            found = Digest(f"sha256:{hasher.hexdigest()}")
            if keep:
                ingest.publish(Digest(descriptor["digest"]), descriptor["size"])
            if found != diff_id:
                raise InvalidParameter(f"layer {descriptor['digest']} has diff ID {found}, its image says {diff_id}")
            self._driver.commit(layer_name(chain_id), staging)
        return LayerRecord(
            blob=Digest(descriptor["digest"]),
            diff_id=diff_id,
            chain_id=chain_id,
            media_type=descriptor["mediaType"],
            blob_size=descriptor["size"],
            size=size,
        )

    def make(self, source: Source, below: list[Digest]) -> LayerRecord:
        """Make a layer of an archive, compressed or not, on the layers with the diff IDs `below`.

        Raises InvalidParameter where the archive is malformed; nothing is kept.
        """
        chain = chain_ids(below)
        with self._staging(chain[-1] if chain else None) as staging, self._content.begin() as ingest:
            hasher = hashlib.sha256()
            compressor = gzip_compressor()
            packed = _Tee(_plain(source), lambda data: ingest.write(compressor.compress(data)))
            size = self._unpack(_Tee(packed, hasher.update), staging)
            ingest.write(compressor.flush())
            diff_id = Digest(f"sha256:{hasher.hexdigest()}")
            chain_id = chain_ids([*below, diff_id])[-1]
            blob = ingest.publish()
            self._driver.commit(layer_name(chain_id), staging)
            return LayerRecord(
                blob=blob,
                diff_id=diff_id,
                chain_id=chain_id,
                media_type=MEDIA_OCI_LAYER_GZIP,
                blob_size=ingest.size,
                size=size,
            )

    @contextlib.contextmanager
    def _staging(self, parent: Digest | None) -> Iterator[str]:
        """A snapshot to unpack into; what has not become a layer at the end goes."""
        name = f".layer-{secrets.token_hex(8)}"
        self._driver.prepare(name, None if parent is None else layer_name(parent))
        try:
            yield name
        finally:
            self._driver.remove(name)

    def _unpack(self, source: Source, staging: str) -> int:
        root = os.open(self._driver.directory(staging), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not self._driver.needs_parent:
                # Whether the parent was there already must not show in the result.
                os.fchown(root, 0, 0)
                os.fchmod(root, 0o755)
            return unpack(source, root, LAYER_ON_TREE if self._driver.needs_parent else LAYER_ALONE).size
        finally:
            os.close(root)
