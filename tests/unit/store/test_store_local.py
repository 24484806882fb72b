"""Stores behave alike, whatever keeps them: one suite for memory, SQLite and etcd."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from windlass.store import Compacted, Compare, Mismatch, Put, Store, StoreError, Unavailable, open_store

PODS, END = b"/registry/pods/", b"/registry/pods0"


def key(name: str) -> bytes:
    return PODS + name.encode()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = shutil.which("etcd")
    if binary is None:
        pytest.skip("etcd is not installed")
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            ports.append(sock.getsockname()[1])
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    arguments = ["--data-dir", str(tmp_path_factory.mktemp("etcd")), "--listen-client-urls", client]
    arguments += ["--advertise-client-urls", client, "--listen-peer-urls", peer, "--unsafe-no-fsync"]
    arguments += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    process = subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield client
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["memory", "sqlite", "etcd"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "etcd":
        store = await _open_etcd(request.getfixturevalue("etcd"))
        for record in store.range(b"/", b"0").records:
            await store.commit(record.key, None)
    elif request.param == "sqlite":
        store = await open_store(f"sqlite://{tmp_path}/state.db")
    else:
        store = await open_store("memory:")
    yield store
    await store.close()


async def _open_etcd(url: str) -> Store:
    for _ in range(100):
        try:
            return await open_store(url)
        except Unavailable:  # it is still starting
            await asyncio.sleep(0.1)
    raise AssertionError("etcd does not start")


async def test_a_commit_is_seen_at_once_and_numbered(store: Store) -> None:
    first = await store.commit(key("a"), b"one \0")
    assert store.get(key("a")) == first
    assert first.value == b"one %d" % first.mod_revision
    assert (first.create_revision, first.version) == (first.mod_revision, 1)
    second = await store.commit(key("a"), b"two")
    assert second.mod_revision > first.mod_revision
    assert (second.create_revision, second.version) == (first.create_revision, 2)
    at_first = store.get(key("a"), first.mod_revision)
    assert at_first is not None and at_first.value == first.value
    assert store.revision == second.mod_revision


async def test_expectations_decide(store: Store) -> None:
    made = await store.commit(key("a"), b"1", expect=0)
    with pytest.raises(Mismatch) as caught:
        await store.commit(key("a"), b"2", expect=0)
    assert caught.value.current == made
    changed = await store.commit(key("a"), b"2", expect=made.mod_revision)
    with pytest.raises(Mismatch):
        await store.commit(key("a"), None, expect=made.mod_revision)
    await store.commit(key("a"), None, expect=changed.mod_revision)
    assert store.get(key("a")) is None
    with pytest.raises(Mismatch) as caught:
        await store.commit(key("a"), None)
    assert caught.value.current is None


async def test_of_racing_writers_one_wins(store: Store) -> None:
    made = await store.commit(key("a"), b"0")
    writes = [store.commit(key("a"), b"%d" % number, expect=made.mod_revision) for number in range(8)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert all(isinstance(o, Mismatch) for o in outcomes if isinstance(o, BaseException))


async def test_pages_of_a_range_are_of_one_revision(store: Store) -> None:
    for number in range(5):
        await store.commit(key(f"p{number}"), b"%d" % number)
    page = store.range(PODS, END, limit=2)
    assert [r.key for r in page.records] == [key("p0"), key("p1")] and page.more and page.total == 5
    await store.commit(key("p3"), None)
    await store.commit(key("p9"), b"new")
    rest = store.range(key("p1") + b"\0", END, revision=page.revision)
    assert [r.value for r in rest.records] == [b"2", b"3", b"4"]


async def test_a_watch_tells_what_happens(store: Store) -> None:
    begin = store.revision
    watch = store.watch(PODS, END, after_revision=begin)
    await store.commit(key("a"), b"1")
    await store.commit(b"/registry/nodes/n", b"elsewhere")
    await store.commit(key("a"), b"2")
    await store.commit(key("a"), None)
    events = []
    while len(events) < 3:
        events += await watch.next()
    assert [event.is_delete for event in events] == [False, False, True]
    assert [event.previous.value if event.previous else None for event in events] == [None, b"1", b"2"]
    assert watch.progress == store.revision
    again = store.watch(PODS, END, after_revision=begin)
    assert [event.revision for event in await again.next()] == [event.revision for event in events]


async def test_a_transaction_is_all_or_nothing_under_one_revision(store: Store) -> None:
    made = await store.commit(key("a"), b"1")
    puts = [Put(key("b"), b"x"), Put(key("a"), None)]
    refused = await store.txn([Compare(key("a"), made.mod_revision + 100)], puts)
    assert not refused.succeeded and store.get(key("b")) is None
    done = await store.txn([Compare(key("a"), made.mod_revision), Compare(key("b"), 0)], puts)
    assert done.succeeded
    found = store.get(key("b"))
    assert found is not None and found.mod_revision == done.revision and store.get(key("a")) is None


async def test_what_is_compacted_is_gone(store: Store) -> None:
    first = await store.commit(key("a"), b"1")
    await store.commit(key("b"), b"kept")
    await store.commit(key("a"), b"2")
    last = await store.commit(key("a"), None)
    await store.compact(last.mod_revision)
    assert store.compacted_revision == last.mod_revision
    with pytest.raises(Compacted):
        store.get(key("a"), first.mod_revision)
    with pytest.raises(Compacted):
        store.watch(PODS, END, after_revision=first.mod_revision)
    assert [record.value for record in store.range(PODS, END).records] == [b"kept"]


async def test_keys_go_with_their_lease(store: Store) -> None:
    lease = await store.grant(60)
    await store.commit(key("leased"), b"1", lease=lease)
    await store.commit(key("other"), b"2")
    await store.keep_alive(lease)
    await store.revoke(lease)
    assert store.get(key("leased")) is None and store.get(key("other")) is not None
    with pytest.raises((KeyError, StoreError)):
        await store.keep_alive(lease)


async def test_a_lease_that_nobody_keeps_ends(store: Store) -> None:
    watch = store.watch(PODS, END, after_revision=store.revision)
    lease = await store.grant(1)
    await store.commit(key("leased"), b"1", lease=lease)
    events = []
    while len(events) < 2:
        events += await watch.next()
    assert events[1].is_delete and store.get(key("leased")) is None


async def test_a_snapshot_is_a_store_again(tmp_path: Path) -> None:
    store = await open_store(f"sqlite://{tmp_path}/state.db")
    await store.commit(key("a"), b"1")
    last = await store.commit(key("b"), b"2 \0")
    await store.snapshot(str(tmp_path / "copy"))
    await store.commit(key("c"), b"later")
    with pytest.raises(FileExistsError):
        await store.snapshot(str(tmp_path / "copy"))
    await store.close()
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600

    from windlass.store.sqlite import restore

    restore(tmp_path / "copy", tmp_path / "new" / "state.db")
    again = await open_store(f"sqlite://{tmp_path}/new/state.db")
    assert [record.value for record in again.range(PODS, END).records] == [b"1", b"2 %d" % last.mod_revision]
    assert again.revision == last.mod_revision
    await again.close()
    with pytest.raises(FileExistsError):
        restore(tmp_path / "copy", tmp_path / "state.db")
    (tmp_path / "junk").write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable):
        restore(tmp_path / "junk", tmp_path / "other.db")


async def test_a_file_has_one_process_at_a_time(tmp_path: Path) -> None:
    store = await open_store(f"sqlite://{tmp_path}/state.db")
    with pytest.raises(Unavailable, match="in use by another process"):
        await open_store(f"sqlite://{tmp_path}/state.db")
    await store.close()
    await (await open_store(f"sqlite://{tmp_path}/state.db")).close()


async def test_a_new_start_knows_state_history_and_leases(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/state.db"
    store = await open_store(url)
    lease = await store.grant(0.2)
    first = await store.commit(key("a"), b"1")
    await store.commit(key("l"), b"leased", lease=lease)
    await store.commit(key("a"), b"2")
    await store.commit(key("a"), None)
    await store.close()
    store = await open_store(url)
    watch = store.watch(PODS, END, after_revision=first.mod_revision)
    events = await watch.next()
    assert [event.is_delete for event in events] == [False, False, True]
    assert events[1].previous == first
    (gone,) = await watch.next()  # its time began anew with the start
    assert gone.is_delete and gone.key == key("l")
    last = store.revision
    await store.compact(last)
    await store.close()
    store = await open_store(url)
    assert store.revision == last  # though the row of that revision, a deletion, is forgotten
    assert (await store.commit(key("b"), b"3")).mod_revision == last + 1
    await store.close()


async def test_the_file_stays_bounded_under_churn(tmp_path: Path) -> None:
    store = await open_store(f"sqlite://{tmp_path}/state.db")
    sizes = []
    for _ in range(6):
        writes = [store.commit(key(f"p{number % 50}"), b"x" * 1000) for number in range(1000)]
        await asyncio.gather(*writes)
        await store.compact(store.revision)
        sizes.append(await store.size())
    assert sizes[-1] <= sizes[1] * 1.5
    await store.defragment()
    assert await store.size() < sizes[-1]
    await store.close()


async def test_a_backend_that_fails_ends_the_writing_and_shows_nothing(tmp_path: Path) -> None:
    store = await open_store(f"sqlite://{tmp_path}/state.db")
    await store.commit(key("a"), b"1")
    store._backend._db.execute("PRAGMA query_only = ON")  # type: ignore[attr-defined]
    outcomes = await asyncio.gather(store.commit(key("a"), b"2"), store.commit(key("b"), b"2"), return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    with pytest.raises(Unavailable):
        await store.commit(key("c"), b"3")
    assert [record.value for record in store.range(PODS, END).records] == [b"1"]
    await store.close()


async def test_urls_that_name_no_store_are_refused(tmp_path: Path) -> None:
    for url in ("postgres://x", "sqlite://relative", "nothing"):
        with pytest.raises(StoreError):
            await open_store(url)
    (tmp_path / "text.db").write_text("this is no database " * 100)
    with pytest.raises(Unavailable):
        await open_store(f"sqlite://{tmp_path}/text.db")


async def test_two_servers_over_one_etcd_see_each_other(etcd: str) -> None:
    one, two = await _open_etcd(etcd), await _open_etcd(etcd)
    watch = two.watch(b"/shared/x/", b"/shared/x0", after_revision=two.revision)
    record = await one.commit(b"/shared/x/a", b"v \0")
    (event,) = await watch.next()
    assert event.record == record
    await two.sync()
    assert two.get(b"/shared/x/a") == record
    with pytest.raises(Mismatch):
        await two.commit(b"/shared/x/a", b"again", expect=0)
    three = await _open_etcd(etcd)  # reads a piece of the history, too
    assert three.get(b"/shared/x/a") == record
    for store in (one, two, three):
        await store.close()


WRITER = """
import asyncio, sys
from windlass.store import open_store

