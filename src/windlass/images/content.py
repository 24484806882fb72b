"""The content store: immutable blobs by digest, in an OCI image layout (image-spec, image-layout.md).

    <root>/
      oci-layout                {"imageLayoutVersion": "1.0.0"}
      index.json                what is named here, so that other programs can read the layout
      blobs/sha256/<hex>        manifests, configurations, layers; never changed once they are there
      ingest/<random>           a blob on its way; nothing refers to it, and a start removes what it finds

A blob appears by one rename, after its digest and size were verified: who finds it may trust it. A blob that somebody
reads or has just added is *held* and not removed by a collection.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from windlass.errors import InvalidParameter, NotFound, SystemFailure
from windlass.oci.digest import Digest

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
        algorithm, _, hexadecimal = digest.partition(":")
        return self._blobs / algorithm / hexadecimal

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

    def begin(self) -> Ingest:
        """Begin a new blob."""
        return Ingest(self, self._ingest / secrets.token_hex(8))

    def add(self, data: bytes, expected: Digest | None = None) -> Digest:
        """Keep a small blob. Raises InvalidParameter where it is not what was expected."""
        with self.begin() as ingest:
            ingest.write(data)
            return ingest.publish(expected)

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
        for algorithm in self._blobs.iterdir():
            for blob in algorithm.iterdir():
                yield Digest(f"{algorithm.name}:{blob.name}")

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

    def verify(self) -> list[str]:
        """Read every blob again; says which are not what their name says (`fsck`)."""
        wrong = []
        for digest in sorted(self.all()):
            algorithm = digest.partition(":")[0]
            with self.path(digest).open("rb") as file:
                if f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}" != digest:
                    wrong.append(f"blob {digest} is damaged")
        return wrong


class Ingest:
    """A blob on its way: written, then published under its digest, or gone at the end of the `with` block."""

    def __init__(self, store: ContentStore, path: Path) -> None:
        self._store = store
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    @property
    def digest(self) -> Digest:
        """The digest of what has been written."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def publish(self, expected: Digest | None = None, size: int | None = None) -> Digest:
        """Make it visible, on disk. Raises InvalidParameter where digest or size are not as expected."""
        algorithm = (expected or "sha256").partition(":")[0]
        digest = self.digest if algorithm == "sha256" else self._other(algorithm)
        if expected is not None and digest != expected:
            raise InvalidParameter(f"content has digest {digest}, expected {expected}")
        if size is not None and self.size != size:
            raise InvalidParameter(f"content {digest} has {self.size} bytes, expected {size}")
        os.fsync(self._fd)
        target = self._store.path(digest)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        os.rename(self._path, target)
        self._close()
        return digest

    def _other(self, algorithm: str) -> Digest:
        """Digests other than sha256 are rare: the file is read again."""
        with self._path.open("rb") as file:
            return Digest(f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}")

    def discard(self) -> None:
        """Forget it, unless it has been published."""
        if self._fd >= 0:
            self._close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a crash leaves the old content or the new one, and sync it to the disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise SystemFailure(f"write {path}: no space left on device") from error
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
