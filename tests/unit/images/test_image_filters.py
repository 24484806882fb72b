"""Filters of images, as dockerd reads them; and what the lists and prune do with them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.imagestore import reference, stream
from support.tars import archive, member
from windlass.errors import InvalidParameter, NotFound
from windlass.images import Images, InUse
from windlass.images.filters import (
    matches_name,
    parse_duration,
    parse_moment,
    parse_time,
    repository_of,
)

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("10s", 10 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("1.5h", 5400 * SECOND),
        ("-2m", -120 * SECOND),
        ("100ms", SECOND // 10),
        ("1us", 1000),
        ("1µs", 1000),
        ("0", 0),
        ("10", None),
        ("1d", None),
        ("", None),
        ("s", None),
        ("1h x", None),
    ],
)
def test_durations(text: str, nanoseconds: int | None) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456_789),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59Z", -SECOND),
        ("1970-01-02", 86400 * SECOND),
        ("1970-01-01T01:00", 3600 * SECOND),
        ("2024-02-30", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times(text: str, nanoseconds: int | None) -> None:
    assert parse_time(text) == nanoseconds


def test_moments() -> None:
    assert parse_moment("1700000000") == 1_700_000_000 * SECOND
    assert parse_moment("1700000000.25") == 1_700_000_000_250_000_000
    assert abs(parse_moment("1h") - (time.time_ns() - 3600 * SECOND)) < 60 * SECOND
    with pytest.raises(InvalidParameter, match="failed to parse value as time or duration"):
        parse_moment("whenever")


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("busybox", "busybox:latest", True),
        ("busybox:latest", "busybox:latest", True),
        ("busybox:*", "busybox:latest", True),
        ("busy*", "busybox:latest", True),
        ("*box", "busybox:latest", True),
        ("box", "busybox:latest", False),
        ("*", "team/tool:1", False),
        ("*/*", "team/tool:1", True),
        ("team/*", "team/tool:1", True),
        ("team/t??l", "team/tool:1", True),
        ("team/[a-t]ool", "team/tool:1", True),
        ("team/[^t]ool", "team/tool:1", False),
        ("b[^a-c]sybox", "busybox:latest", True),
        ("busybo\\x", "busybox:latest", True),
        ("registry:5000/x", "registry:5000/x:1", True),
        ("registry:5000/x:2", "registry:5000/x:1", False),
    ],
)
def test_patterns_are_gos(pattern: str, name: str, matches: bool) -> None:
    assert matches_name(pattern, name) is matches


@pytest.mark.parametrize("pattern", ["[", "[a", "[]a]", "a\\", "[-]", "[a-]"])
def test_patterns_that_go_refuses(pattern: str) -> None:
    with pytest.raises(InvalidParameter, match="syntax error in pattern"):
        matches_name(pattern, "x")


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_pattern_breaks_anything(pattern: str, name: str) -> None:
    try:
        matches_name(pattern, name)
    except InvalidParameter:
        pass


def test_repositories_of_names() -> None:
    assert repository_of("host:5000/x/y:1") == "host:5000/x/y"
    assert repository_of("host:5000/x@sha256:1") == "host:5000/x"
    assert repository_of("x") == "x"


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[Images]:
    images = await Images.open(tmp_path / "images")
    yield images
    await images.close()


async def make(images: Images, name: str | None, content: str = "", **options: Any) -> Any:
    data = archive(member("file", content.encode()))
    return await images.import_(stream(data), reference=reference(name) if name else None, **options)


def listed(images: Images, **filters: list[str]) -> list[str]:
    found = images.summaries(filters={key.replace("_", ""): value for key, value in filters.items()})
    return [(one["RepoTags"] or ["<none>"])[0] for one in found]


@pytest.mark.root
async def test_the_list_and_its_filters(images: Images) -> None:
    await make(images, "old:1", "1", changes=["LABEL a=1"])
    await make(images, "team/tool:1", "2", changes=["LABEL a=2 b=x"])
    await make(images, "team/tool:2", "3")
    await make(images, None, "4")
    assert listed(images) == ["<none>", "team/tool:2", "team/tool:1", "old:1"]
    assert listed(images, reference=["team/*"]) == ["team/tool:2", "team/tool:1"]
    assert listed(images, reference=["team/tool:2", "old"]) == ["team/tool:2", "old:1"]
    assert listed(images, label=["a"]) == ["team/tool:1", "old:1"]
    assert listed(images, label=["a=1"]) == ["old:1"]
    assert listed(images, label=["a", "b=x"]) == ["team/tool:1"]
    assert listed(images, before=["team/tool:2"]) == ["team/tool:1", "old:1"]
    assert listed(images, since=["team/tool:1"]) == ["<none>", "team/tool:2"]
    assert listed(images, dangling=["true"]) == ["<none>"]
    assert listed(images, dangling=["false"]) == ["team/tool:2", "team/tool:1", "old:1"]
    assert listed(images, until=["1h"]) == []
    assert len(listed(images, until=["-1h"])) == 4
    assert listed(images, reference=["nothing"]) == []
    with pytest.raises(NotFound):
        listed(images, before=["missing"])
    with pytest.raises(InvalidParameter):
        listed(images, dangling=["maybe"])
    with pytest.raises(InvalidParameter):
        listed(images, until=["x"])


@pytest.mark.root
async def test_one_image_under_many_names_is_listed_once(images: Images) -> None:
    image = await make(images, "x:1")
    await images.tag(image, reference("y:1"))
    assert [one["RepoTags"] for one in images.summaries()] == [["x:1", "y:1"]]
    assert [one["RepoTags"] for one in images.summaries(filters={"reference": ["y"]})] == [["y:1"]]
    assert [one["Containers"] for one in images.summaries(in_use={image.id: [InUse("c", True)]})] == [1]


@pytest.mark.root
async def test_prune_takes_what_nobody_uses(images: Images) -> None:
    used = await make(images, None, "used")
    free = await make(images, None, "free" * 100)
    named = await make(images, "named:1", "named", changes=["LABEL keep=yes"])
    in_use = {used.id: [InUse("c" * 64, False)]}
    answer = await images.prune({}, in_use)
    assert answer == {
        "ImagesDeleted": [{"Deleted": free.id}, {"Deleted": free.chain[0]}],
        "SpaceReclaimed": 400,
    }
    assert await images.prune({}, in_use) == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    assert (await images.prune({"dangling": ["false"], "label!": ["keep"]}, in_use))["ImagesDeleted"] is None
    assert (await images.prune({"dangling": ["false"], "until": ["1h"]}, in_use))["ImagesDeleted"] is None
    answer = await images.prune({"dangling": ["false"]}, in_use)
    assert answer["ImagesDeleted"][:2] == [{"Untagged": "named:1"}, {"Deleted": named.id}]
    assert [image.id for image in images.list()] == [used.id]


@pytest.mark.root
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("missing", "No such image: missing:latest"),
        ("missing:tag", "No such image: missing:tag"),
        ("docker.io/library/missing:tag", "No such image: missing:tag"),
        ("host:5000/x/y", "No such image: host:5000/x/y:latest"),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
        ("missing@sha256:" + "0" * 64, "No such image: missing@sha256:" + "0" * 64),
        ("0" * 12, "No such image: 000000000000:latest"),
    ],
)
async def test_words_for_what_is_not_there(images: Images, text: str, words: str) -> None:
    with pytest.raises(NotFound) as failure:
        images.resolve(text)
    assert str(failure.value) == words


@pytest.mark.root
@pytest.mark.parametrize("text", ["", "UPPER", "a b", "x:", "x:bad tag", ":x"])
async def test_words_for_what_is_no_name(images: Images, text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"invalid reference format|invalid"):
        images.resolve(text)


@pytest.mark.root
async def test_images_are_found_by_all_their_names(images: Images) -> None:
    image = await make(images, "x:1")
    hexadecimal = image.id[7:]
    for text in ("x:1", "docker.io/library/x:1", "docker.io/x:1", image.id, hexadecimal, hexadecimal[:12]):
        assert images.resolve(text).id == image.id
    with pytest.raises(NotFound):
        images.resolve("x")
