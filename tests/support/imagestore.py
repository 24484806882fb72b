"""An image store for a test, and what is in it as a value that can be compared."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from windlass.images import Images
from windlass.images.roots import opened_root
from windlass.kernel.paths import open_in_root
from windlass.oci.reference import Reference, parse_reference


def reference(text: str) -> Reference:
    return parse_reference(text).with_default_tag()


async def stream(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    """Bytes as a request's body brings them."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def collected(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def loaded(images: Images, data: bytes, **options: Any) -> list[str]:
    """Load an archive; gives the last words about each image."""
    messages = [message async for message in images.load(stream(data), **options)]
    return [message["stream"].strip() for message in messages if "stream" in message]


def state(images: Images) -> dict[str, Any]:
    """Everything that a failure must leave as it was: records, blobs with their content, snapshots."""
    now = images.records.now
    return {
        "images": dict(now.images),
        "names": dict(now.names),
        "blobs": {
            digest: hashlib.sha256(images.content.path(digest).read_bytes()).hexdigest()
            for digest in images.content.all()
        },
        "snapshots": sorted(info for info in images.driver.walk() if not info.name.endswith("-init")),
        "ingest": os.listdir(images.root / "ingest"),
    }


@contextlib.contextmanager
def container_root(images: Images, name: str) -> Iterator[Path]:
    """The mounted root of a container, as a path through a descriptor that nobody else sees."""
    with opened_root(images.rootfs_mounts(name)) as root:
        yield Path(f"/proc/self/fd/{root}")


def read(images: Images, name: str, path: str) -> bytes:
    """A file of a container."""
    with opened_root(images.rootfs_mounts(name)) as root:
        fd = open_in_root(root, path, os.O_RDONLY)
        with open(fd, "rb") as file:
            return file.read()
