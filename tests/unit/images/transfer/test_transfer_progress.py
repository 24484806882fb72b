"""Progress: dockerd's messages, few of them, and never in the way of the work."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.images.transfer import primed, streaming
from windlass.images.transfer.jobs import Jobs
from windlass.images.transfer.progress import (
    Channel,
    Message,
    Meter,
    Send,
    action,
    aux,
    human_size,
    message,
    progress,
    progress_bar,
    short_id,
)


def test_the_shapes_are_dockerds() -> None:
    assert message("Pulling from library/debian", id="12") == {"status": "Pulling from library/debian", "id": "12"}
    assert message("Digest: sha256:0") == {"status": "Digest: sha256:0"}
    assert action("0123", "Pull complete") == {"status": "Pull complete", "progressDetail": {}, "id": "0123"}
    assert progress("0123", "Downloading", 538624, 53_124_000) == {
        "status": "Downloading",
        "progressDetail": {"current": 538624, "total": 53_124_000},
        "progress": "[>                                                  ]  538.6kB/53.12MB",
        "id": "0123",
    }
    assert aux({"Tag": "1"}) == {"progressDetail": {}, "aux": {"Tag": "1"}}
    assert short_id("sha256:0123456789abcdef") == "0123456789ab"


@pytest.mark.parametrize(
    ("current", "total", "bar"),
    [
        (0, 0, ""),
        (1, 0, "      1B"),
        (0, 10, "[>                                                  ]       0B/10B"),
        (50, 100, "[=========================>                         ]      50B/100B"),
        (100, 100, "[==================================================>]     100B/100B"),
        (150, 100, "[==================================================>]     150B"),
    ],
)
def test_the_bar_is_dockerds(current: int, total: int, bar: str) -> None:
    assert progress_bar(current, total) == bar


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_234_567, "1.235MB"), (1e12, "1TB"), (1e27, "1000YB")]
)
def test_sizes_are_decimal(size: float, text: str) -> None:
    assert human_size(size) == text


def test_a_meter_speaks_seldom_and_always_at_the_end() -> None:
    now = [0.0]
    sent: list[Message] = []
    meter = Meter(sent.append, "x", "Downloading", 1000, clock=lambda: now[0])
    for done in range(0, 1000, 10):
        meter(done)
    assert [entry["progressDetail"]["current"] for entry in sent] == [20]
    now[0] = 1.0
    meter(990)
    meter(995)
    meter(1000)
    assert [entry["progressDetail"]["current"] for entry in sent] == [20, 990, 1000]


async def test_a_channel_keeps_every_action_and_the_latest_figure() -> None:
    channel = Channel()
    channel.send(message("start"))
    for done in range(100):
        channel.send(progress("a", "Downloading", done, 100))
        channel.send(progress("b", "Downloading", done, 100))
    channel.send(action("a", "Download complete"))
    channel.send(progress("a", "Extracting", 1, 100))
    channel.close()
    read = [
        (one.get("id"), one["status"], one.get("progressDetail", {}).get("current")) async for one in channel.read()
    ]
    assert read == [
        (None, "start", None),
        ("a", "Downloading", 99),
        ("b", "Downloading", 99),
        ("a", "Download complete", None),
        ("a", "Extracting", 1),
    ]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["D", "E"]), st.integers(1, 9)), max_size=60))
def test_a_channel_never_reorders_and_stays_short(entries: list[tuple[str, str, int]]) -> None:
    async def run() -> list[Message]:
        channel = Channel()
        for id, status, done in entries:
            channel.send(progress(id, status, done, 9))
        channel.close()
        return [entry async for entry in channel.read()]

    read = asyncio.run(run())
    for id in "ab":
        sent = [(status, done) for one, status, done in entries if one == id]
        runs = [one for number, one in enumerate(sent) if number + 1 == len(sent) or sent[number + 1][0] != one[0]]
        assert [(e["status"], e["progressDetail"]["current"]) for e in read if e["id"] == id] == runs


async def test_a_failure_comes_after_the_messages() -> None:
    async def work(send: Send) -> None:
        send(message("one"))
        raise ValueError("two")

    stream = streaming(work)
    assert await anext(stream) == {"status": "one"}
    with pytest.raises(ValueError, match="two"):
        await anext(stream)


async def test_a_reader_that_leaves_ends_the_work() -> None:
    ended = asyncio.Event()

    async def work(send: Send) -> None:
        send(message("one"))
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    stream = await primed(streaming(work))
    assert await anext(stream) == {"status": "one"}
    await stream.aclose()
    assert ended.is_set()


async def test_a_failure_before_the_first_message_is_raised_at_once() -> None:
    async def fails(send: Send) -> None:
        raise ValueError("early")

    with pytest.raises(ValueError, match="early"):
        await primed(streaming(fails))

    async def silent(send: Send) -> None:
        pass

    assert [entry async for entry in await primed(streaming(silent))] == []

    async def two(send: Send) -> None:
        send(message("1"))
        send(message("2"))

    assert [entry["status"] async for entry in await primed(streaming(two))] == ["1", "2"]


class Gated:
    """Work that counts its runs and waits to be let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.cleaned = 0
        self.go = asyncio.Event()

    async def __call__(self, send: Send) -> int:
        self.runs += 1
        send(message("begun"))
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
            self.cleaned += 1
            raise
        return self.runs


async def test_two_who_want_the_same_get_one_job() -> None:
    jobs: Jobs[int] = Jobs()
    work, heard = Gated(), [[], []]  # type: ignore[var-annotated]
    first = asyncio.create_task(jobs.run("k", work, heard[0].append))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(jobs.run("k", work, heard[1].append))
    await asyncio.sleep(0)
    assert heard == [[message("begun")], [message("begun")]]
    work.go.set()
    assert await asyncio.gather(first, second) == [1, 1]
    assert len(jobs) == 0 and await jobs.run("k", work, heard[0].append) == 2


async def test_a_job_lives_as_long_as_somebody_waits() -> None:
    jobs: Jobs[int] = Jobs()
    work = Gated()
    first = asyncio.create_task(jobs.run("k", work, lambda entry: None))
    second = asyncio.create_task(jobs.run("k", work, lambda entry: None))
    await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert work.cleaned == 0
    second.cancel()
    late = asyncio.create_task(jobs.run("k", work, lambda entry: None))
    await asyncio.gather(second, return_exceptions=True)
    assert work.cleaned == 1
    work.go.set()
    assert await late == 2  # started only after the first had cleaned up


async def test_all_who_wait_get_the_failure() -> None:
    jobs: Jobs[None] = Jobs()

    async def fails(send: Send) -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    results = await asyncio.gather(*[jobs.run("k", fails, lambda e: None) for _ in range(3)], return_exceptions=True)
    assert [str(result) for result in results] == ["no"] * 3
    assert len(jobs) == 0
