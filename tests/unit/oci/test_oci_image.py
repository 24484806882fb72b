"""Image documents: foreign ones are checked at the door."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import InvalidParameter
from windlass.oci import image
from windlass.oci.digest import sha256_digest

FIELDS = {"schemaVersion", "config", "layers", "manifests", "digest", "size", "rootfs", "diff_ids", "os"}
A, B, C = (sha256_digest(letter) for letter in (b"a", b"b", b"c"))


def descriptor(**changes: Any) -> dict[str, Any]:
    return {"mediaType": image.MEDIA_OCI_LAYER, "digest": A, "size": 1} | changes


def manifest(**changes: Any) -> dict[str, Any]:
    config = descriptor(mediaType=image.MEDIA_OCI_CONFIG)
    return {"schemaVersion": 2, "config": config, "layers": [descriptor()]} | changes


def config(**changes: Any) -> dict[str, Any]:
    return {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [A]}} | changes


def test_good_documents_pass_unchanged() -> None:
    assert image.parse_manifest(orjson.dumps(manifest())) == manifest()
    index = {"schemaVersion": 2, "manifests": [descriptor(platform={"os": "linux", "architecture": "arm"})]}
    assert image.parse_index(orjson.dumps(index)) == index
    assert image.parse_image_config(orjson.dumps(config())) == config()
    assert str(image.image_platform(image.parse_image_config(orjson.dumps(config())))) == "linux/amd64"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"{", "manifest: "),
        (b"[]", "manifest is not an object"),
        (orjson.dumps(manifest(schemaVersion=1)), "unsupported schema version 1"),
        (orjson.dumps(manifest(layers=None)), "manifest: layers is not a list"),
        (orjson.dumps(manifest(layers=[descriptor()] * 5000)), "has 5000 entries, 4096 are allowed"),
        (orjson.dumps(manifest(manifests=[])), "both layers and manifests"),
        (orjson.dumps(manifest(config=None)), "manifest: config is not an object"),
        (orjson.dumps(manifest(layers=[descriptor(size=-1)])), "layers[0]: size is not a number of bytes"),
        (orjson.dumps(manifest(layers=[descriptor(size=True)])), "size is not a number"),
        (orjson.dumps(manifest(layers=[descriptor(size="1")])), "size is not a number"),
        (orjson.dumps(manifest(layers=[descriptor(size=1 << 63)])), "size is not a number"),
        (orjson.dumps(manifest(layers=[descriptor(digest="sha256:../../x")])), "invalid checksum digest"),
        (orjson.dumps(manifest(layers=[descriptor(digest=1)])), "digest is not text"),
        (orjson.dumps(manifest(layers=[descriptor(urls=[1])])), "urls is not a list of texts"),
        (orjson.dumps(manifest(layers=[descriptor(mediaType=1)])), "mediaType is not text"),
        (b'"' + b"x" * image.MAX_DOCUMENT + b'"', "are more than the allowed"),
    ],
)
def test_bad_manifests_name_the_field(document: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        image.parse_manifest(document)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "rootfs is missing"),
        (config(rootfs=[]), "rootfs is not an object"),
        (config(rootfs={"diff_ids": ["x"]}), "invalid checksum digest format"),
        (config(rootfs={"diff_ids": [3]}), "a diff_id is not text"),
        (config(os=3), "os is not text"),
        (config(config={"Env": "A=1"}), "config.Env is not a list of texts"),
        (config(config={"Cmd": [1]}), "config.Cmd is not a list of texts"),
        (config(config={"Volumes": []}), "config.Volumes is not an object"),
        (config(config={"Labels": {"a": 1}}), "config.Labels[a] is not text"),
        (config(config={"User": 0}), "config.User is not text"),
        (config(history=[1]), "history entry is not an object"),
    ],
)
def test_bad_configurations_name_the_field(document: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        image.parse_image_config(orjson.dumps(document))
    assert message in str(caught.value)


def test_go_writes_empty_lists_as_null() -> None:
    document = config(rootfs={"type": "layers", "diff_ids": None}, config={"Env": None, "Volumes": None}, history=None)
    assert image.parse_image_config(orjson.dumps(document))["rootfs"]["diff_ids"] == []


@pytest.mark.parametrize(
    ("document", "media_type", "kind"),
    [
        (manifest(), "", "manifest"),
        (manifest(mediaType=image.MEDIA_DOCKER_MANIFEST), "application/json", "manifest"),
        ({"schemaVersion": 2, "manifests": []}, image.MEDIA_OCI_INDEX, "index"),
        ({"schemaVersion": 1, "fsLayers": []}, "", "schema1"),
        ({}, "text/plain", ""),
    ],
)
def test_the_kind_of_a_document(document: dict[str, Any], media_type: str, kind: str) -> None:
    assert image.document_kind(orjson.dumps(document), media_type) == kind


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        (manifest(manifests=[]), image.MEDIA_OCI_MANIFEST),
        (manifest(), image.MEDIA_OCI_INDEX),
        ({"schemaVersion": 2, "manifests": []}, image.MEDIA_OCI_MANIFEST),
        (manifest(mediaType=image.MEDIA_OCI_MANIFEST), image.MEDIA_DOCKER_MANIFEST),
        (manifest(mediaType=7), ""),
    ],
)
def test_a_document_that_two_readers_could_read_differently_is_refused(
    document: dict[str, Any], media_type: str
) -> None:
    with pytest.raises(InvalidParameter):
        image.document_kind(orjson.dumps(document), media_type)


def test_chain_ids_follow_the_specification() -> None:
    two = f"sha256:{hashlib.sha256(f'{A} {B}'.encode()).hexdigest()}"
    three = f"sha256:{hashlib.sha256(f'{two} {C}'.encode()).hexdigest()}"
    assert image.chain_ids([A, B, C]) == [A, two, three]
    assert image.chain_id([A, B, C]) == three
    assert image.chain_id([]) is None


def test_our_documents_have_one_encoding() -> None:
    assert image.encode_document({"b": 1, "a": [True, None]}) == b'{"b":1,"a":[true,null]}'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.sampled_from([A, "layers"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["schemaVersion", "config", "layers", "manifests", "digest", "size", "rootfs", "diff_ids", "os"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_document_is_read_or_a_typed_error(value: Any) -> None:
    data = orjson.dumps(value)
    for parse in (image.parse_manifest, image.parse_index, image.parse_image_config, image.document_kind):
        with contextlib.suppress(InvalidParameter):
            parse(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_typed_error(data: bytes) -> None:
    with pytest.raises(InvalidParameter):
        image.parse_manifest(data)
