"""The content store: immutable blobs by digest, in an OCI image layout (image-spec, image-layout.md).

    <root>/
      oci-layout                {"imageLayoutVersion": "1.0.0"}
      index.json                what is named here, so that other programs can read the layout
      blobs/sha256/<hex>        manifests, configurations, layers; never changed once they are there
      ingest/<random>           a blob on its way; nothing refers to it, and a start removes what it finds

A blob appears by one rename, after its digest and size were verified: who finds it may trust it. It is on the disk when
a record names it (images.durable). A blob that somebody reads is *held* and not removed by a collection.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from windlass.errors import InvalidParameter, NotFound, SystemFailure
from windlass.images.durable import write_atomically
from windlass.oci.digest import Digest, algorithm_of, digest_of_hash, encoded_of, hasher_for, is_digest

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_DOCUMENT_LIMIT: Final = 16 << 20
"""Bytes that a manifest or a configuration may have to be read whole."""


class ContentStore:
    """Blobs by digest. All methods may be called from any thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._ingest = root / "ingest"
        self._lock = threading.Lock()
        self._held: Counter[Digest] = Counter()

    def open(self) -> None:
        """Make what is missing and remove what a crash left half-way."""
        (self._blobs / "sha256").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._ingest.mkdir(exist_ok=True, mode=0o700)
        for left in self._ingest.iterdir():
            left.unlink()
        layout = self.root / "oci-layout"
        if not layout.exists():
            write_atomically(layout, _LAYOUT)

    def path(self, digest: Digest) -> Path:
        """Where a blob is or would be."""
        return self._blobs / algorithm_of(digest) / encoded_of(digest)

    def has(self, digest: Digest) -> bool:
        """Whether a blob is here."""
        return self.path(digest).exists()

    def size(self, digest: Digest) -> int:
        """Bytes of a blob. Raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(f"content {digest} not found") from None

    def read(self, digest: Digest, *, limit: int = _DOCUMENT_LIMIT) -> bytes:
        """A document whole. Raises NotFound; SystemFailure where it is larger than `limit`, so that it is none."""
        try:
            with self.path(digest).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise NotFound(f"content {digest} not found") from None
        if len(data) > limit:
            raise SystemFailure(f"content {digest} is larger than {limit} bytes")
        return data

    def begin(self, expected: Digest | None = None, size: int | None = None) -> Ingest:
        """Begin a new blob, of which the digest and the size in bytes may be known."""
        return Ingest(self, self._ingest / secrets.token_hex(8), expected, size)

    def add(self, data: bytes, expected: Digest | None = None) -> Digest:
        """Keep a small blob. Raises InvalidParameter where it is not what was expected."""
        with self.begin(expected) as ingest:
            ingest.write(data)
            return ingest.publish()

    @contextlib.contextmanager
    def hold(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Keep blobs from collection while the block runs."""
        held = list(digests)
        with self._lock:
            self._held.update(held)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(held)
                self._held += Counter()

    def all(self) -> Iterator[Digest]:
        """Every blob that is here."""
        for algorithm in os.listdir(self._blobs):
            for name in os.listdir(self._blobs / algorithm):
                if is_digest(f"{algorithm}:{name}"):
                    yield Digest(f"{algorithm}:{name}")

    def remove_unreferenced(self, referenced: Collection[Digest]) -> int:
        """Sweep: remove every blob that is neither referenced nor held; returns the bytes that came free."""
        freed = 0
        for digest in list(self.all()):
            if digest in referenced:
                continue
            with self._lock:
                if self._held[digest]:
                    continue
                path = self.path(digest)
                with contextlib.suppress(FileNotFoundError):
                    freed += path.stat().st_size
                    path.unlink()
        return freed

    def damaged(self) -> Iterator[Digest]:
        """Read every blob again; gives those that are not what their name says."""
        for digest in sorted(self.all()):
            with contextlib.suppress(FileNotFoundError), self.path(digest).open("rb") as file:
                hexadecimal = hashlib.file_digest(file, algorithm_of(digest)).hexdigest()
                if hexadecimal != encoded_of(digest):
                    yield digest


class Ingest:
    """A blob on its way: written, then published under its digest, or gone at the end of the `with` block."""

    def __init__(self, store: ContentStore, path: Path, expected: Digest | None, size: int | None) -> None:
        self._store = store
        self._path = path
        self._expected = expected
        self._expected_size = size
        self._hash = hashlib.sha256() if expected is None else hasher_for(expected)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, data: bytes | memoryview) -> None:
        """Append. Raises InvalidParameter as soon as there is more than expected; SystemFailure if the disk is full."""
        self.size += len(data)
        if self._expected_size is not None and self.size > self._expected_size:
            raise InvalidParameter(f"content {self._expected} has more than the expected {self._expected_size} bytes")
        self._hash.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise SystemFailure(f"write {self._path}: {os.strerror(error.errno or 0)}") from error

    @property
    def digest(self) -> Digest:
        """The digest of what has been written."""
        return digest_of_hash(self._hash)

    def verify(self) -> None:
        """Raises InvalidParameter where digest or size are not as expected."""
        if self._expected is not None and self.digest != self._expected:
            raise InvalidParameter(f"content has digest {self.digest}, expected {self._expected}")
        if self._expected_size is not None and self.size != self._expected_size:
            raise InvalidParameter(
                f"content {self._expected} has {self.size} bytes, expected are {self._expected_size}"
            )

    def publish(self) -> Digest:
        """Verify it and make it visible."""
        self.verify()
        digest = self.digest
        target = self._store.path(digest)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        os.rename(self._path, target)
        self._close()
        return digest

    def discard(self) -> None:
        """Forget it, unless it has been published."""
        if self._fd >= 0:
            self._close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1
