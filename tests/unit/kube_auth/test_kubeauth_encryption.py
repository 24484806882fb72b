"""Encryption at rest: round trips, rotation, and what must not open."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kube.api import encryption


def config(*providers: dict[str, Any], resources: tuple[str, ...] = ("secrets",)) -> Any:
    entry = {"resources": list(resources), "providers": list(providers)}
    return encryption.parse({"kind": "EncryptionConfiguration", "resources": [entry]})


def provider(name: str, *keys: str) -> dict[str, Any]:
    secrets = [{"name": key, "secret": base64.b64encode(key.encode() * 32)[:44].decode()} for key in keys]
    return {name: {"keys": secrets}}


@pytest.mark.parametrize("name", ["aesgcm", "aescbc", "secretbox"])
@given(value=st.binary(max_size=300))
def test_what_is_sealed_opens_again(name: str, value: bytes) -> None:
    ((_, transformer),) = config(provider(name, "a"))
    stored = transformer.encode(b"/k", value)
    assert stored.startswith(f"k8s:enc:{name}:v1:a:".encode())
    assert transformer.decode(b"/k", stored) == (value, False)


@pytest.mark.parametrize("name", ["aesgcm", "secretbox"])
def test_a_changed_byte_does_not_open(name: str) -> None:
    ((_, transformer),) = config(provider(name, "a"))
    stored = transformer.encode(b"/k", b"value")
    with pytest.raises(encryption.Undecryptable):
        transformer.decode(b"/k", stored[:-1] + bytes([stored[-1] ^ 1]))


def test_a_value_moved_to_another_key_does_not_open() -> None:
    ((_, transformer),) = config(provider("aesgcm", "a"))
    with pytest.raises(encryption.Undecryptable):
        transformer.decode(b"/other", transformer.encode(b"/k", b"value"))


def test_a_former_key_reads_and_its_values_are_stale() -> None:
    ((_, old),) = config(provider("secretbox", "a"))
    ((_, new),) = config(provider("secretbox", "b", "a"), {"identity": {}})
    assert new.decode(b"/k", old.encode(b"/k", b"v")) == (b"v", True)
    assert new.decode(b"/k", b"plain") == (b"plain", True)
    assert new.decode(b"/k", new.encode(b"/k", b"v")) == (b"v", False)
    with pytest.raises(encryption.Undecryptable):
        old.decode(b"/k", new.encode(b"/k", b"v"))


def test_the_box_is_nacls() -> None:
    # The vector of NaCl's own tests (tests/secretbox.c), first bytes of its output.
    key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    plain = bytes.fromhex("be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc")
    assert encryption.secretbox_seal(key, nonce, plain)[16:].hex() == (
        "8e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a"
    )


def test_the_first_entry_that_names_a_resource_is_its_own() -> None:
    entries = config({"identity": {}}, resources=("secrets", "*.apps"))
    assert encryption.choose(entries, "", "secrets") is not None
    assert encryption.choose(entries, "apps", "deployments") is not None
    assert encryption.choose(entries, "", "pods") is None


@pytest.mark.parametrize(
    "bad",
    [
        {"kms": {}},
        {"aesgcm": {"keys": []}},
        {"secretbox": {"keys": [{"name": "a", "secret": "c2hvcnQ="}]}},
        {"aescbc": {"keys": [{"name": "a:b", "secret": base64.b64encode(bytes(32)).decode()}]}},
        {"aescbc": {"keys": [{"name": "a", "secret": "?"}]}},
    ],
)
def test_a_wrong_file_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(encryption.BadEncryptionConfiguration):
        config(bad)
