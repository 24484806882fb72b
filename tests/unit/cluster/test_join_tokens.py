"""Tokens by which nodes join: their forms, and what a hash in one is worth."""

from __future__ import annotations

import pytest

from windlass.cluster.tokens import BadToken, JoinToken, hash_of

AUTHORITY = b"-----BEGIN CERTIFICATE-----\n"
HASH = hash_of(AUTHORITY)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abcdef.0123456789abcdef", JoinToken("abcdef", "0123456789abcdef")),
        (f" K10{HASH}::abcdef.0123456789abcdef\n", JoinToken("abcdef", "0123456789abcdef", HASH)),
    ],
)
def test_tokens_are_read_and_written(text: str, expected: JoinToken) -> None:
    found = JoinToken.parse(text)
    assert found == expected
    assert str(found) == text.strip()
    assert found.bootstrap == "abcdef.0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abcdef",
        "abcdef.0123456789abcde",
        "ABCDEF.0123456789abcdef",
        f"K10{HASH}::node:secret",
        f"K10{HASH[:-1]}::abcdef.0123456789abcdef",
        f"K10{HASH}:abcdef.0123456789abcdef",
        "K10::abcdef.0123456789abcdef",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(BadToken, match="invalid token"):
        JoinToken.parse(text)


def test_a_hash_is_of_one_authority() -> None:
    token = JoinToken.generate()
    token.check(b"anything")  # it does not say
    pinned = token.pinned(AUTHORITY)
    pinned.check(AUTHORITY)
    with pytest.raises(BadToken, match="does not match the Cluster CA certificate hash"):
        pinned.check(AUTHORITY + b"\n")
    assert JoinToken.parse(str(pinned)) == pinned
    assert JoinToken.generate() != JoinToken.generate()
