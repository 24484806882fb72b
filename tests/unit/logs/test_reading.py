"""Logs on disk: rotation, compression, damage, and readers beside a writer."""

from __future__ import annotations

import asyncio
import gzip
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from windlass.errors import NotImplementedByEngine
from windlass.logs.driver import open_writer
from windlass.logs.entry import LogEntry
from windlass.logs.reading import open_reader

if TYPE_CHECKING:
    from windlass.logs.driver import LogWriter

DRIVERS = ["json-file", "local"]
SMALL = {"max-size": "2k", "max-file": "1000"}  # more files than any test fills: nothing is dropped


async def read(driver: str, path: str, **options: Any) -> list[LogEntry]:
    return [entry async for batch in open_reader(driver, {}, path).read(**options) for entry in batch]


def lines_of(entries: list[LogEntry]) -> list[bytes]:
    return [entry.line for entry in entries]


def write_lines(writer: LogWriter, first: int, last: int, *, chunk: int = 7) -> None:
    lines = [b"line %d\n" % number for number in range(first, last)]
    for begin in range(0, len(lines), chunk):
        writer.write("stdout", b"".join(lines[begin : begin + chunk]), time.time_ns())


def numbered(first: int, last: int) -> list[bytes]:
    return [b"line %d\n" % number for number in range(first, last)]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("compress", ["true", "false"])
async def test_what_is_written_is_read_back_across_rotated_files(tmp_path: Path, driver: str, compress: str) -> None:
    path = str(tmp_path / "log")
    writer = open_writer(driver, {**SMALL, "compress": compress}, path, attrs={"label": "x"})
    write_lines(writer, 0, 1000)
    writer.close()
    files = sorted(os.listdir(tmp_path))
    assert len(files) > 5
    assert any(name.endswith(".gz") for name in files) == (compress == "true")
    entries = await read(driver, path)
    assert lines_of(entries) == numbered(0, 1000)
    assert {entry.stream for entry in entries} == {"stdout"}
    assert {str(entry.attrs) for entry in entries} == {"{'label': 'x'}"}
    assert [entry.time_ns for entry in entries] == sorted(entry.time_ns for entry in entries)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("compress", ["true", "false"])
async def test_tail_counts_backwards_across_files(tmp_path: Path, driver: str, compress: str) -> None:
    path = str(tmp_path / "log")
    writer = open_writer(driver, {**SMALL, "compress": compress}, path)
    write_lines(writer, 0, 300)
    writer.close()
    for tail in (0, 1, 2, 10, 33, 150, 299, 300, 301, 10_000):
        assert lines_of(await read(driver, path, tail=tail)) == numbered(max(0, 300 - tail), 300), tail