async def main(path):
    store = await open_store(f"sqlite://{path}")
    print("ready", store.revision, flush=True)
    async def write(worker):
        number = 0
        while True:
            record = await store.commit(b"/registry/pods/%d" % worker, b"%d" % number)
            sys.stdout.write(f"{worker} {number} {record.mod_revision}\\n")
            sys.stdout.flush()
            number += 1
    await asyncio.gather(*(write(worker) for worker in range(8)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("kills", [12])
async def test_nothing_acknowledged_is_lost_by_kills(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "state.db"
    seen: set[int] = set()
    last = 0
    for turn in range(kills):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(path), stdout=subprocess.PIPE)
        assert process.stdout is not None
        begun = await process.stdout.readline()
        assert int(begun.split()[1]) >= last
        lines = [await process.stdout.readline() for _ in range(5 + 17 * turn)]
        process.kill()
        lines += (await process.stdout.read()).splitlines()
        await process.wait()
        acknowledged: dict[bytes, tuple[int, int]] = {}
        for line in lines:
            fields = line.split()
            if len(fields) == 3:
                worker, number, revision = map(int, fields)
                assert revision not in seen
                seen.add(revision)
                last = max(last, revision)
                acknowledged[b"/registry/pods/%d" % worker] = (number, revision)
        store = await open_store(f"sqlite://{path}")
        assert store.revision >= last
        for name, (number, revision) in acknowledged.items():
            record = store.get(name)
            assert record is not None and record.mod_revision >= revision and int(record.value) >= number
        last = store.revision
        await store.close()


async def test_a_torn_end_of_the_log_takes_back_nothing_older(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await open_store(f"sqlite://{path}")
    for number in range(20):
        await store.commit(key(f"p{number:02}"), b"x" * 100)
    # The files as a crash of the machine would find them, the last frames of the WAL torn.
    for cut in (1, 500, 4096, 9000):
        copy = tmp_path / f"cut{cut}"
        copy.mkdir()
        shutil.copy(path, copy / "state.db")
        wal = Path(f"{path}-wal").read_bytes()
        (copy / "state.db-wal").write_bytes(wal[:-cut])
        torn = await open_store(f"sqlite://{copy}/state.db")
        keys = [record.key for record in torn.range(PODS, END).records]
        assert keys == [key(f"p{number:02}") for number in range(len(keys))] and 15 <= len(keys) <= 20
        assert (await torn.commit(key("new"), b"1")).mod_revision == len(keys) + 1
        await torn.close()
    await store.close()
