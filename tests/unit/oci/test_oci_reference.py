"""References: the grammar and the messages of dockerd (each row was compared with the docker CLI's own parser)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import InvalidParameter
from windlass.oci.digest import Digest
from windlass.oci.reference import (
    Reference,
    parse_any_reference,
    parse_reference,
    parse_repository_tag,
    parse_tag,
)

HEX = "0123456789abcdef" * 4
DIGEST = Digest(f"sha256:{HEX}")


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest", "familiar"),
    [
        ("debian", "docker.io", "library/debian", None, None, "debian"),
        ("debian:12", "docker.io", "library/debian", "12", None, "debian:12"),
        ("team/tool", "docker.io", "team/tool", None, None, "team/tool"),
        ("library/debian", "docker.io", "library/debian", None, None, "debian"),
        ("docker.io/debian", "docker.io", "library/debian", None, None, "debian"),
        ("index.docker.io/debian:x", "docker.io", "library/debian", "x", None, "debian:x"),
        ("docker.io/library/a/b", "docker.io", "library/a/b", None, None, "library/a/b"),
        ("localhost/tool", "localhost", "tool", None, None, "localhost/tool"),
        ("localhost:5000/tool:1", "localhost:5000", "tool", "1", None, "localhost:5000/tool:1"),
        ("docker.io/a.b/c", "docker.io", "a.b/c", None, None, "docker.io/a.b/c"),
        ("ghcr.io/a/b/c", "ghcr.io", "a/b/c", None, None, "ghcr.io/a/b/c"),
        ("Foo/bar", "Foo", "bar", None, None, "Foo/bar"),
        ("[::1]:5000/x", "[::1]:5000", "x", None, None, "[::1]:5000/x"),
        ("[2001:db8::1]/x", "[2001:db8::1]", "x", None, None, "[2001:db8::1]/x"),
        (f"a@{DIGEST}", "docker.io", "library/a", None, DIGEST, f"a@{DIGEST}"),
        (f"r.io/a:t@{DIGEST}", "r.io", "a", "t", DIGEST, f"r.io/a:t@{DIGEST}"),
        ("a__b/c-----d", "docker.io", "a__b/c-----d", None, None, "a__b/c-----d"),
    ],
)
def test_what_people_type_is_normalised(
    text: str, domain: str, path: str, tag: str | None, digest: Digest | None, familiar: str
) -> None:
    reference = parse_reference(text)
    assert reference == Reference(domain, path, tag, digest)
    assert reference.familiar() == familiar
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar()) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("Foo@sha256:abc", "invalid reference format: repository name (library/Foo@sha256) must be lowercase"),
        ("a/b/Cc:Tag", "invalid reference format: repository name (a/b/Cc) must be lowercase"),
        ("localhost/UP", "invalid reference format: repository name (UP) must be lowercase"),
        ("a..b", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("foo/bar:-x", "invalid reference format"),
        ("-x/y", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("https://x/y", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("d\u00e9bian", "invalid reference format"),
        ("foo@sha256:abcd", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        (f"x@md5:{'a' * 64}", "unsupported digest algorithm"),
        (f"x@sha256:{'a' * 63}", "invalid checksum digest length"),
        (f"x@sha256:{'A' * 64}", "invalid checksum digest format"),
        ("a" * 256, "repository name must not be more than 255 characters"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_errors_are_dockerds(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_reference(text)
    assert str(caught.value) == message


def test_default_tag_only_where_nothing_is_given() -> None:
    assert str(parse_reference("a").with_default_tag()) == "docker.io/library/a:latest"
    assert parse_reference("a:1").with_default_tag().tag == "1"
    assert parse_reference(f"a@{DIGEST}").with_default_tag().tag is None


def test_identifiers_and_digests_stand_for_themselves() -> None:
    assert parse_any_reference(HEX) == DIGEST
    assert parse_any_reference(DIGEST) == DIGEST
    assert parse_any_reference("a:1") == parse_reference("a:1")


def test_the_api_gives_repository_and_tag_apart() -> None:
    assert parse_repository_tag("a", "1") == parse_reference("a:1")
    assert parse_repository_tag("a:2", "") == parse_reference("a:2")
    assert parse_repository_tag("a", DIGEST) == parse_reference(f"a@{DIGEST}")
    with pytest.raises(InvalidParameter, match="invalid tag format"):
        parse_repository_tag("a", "-1")


def test_other_forms_of_one_repository() -> None:
    reference = parse_reference(f"r.io/a:t@{DIGEST}")
    assert str(reference.repository()) == "r.io/a"
    assert str(reference.with_digest(DIGEST)) == f"r.io/a@{DIGEST}"
    assert str(reference.with_tag("x")) == "r.io/a:x"
    with pytest.raises(InvalidParameter):
        parse_tag("")


component = st.from_regex(r"\A[a-z0-9]{1,8}(?:(?:[._]|__|-{1,3})[a-z0-9]{1,4}){0,2}\Z")
domains = st.sampled_from(["docker.io", "localhost", "r.example:5000", "[::1]:5000", "UP", "127.0.0.1:1"])
tags = st.none() | st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z")
digests = st.none() | st.from_regex(r"\Asha256:[a-f0-9]{64}\Z").map(Digest)


@given(domains, st.lists(component, min_size=1, max_size=3), tags, digests)
def test_every_reference_survives_being_written_and_read(
    domain: str, parts: list[str], tag: str | None, digest: Digest | None
) -> None:
    path = "/".join(parts)
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    reference = Reference(domain, path, tag, digest)
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar()) == reference


@given(st.text(max_size=80) | st.from_regex(r"[a-zA-Z0-9:/@._\[\]-]{0,80}"))
def test_any_text_is_a_reference_or_a_typed_error(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidParameter:
        return
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize("filler", ["a", "-", "a-", "A", ".", "a.", ":", "/", "_"])
def test_long_texts_are_refused_without_long_thought(filler: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_reference("x/" + filler * 50_000 + "!")
