"""A layer on its way in: one pass over its bytes, which are hashed, kept and unpacked at the same time.

    keep the blob as it comes   bytes ─▶ digest, ingest ─▶ decompress ─▶ diff ID ─┃─▶ unpack
    make the blob               bytes ─▶ decompress ─▶ diff ID ─▶ compress, digest, ingest ─┃─▶ unpack

What stands before the bar runs in a thread of its own, some pieces ahead: hashes, codecs and writing release the
interpreter's lock, so it goes on beside the unpacking, which is mostly the interpreter's and the file system's work.

A layer is *staged* first, since its diff ID is known at the end only, and then *placed* under its chain ID by a rename.
Whatever is staged and not placed goes with the `with` block.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from windlass.errors import InvalidParameter
from windlass.images.archive.compression import decompressed, detect, gzip_compressor, peeked
from windlass.images.archive.streams import ahead
from windlass.images.archive.unpack import LAYER_ALONE, LAYER_ON_TREE, unpack
from windlass.images.content import ContentStore, Ingest
from windlass.images.records import LayerRecord
from windlass.images.snapshots import Driver, layer_name
from windlass.oci.digest import Digest, digest_of_hash, hasher_for
from windlass.oci.image import (
    MEDIA_OCI_LAYER,
    MEDIA_OCI_LAYER_GZIP,
    MEDIA_OCI_LAYER_ZSTD,
    Descriptor,
    chain_ids,
)

LAYER_TYPES: Final = {"": MEDIA_OCI_LAYER, "gzip": MEDIA_OCI_LAYER_GZIP, "zstd": MEDIA_OCI_LAYER_ZSTD}
"""Media types of the layers that the specification knows, by their compression."""


class Staged(NamedTuple):
    """A layer that is unpacked and has no name yet; its blob is in the store."""

    snapshot: str
    blob: Descriptor
    diff_id: Digest
    size: int
    """Bytes of its files."""


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
        chunks: Iterable[bytes],
        descriptor: Descriptor,
        diff_id: Digest,
        chain_id: Digest,
        parent: Digest | None,
        *,
        keep: bool = True,
    ) -> LayerRecord:
        """Store a blob that is known by its descriptor, and unpack it.

        Args:
            chunks: the blob's bytes.
            keep: False where the blob is in the store already and is only unpacked.

        Raises:
            InvalidParameter: size, digest or diff ID are not as expected, or the archive is malformed; nothing is kept.
        """
        with self.staging(chunks, parent, known=descriptor, keep=keep, diff_id=diff_id) as staged:
            return self.place(staged, chain_id, parent)

    def make(self, chunks: Iterable[bytes], below: list[Digest], *, diff_id: Digest | None = None) -> LayerRecord:
        """Make a layer of an archive, compressed or not, on the layers with the diff IDs `below`.

        A blob is kept as it comes if registries know its compression, else compressed here. Raises InvalidParameter
        where the archive is malformed, has no end or is not what `diff_id` names; nothing is kept.
        """
        parent = chain_ids(below)[-1] if below else None
        with self.staging(chunks, parent, pack=True, diff_id=diff_id) as staged:
            return self.place(staged, chain_ids([*below, staged.diff_id])[-1], parent)

    def place(self, staged: Staged, chain_id: Digest, parent: Digest | None) -> LayerRecord:
        """Give a staged layer its name, and its parent if it was staged without."""
        name = None if parent is None else layer_name(parent)
        info = self._driver.stat(staged.snapshot)
        if info is not None and info.parent != name:
            self._driver.stand(staged.snapshot, name)
        self._driver.commit(layer_name(chain_id), staged.snapshot)
        return LayerRecord(
            blob=staged.blob["digest"],
            diff_id=staged.diff_id,
            chain_id=chain_id,
            media_type=staged.blob["mediaType"],
            blob_size=staged.blob["size"],
            size=staged.size,
        )

    @contextlib.contextmanager
    def staging(
        self,
        chunks: Iterable[bytes],
        parent: Digest | None,
        *,
        known: Descriptor | None = None,
        keep: bool = True,
        diff_id: Digest | None = None,
        pack: bool = False,
    ) -> Iterator[Staged]:
        """Stage a layer on its parent.

        Args:
            known: what the blob must be.
            keep: whether to put the blob into the store.
            diff_id: what the digest of the plain archive must be.
            pack: a blob that is not compressed, or in a way that registries do not know, is compressed here. Such an
                archive must have its end marker, because no digest says that it is whole.
        """
        snapshot = f".layer-{secrets.token_hex(8)}"
        self._driver.prepare(snapshot, None if parent is None else layer_name(parent))
        try:
            yield self._stage(snapshot, chunks, known, keep=keep, diff_id=diff_id, pack=pack)
        finally:
            self._driver.remove(snapshot)

    def _stage(
        self,
        snapshot: str,
        chunks: Iterable[bytes],
        known: Descriptor | None,
        *,
        keep: bool,
        diff_id: Digest | None,
        pack: bool,
    ) -> Staged:
        hasher = hashlib.sha256() if diff_id is None else hasher_for(diff_id)
        expected, size = (None, None) if known is None else (Digest(known["digest"]), known["size"])
        start, arriving = peeked(chunks)
        kind = detect(start)
        recompress = pack and kind in ("", "xz", "bzip2")
        with self._content.begin(expected, size) as ingest:
            if keep and not recompress:
                arriving = _shown(arriving, ingest.write)
            plain = _shown(decompressed(arriving, kind), hasher.update)
            if recompress:
                kind, plain = "gzip", _packed(plain, ingest)
            size_of_files = self._unpack(plain, snapshot, complete=pack)
            for _ in arriving:
                pass  # what stands behind the end of a compressed stream belongs to the blob, too
            found = digest_of_hash(hasher)
            if keep:
                ingest.verify()
            if diff_id is not None and found != diff_id:
                raise InvalidParameter(f'invalid diffID for layer {expected}: expected "{diff_id}", got "{found}"')
            if keep:
                blob = ingest.publish()
                known = known or Descriptor(mediaType=LAYER_TYPES[kind], digest=blob, size=ingest.size)
        assert known is not None, "a blob that is not kept is known"
        return Staged(snapshot, known, found, size_of_files)

    def _unpack(self, plain: Iterator[bytes], snapshot: str, *, complete: bool) -> int:
        how = LAYER_ON_TREE if self._driver.needs_parent else LAYER_ALONE
        root = os.open(self._driver.directory(snapshot), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not self._driver.needs_parent:
                # Whether the parent was there already must not show in the result.
                os.fchown(root, 0, 0)
                os.fchmod(root, 0o755)
            with ahead(plain) as read:
                unpacked = unpack(read, root, dataclasses.replace(how, complete=complete))
            self._driver.imply(snapshot, unpacked.implied)
            return unpacked.size
        finally:
            os.close(root)


def _shown(chunks: Iterable[bytes], sink: Callable[[bytes], object]) -> Iterator[bytes]:
    """The chunks, each given to the sink as it passes."""
    for chunk in chunks:
        sink(chunk)
        yield chunk


def _packed(plain: Iterable[bytes], ingest: Ingest) -> Iterator[bytes]:
    """The pieces, compressed into a blob as they pass."""
    compressor = gzip_compressor()
    for piece in plain:
        ingest.write(compressor.compress(piece))
        yield piece
    ingest.write(compressor.flush())
