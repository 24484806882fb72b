"""Digests: only what can be computed is one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import InvalidParameter
from windlass.oci import digest as digests
from windlass.oci.digest import Digest, parse_digest, sha256_digest


@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_a_digest_of_content_is_well_formed_and_matches_only_it(data: bytes, algorithm: str) -> None:
    digest = parse_digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    assert digests.matches(digest, data)
    assert not digests.matches(digest, data + b"x")
    assert digests.algorithm_of(digest) == algorithm
    hasher = digests.hasher_for(digest)
    hasher.update(data)
    assert digests.digest_of_hash(hasher) == digest


def test_the_canonical_algorithm_is_sha256() -> None:
    assert sha256_digest(b"") == digests.EMPTY_SHA256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid checksum digest format"),
        ("sha256", "invalid checksum digest format"),
        ("sha256:", "invalid checksum digest format"),
        (":abc", "invalid checksum digest format"),
        ("sha256:" + "a" * 63, "invalid checksum digest length"),
        ("sha256:" + "a" * 65, "invalid checksum digest length"),
        ("sha512:" + "a" * 64, "invalid checksum digest length"),
        ("sha256:" + "g" * 64, "invalid checksum digest format"),
        ("sha256:" + "A" * 64, "invalid checksum digest format"),
        ("sha256:" + "a" * 63 + "\n", "invalid checksum digest format"),
        ("sha256:" + "a" * 63 + "\u0661", "invalid checksum digest format"),
        ("md5:" + "a" * 32, "unsupported digest algorithm"),
        ("SHA256:" + "a" * 64, "invalid checksum digest format"),
        ("../x:" + "a" * 64, "invalid checksum digest format"),
    ],
)
def test_malformed_digests_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{message}$"):
        parse_digest(text)
    assert not digests.is_digest(text)


@given(st.text(max_size=150))
def test_no_digest_can_name_a_path(text: str) -> None:
    """Digests become file names: none that passes holds a separator or a dot."""
    try:
        digest: Digest = parse_digest(text)
    except InvalidParameter:
        return
    assert "/" not in digest and "." not in digest and digests.encoded_of(digest).isalnum()
