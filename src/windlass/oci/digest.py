"""Digests: the names of content.

    sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    └─algorithm─┘└────────────────────── encoded ─────────────────────────┘

A digest names bytes, so it is checked wherever bytes come in: nothing is stored under a digest that nobody computed.
The grammar is that of the OCI image specification (descriptor.md, "Digests"); the messages are those of Docker's
parser, because users read them through the Engine API.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, NewType

from windlass.errors import InvalidParameter

if TYPE_CHECKING:
    from hashlib import _Hash

Digest = NewType("Digest", str)
"""A well-formed digest, `algorithm:hex`, of an algorithm that this program can compute."""

_HEX_LENGTH: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_SHAPE: Final = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)
_LOWER_HEX: Final = re.compile(r"[a-f0-9]+", re.ASCII)

EMPTY_SHA256: Final = Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
"""The digest of no bytes at all."""


def parse_digest(text: str) -> Digest:
    """Check a digest from outside. Raises `InvalidParameter` with the message of Docker's parser."""
    algorithm, colon, encoded = text.partition(":")
    if not algorithm or not colon or not encoded:
        raise InvalidParameter("invalid checksum digest format")
    length = _HEX_LENGTH.get(algorithm)
    if length is None:
        if not _SHAPE.fullmatch(text):
            raise InvalidParameter("invalid checksum digest format")
        raise InvalidParameter("unsupported digest algorithm")
    if len(encoded) != length:
        raise InvalidParameter("invalid checksum digest length")
    if not _LOWER_HEX.fullmatch(encoded):
        raise InvalidParameter("invalid checksum digest format")
    return Digest(text)


def is_digest(text: str) -> bool:
    """Whether `parse_digest` would take this text."""
    try:
        parse_digest(text)
    except InvalidParameter:
        return False
    return True


def algorithm_of(digest: Digest) -> str:
    """`sha256`, `sha384` or `sha512`."""
    return digest.partition(":")[0]


def encoded_of(digest: Digest) -> str:
    """The hexadecimal part."""
    return digest.partition(":")[2]


def hasher_for(digest: Digest) -> _Hash:
    """A fresh hash object of the digest's own algorithm, to verify content against it."""
    return hashlib.new(algorithm_of(digest), usedforsecurity=True)


def digest_of_hash(hasher: _Hash) -> Digest:
    """The digest of what a hash object has been fed."""
    return Digest(f"{hasher.name}:{hasher.hexdigest()}")


def sha256_digest(data: bytes | bytearray | memoryview) -> Digest:
    """The canonical digest of `data`."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def matches(digest: Digest, data: bytes | bytearray | memoryview) -> bool:
    """Whether `data` is what `digest` names."""
    hasher = hasher_for(digest)
    hasher.update(data)
    return hasher.hexdigest() == encoded_of(digest)
