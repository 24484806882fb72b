"""Platforms: spellings and ranking, by containerd's tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import InvalidParameter
from windlass.oci.platform import (
    Platform,
    amd64_variant,
    best_match,
    candidates,
    host_platform,
    maximum_platform,
    normalise,
    parse_platform,
    platform_from_json,
    rank,
)

AMD64 = Platform("linux", "amd64")


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("linux/amd64", Platform("linux", "amd64"), "linux/amd64"),
        ("linux/x86_64", Platform("linux", "amd64"), "linux/amd64"),
        ("linux/amd64/v1", Platform("linux", "amd64"), "linux/amd64"),
        ("linux/amd64/v3", Platform("linux", "amd64", "v3"), "linux/amd64/v3"),
        ("Linux/AMD64", Platform("linux", "amd64"), "linux/amd64"),
        ("linux/i386", Platform("linux", "386"), "linux/386"),
        ("linux/arm", Platform("linux", "arm"), "linux/arm"),
        ("linux/arm/v6", Platform("linux", "arm", "v6"), "linux/arm/v6"),
        ("linux/arm/7", Platform("linux", "arm", "v7"), "linux/arm/v7"),
        ("linux/armhf", Platform("linux", "arm"), "linux/arm"),
        ("linux/armel", Platform("linux", "arm", "v6"), "linux/arm/v6"),
        ("linux/aarch64", Platform("linux", "arm64"), "linux/arm64"),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8"), "linux/arm64/v8"),
        ("linux", Platform("linux", "amd64"), "linux/amd64"),
        ("arm64", Platform("linux", "arm64"), "linux/arm64"),
        ("s390x", Platform("linux", "s390x"), "linux/s390x"),
        ("macos", Platform("darwin", "amd64"), "darwin/amd64"),
        ("windows(10.0.17763)/amd64", Platform("windows", "amd64", "", "10.0.17763"), "windows/amd64"),
    ],
)
def test_spellings(text: str, expected: Platform, shown: str) -> None:
    platform = parse_platform(text, host=AMD64)
    assert platform == expected
    assert str(platform) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is an invalid component of"),
        ("linux/*", "wildcards not yet supported"),
        ("a/b/c/d", "cannot parse platform specifier"),
        ("linux/&arm", '"&arm" is an invalid component of "linux/&arm": platform specifier component must match'),
        ("linux/", "is an invalid component"),
        ("frobnix", '"frobnix": unknown operating system or architecture: invalid argument'),
    ],
)
def test_bad_specifiers(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_platform(text, host=AMD64)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "offered", "choice"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/386", "linux/amd64"], 1),
        ("linux/amd64", ["linux/386"], 0),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2"], 1),
        ("linux/amd64/v3", ["linux/amd64/v4"], None),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm64/v8.1", ["linux/arm64"], 0),
        ("linux/arm64/v9", ["linux/arm64", "linux/arm64/v8.5"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/386", ["linux/amd64"], None),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
        ("linux/amd64", [], None),
    ],
)
def test_the_best_of_what_is_offered(wanted: str, offered: list[str], choice: int | None) -> None:
    assert best_match([parse_platform(text) for text in offered], parse_platform(wanted)) == choice


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("armv7l", "linux/arm/v7"), ("riscv64", "linux/riscv64")],
)
def test_the_host(machine: str, expected: str) -> None:
    assert str(host_platform(machine)) == expected


LEVEL2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
LEVEL3 = f"{LEVEL2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"


@pytest.mark.parametrize(
    ("flags", "variant"),
    [
        ("fpu sse sse2", ""),
        (LEVEL2, "v2"),
        (LEVEL3, "v3"),
        (f"{LEVEL3} avx512f avx512bw avx512cd avx512dq avx512vl", "v4"),
        ("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave", ""),
    ],
)
def test_the_level_of_a_processor(flags: str, variant: str) -> None:
    assert amd64_variant(frozenset(flags.split())) == variant


def test_the_best_for_this_host_is_among_what_it_runs() -> None:
    assert rank(host_platform(), maximum_platform()) is not None


def test_documents_are_read_and_written() -> None:
    document = {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}
    platform = platform_from_json(document)
    assert platform.to_json() == {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}
    for bad in (None, [], "linux", {"os": 1}, {"architecture": []}):
        with pytest.raises(InvalidParameter):
            platform_from_json(bad)


names = st.sampled_from(
    ["linux", "amd64", "386", "arm", "arm64", "v1", "v2", "v7", "v8", "v8.1", "v9", "8", "windows", ""]
)


@given(names, names, names)
def test_normal_form_is_stable_and_serves_itself(system: str, architecture: str, variant: str) -> None:
    platform = normalise(Platform(system, architecture, variant))
    assert normalise(platform) == platform
    assert rank(platform, platform) == 0
    assert len(set(candidates(platform))) == len(candidates(platform))


@given(st.text(max_size=30))
def test_any_text_is_a_platform_or_a_typed_error(text: str) -> None:
    try:
        platform = parse_platform(text, host=AMD64)
    except InvalidParameter:
        return
    assert platform.os and platform.architecture