def test_rotation_keeps_to_the_limits_and_the_names(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = open_writer("json-file", {"max-size": "1k", "max-file": "3"}, path)
    write_lines(writer, 0, 500, chunk=500)
    writer.close()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    record = len(Path(path + ".1").read_bytes().splitlines()[0])
    # As in dockerd the record that crosses the limit is still written: never more than one beyond.
    assert all(1000 <= os.path.getsize(f"{path}.{number}") < 1000 + record + 2 for number in (1, 2))
    assert os.path.getsize(path) < 1000 + record + 2


def test_one_file_begins_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = open_writer("json-file", {"max-size": "1k"}, path)
    write_lines(writer, 0, 100)
    writer.close()
    assert os.listdir(tmp_path) == ["log"]
    assert os.path.getsize(path) < 1200


def test_compressed_files_are_plain_gzip_for_others(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = open_writer("json-file", {**SMALL, "compress": "true"}, path)
    write_lines(writer, 0, 100)
    writer.close()
    assert gzip.decompress((tmp_path / "log.1.gz").read_bytes()).startswith(b'{"log":"line ')


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_log_torn_by_a_kill_is_read_and_continued(tmp_path: Path, driver: str) -> None:
    path = str(tmp_path / "log")
    writer = open_writer(driver, {}, path)
    write_lines(writer, 0, 5, chunk=1)
    writer.close()
    whole = Path(path).read_bytes()
    for cut in range(len(whole) - 1, 0, -7):
        Path(path).write_bytes(whole[:cut])
        before = lines_of(await read(driver, path))
        assert before == numbered(0, len(before))
        assert lines_of(await read(driver, path, tail=2)) == before[-2:]
        again = open_writer(driver, {}, path)
        again.write("stdout", b"after\n", time.time_ns())
        again.close()
        assert lines_of(await read(driver, path)) == [*before, b"after\n"]


async def test_damage_in_the_middle_costs_only_what_is_damaged(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = open_writer("json-file", {}, path)
    write_lines(writer, 0, 3)
    writer.close()
    first, second, third = Path(path).read_bytes().splitlines(keepends=True)
    Path(path).write_bytes(first + second[:20] + third + b"rubbish\n" + b'{"time":"x"}\n' + first)
    assert lines_of(await read("json-file", path)) == [b"line 0\n", b"line 2\n", b"line 0\n"]


async def test_a_killed_compression_is_tidied_up_and_done_again(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    options = {**SMALL, "compress": "true"}
    begun: list[Any] = []

    def never(job: Any, done: Any) -> int:
        begun.append((job, done))
        return 0

    writer = open_writer("json-file", options, path, spawn=never)
    write_lines(writer, 0, 200)
    writer.close()
    assert begun
    (tmp_path / "log.77.gz.tmp").write_bytes(b"half")
    (tmp_path / "log.new").write_bytes(b"")
    (tmp_path / "log.5.gz").write_bytes(gzip.compress((tmp_path / "log.5").read_bytes()))
    plain = len([name for name in os.listdir(tmp_path) if name.removeprefix("log.").isdigit()])
    assert plain > 5
    assert lines_of(await read("json-file", path)) != []
    writer = open_writer("json-file", options, path)
    writer.close()
    names = os.listdir(tmp_path)
    assert all(name == "log" or (name.startswith("log.") and name.endswith(".gz")) for name in names)
    assert lines_of(await read("json-file", path)) == numbered(0, 200)


async def test_a_file_that_moves_on_while_it_is_compressed_gets_its_right_name(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    waiting: list[Any] = []

    def later(job: Any, done: Any) -> int:
        job()
        waiting.append(done)
        return 0

    writer = open_writer("json-file", {**SMALL, "compress": "true"}, path, spawn=later)
    write_lines(writer, 0, 200)  # several rotations, one compression under way
    assert len(waiting) == 1
    while waiting:
        waiting.pop()(True)
    writer.close()
    assert all(name == "log" or name.endswith(".gz") for name in os.listdir(tmp_path))
    assert lines_of(await read("json-file", path)) == numbered(0, 200)


async def test_a_full_disk_costs_lines_and_leaves_whole_records(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = open_writer("json-file", {}, path)
    write_lines(writer, 0, 10)
    size = os.path.getsize(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, limits[1]))
    try:
        writer.write("stdout", b"lost\n", time.time_ns())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.path.getsize(path) == size
    assert writer.lost_bytes > 30
    write_lines(writer, 10, 12)
    writer.close()
    assert lines_of(await read("json-file", path)) == numbered(0, 12)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_since_until_and_streams_choose(tmp_path: Path, driver: str) -> None:
    path = str(tmp_path / "log")
    writer = open_writer(driver, {}, path)
    for number in range(10):
        writer.write("stderr" if number % 2 else "stdout", b"%d\n" % number, (number + 1) * 10**9)
    writer.close()
    assert lines_of(await read(driver, path, since=3 * 10**9, until=5 * 10**9)) == [b"2\n", b"3\n", b"4\n"]
    assert lines_of(await read(driver, path, stdout=False)) == [b"1\n", b"3\n", b"5\n", b"7\n", b"9\n"]
    # As in dockerd the tail is taken before the streams are chosen.
    assert lines_of(await read(driver, path, tail=3, stderr=False)) == [b"8\n"]
    assert await read(driver, path, stdout=False, stderr=False) == []


@pytest.mark.parametrize("driver", DRIVERS)
async def test_an_unfinished_line_is_kept_at_the_end(tmp_path: Path, driver: str) -> None:
    path = str(tmp_path / "log")
    writer = open_writer(driver, {}, path)
    writer.write("stdout", b"prompt> ", 1)
    assert await read(driver, path) == []
    writer.close()
    assert lines_of(await read(driver, path)) == [b"prompt> "]


async def test_no_log_is_an_empty_log_and_none_cannot_be_read(tmp_path: Path) -> None:
    assert await read("json-file", str(tmp_path / "log")) == []
    assert await read("local", str(tmp_path / "log"), tail=5) == []
    with pytest.raises(NotImplementedByEngine, match="configured logging driver does not support reading"):
        open_reader("none", {}, str(tmp_path / "log"))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("compress", ["true", "false"])
async def test_following_sees_every_line_once_through_rotations(tmp_path: Path, driver: str, compress: str) -> None:
    path = str(tmp_path / "log")
    ended = asyncio.Event()
    seen: list[bytes] = []

    async def follow() -> None:
        async for batch in open_reader(driver, {}, path).read(follow=True, ended=ended):
            seen.extend(lines_of(batch))

    def write() -> None:
        # Two writers, one after the other, as when a container is started again.
        for first in (0, 1500):
            writer = open_writer(driver, {**SMALL, "compress": compress}, path)
            write_lines(writer, first, first + 1500, chunk=3)
            writer.close()

    task = asyncio.create_task(follow())
    await asyncio.to_thread(write)
    ended.set()
    await task
    assert seen == numbered(0, 3000)


async def test_following_wakes_for_each_line_and_stops_at_until(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    writer = open_writer("json-file", {}, path)
    write_lines(writer, 0, 10)
    stream = open_reader("json-file", {}, path).read(tail=1, follow=True)
    assert lines_of(await anext(stream)) == [b"line 9\n"]
    for number in range(10, 15):
        write_lines(writer, number, number + 1)
        assert lines_of(await anext(stream)) == [b"line %d\n" % number]
    await stream.aclose()  # type: ignore[attr-defined]
    until = time.time_ns() + 50_000_000
    assert (
        len(
            [
                entry
                async for batch in open_reader("json-file", {}, path).read(follow=True, until=until)
                for entry in batch
            ]
        )
        == 15
    )
    writer.close()


async def test_many_followers_share_one_inotify_and_cancel_cleanly(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    descriptors = len(os.listdir("/proc/self/fd"))
    counts = [0] * 200

    async def follow(index: int) -> None:
        async for batch in open_reader("json-file", {}, path).read(follow=True):
            counts[index] += len(batch)

    tasks = [asyncio.create_task(follow(index)) for index in range(len(counts))]
    writer = open_writer("json-file", {}, path)
    while sum(counts) < len(counts):
        write_lines(writer, 0, 1)
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    writer.close()
    await asyncio.to_thread(lambda: None)
    for _ in range(100):
        if len(os.listdir("/proc/self/fd")) <= descriptors:
            break
        await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= descriptors


CHUNK = st.tuples(
    st.sampled_from(["stdout", "stderr"]), st.binary(max_size=60).map(lambda data: data.replace(b"\xff", b"\n"))
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(CHUNK, max_size=25),
    st.sampled_from(["true", "false"]),
    st.integers(0, 40),
    st.integers(60, 400),
)
async def test_any_output_is_read_back_whole(
    tmp_path: Path, chunks: list[tuple[str, bytes]], compress: str, tail: int, size: int
) -> None:
    folder = tmp_path / str(time.monotonic_ns())
    folder.mkdir()
    path = str(folder / "log")
    writer = open_writer("local", {"max-size": str(size), "max-file": "1000", "compress": compress}, path)
    for stream, data in chunks:
        writer.write(stream, data, 1)
    writer.close()
    entries = await read("local", path)
    for stream in ("stdout", "stderr"):
        expected = b"".join(data for name, data in chunks if name == stream)
        assert b"".join(entry.line for entry in entries if entry.stream == stream) == expected
    assert await read("local", path, tail=tail) == (entries[-tail:] if tail else [])
