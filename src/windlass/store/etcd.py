"""A store that several servers share: etcd v3, through its JSON gateway.

    commit ─ txn with compares ─▶ etcd ─ watch of every key ─▶ image ─▶ reads, watches
                                    │                            ▲
                                    └── revision of the write ───┘  a commit returns when the image has it

Revisions are etcd's. Values are kept as they were given (a NUL where the revision belongs), so they are stamped when
they are read. The image lags behind other servers' writes by a network's delay; `sync` asks etcd for the latest
revision and waits until the image has it, which makes a read linearizable. Every key is watched, ours or not: each
revision of etcd then shows as an event, and a wait for a revision always ends.

When the watch breaks it goes on where it ended, at the next endpoint; when that was compacted meanwhile, the difference
between the image and the present becomes events.

Source: https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/, https://etcd.io/docs/v3.6/learning/api/
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from windlass.store.errors import Mismatch, StoreError, Unavailable
from windlass.store.history import History
from windlass.store.records import Compare, Event, Put, Record, TxnResult, stamped
from windlass.store.store import Store
from windlass.store.transform import IDENTITY, Transformer

_PREFIX = b"/"
_PREFIX_END = b"0"
_PAGE = 5000
_KEPT = 10_000  # revisions of history that a start tries to read, so that clients can resume
_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=3)
_STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=3)
_WAIT_SECONDS = 15.0
_RETRY_SECONDS = 0.3
_COMPACT_SECONDS = 60.0
_LINE_LIMIT = 64 * 1024 * 1024

log = logging.getLogger("windlass.store")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class _Refused(StoreError):
    """etcd's own refusal, by its gRPC code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Behind(Exception):  # a signal between two loops of this module
    """The watch's next revision is compacted."""


class EtcdStore(Store):
    """See the module's drawing. Make it with `open`."""

    def __init__(self, endpoints: Sequence[str], transformer: Transformer, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._endpoints = list(endpoints)
        self._transformer = transformer
        self._history = History()
        self._tls = tls
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256, ssl=tls if tls is not None else True),
            json_serialize=lambda value: orjson.dumps(value).decode(),
            read_bufsize=1 << 20,
        )
        self._reached: list[tuple[int, asyncio.Future[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    @classmethod
    async def open(
        cls,
        endpoints: Sequence[str],
        *,
        transformer: Transformer = IDENTITY,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> EtcdStore:
        """Connect and read the state.

        Raises:
            Unavailable: no endpoint answers.
            OSError: a certificate's file cannot be read.
        """
        tls = None
        if any(each.startswith("https:") for each in endpoints):
            tls = ssl.create_default_context(cafile=str(ca) if ca else None)
            if certificate is not None:
                tls.load_cert_chain(certificate, key)
        self = cls(endpoints, transformer, tls)
        try:
            await self._load()
        except BaseException:
            await self._session.close()
            raise
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow()), loop.create_task(self._keep_bounded())]
        return self

    # -- requests

    async def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A request to the first endpoint that answers.

        Raises:
            _Refused: etcd says no.
            Unavailable: none answers.
        """
        problem = ""
        for _ in range(len(self._endpoints)):
            try:
                async with self._session.post(self._endpoints[0] + path, json=body, timeout=_TIMEOUT) as answer:
                    text = await answer.read()
                    found: dict[str, Any] = orjson.loads(text) if text else {}
                    if answer.status == 200:
                        return found
                    code, message = int(found.get("code", 2)), str(found.get("message") or found.get("error"))
                    if code not in (4, 14):  # deadline exceeded, unavailable: another member may be better
                        raise _Refused(code, message)
                    problem = message
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                problem = str(error) or type(error).__name__
            self._endpoints.append(self._endpoints.pop(0))
        raise Unavailable(f"etcd does not answer: {problem}")

    def _record(self, item: dict[str, Any]) -> Record:
        key = base64.b64decode(item["key"])
        revision = int(item["mod_revision"])
        value, _ = self._transformer.decode(key, base64.b64decode(item.get("value", "")))
        return Record(
            key,
            stamped(value, revision),
            int(item["create_revision"]),
            revision,
            int(item["version"]),
            int(item.get("lease", 0)),
        )

    # -- the image

    async def _load(self) -> None:
        present = await self._present()
        for revision in (max(present - _KEPT, 1), present):
            try:
                records = await self._range(revision)
            except _Refused as error:
                if error.code == 11 and revision < present:  # out of range: compacted
                    continue
                raise Unavailable(str(error)) from error
            self._image.load(records, revision, revision)
            break
        await self._catch_up(present)

    async def _present(self) -> int:
        """The latest revision of all, by a linearizable read."""
        found = await self._call("/v3/kv/range", {"key": _b64(b"\0"), "count_only": True})
        return int(found["header"]["revision"])

    async def _range(self, revision: int) -> list[Record]:
        records: list[Record] = []
        begin = _PREFIX
        while True:
            body = {
                "key": _b64(begin),
                "range_end": _b64(_PREFIX_END),
                "limit": _PAGE,
                "revision": revision,
            }
            found = await self._call("/v3/kv/range", body)
            records += [self._record(item) for item in found.get("kvs", ())]
            if not found.get("more"):
                return records
            begin = records[-1].key + b"\0"

    async def _catch_up(self, present: int) -> None:
        """Read the events up to a revision before anybody reads."""
        if self.revision >= present:
            return
        try:
            async for _ in self._events(self.revision + 1):
                if self.revision >= present:
                    return
        except (_Behind, aiohttp.ClientError, TimeoutError, StoreError):
            await self._resync()

    async def _follow(self) -> None:
        """Keep the image up to date as long as the store lives."""
        while not self._closed:
            try:
                async for _ in self._events(self.revision + 1):
                    pass
            except _Behind:
                await self._quietly(self._resync())
            except (aiohttp.ClientError, TimeoutError, StoreError, ValueError) as error:
                log.warning("the watch of etcd ended: %s", error or type(error).__name__)
            self._endpoints.append(self._endpoints.pop(0))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _quietly(self, work: Any) -> None:
        try:
            await work
        except StoreError as error:
            log.warning("etcd: %s", error)

    async def _events(self, start: int) -> AsyncIterator[int]:
        """Apply what the watch brings, yielding the revision after each answer.

        Raises:
            _Behind, aiohttp.ClientError, Unavailable
        """
        request = {
            "create_request": {
                "key": _b64(b"\0"),
                "range_end": _b64(b"\0"),
                "start_revision": start,
                "progress_notify": True,
            }
        }
        async with self._session.post(
            self._endpoints[0] + "/v3/watch", json=request, timeout=_STREAM_TIMEOUT
        ) as answer:
            if answer.status != 200:
                raise Unavailable(f"watch: {answer.status} {await answer.text()}")
            async for line in _lines(answer):
                found = json.loads(line)
                if "error" in found:
                    raise Unavailable(str(found["error"]))
                result = found["result"]
                if result.get("compact_revision"):
                    raise _Behind
                if result.get("canceled"):
                    raise Unavailable(str(result.get("cancel_reason", "the watch was cancelled")))
                if result.get("created"):
                    continue
                self._apply(result.get("events", ()))
                self._show(int(result["header"]["revision"]) if not result.get("events") else self.revision)
                yield self.revision

    def _apply(self, items: Sequence[dict[str, Any]]) -> None:
        events: list[Event] = []
        changed: dict[bytes, Record | None] = {}
        latest = 0
        for item in items:
            found = item["kv"]
            latest = int(found["mod_revision"])
            key = base64.b64decode(found["key"])
            if not key.startswith(_PREFIX) or latest <= self.revision:
                continue
            previous = changed[key] if key in changed else self._image.records.get(key)
            is_delete = item.get("type") == "DELETE"
            record = Record(key, b"", 0, latest, 0) if is_delete else self._record(found)
            changed[key] = None if is_delete else record
            events.append(Event(record, previous, is_delete))
        self._image.apply(events)
        self._image.advance(latest)

    def _show(self, revision: int) -> None:
        """The image has every event up to a revision: wake who waits for it."""
        self._image.advance(revision)
        present = self.revision
        waiting = self._reached
        self._reached = [entry for entry in waiting if entry[0] > present]
        for wanted, future in waiting:
            if wanted <= present and not future.done():
                future.set_result(None)

    async def _resync(self) -> None:
        """The history between the image and the present is lost: what differs becomes events."""
        present = await self._present()
        fresh = {record.key: record for record in await self._range(present)}
        events = []
        for key, record in fresh.items():
            previous = self._image.records.get(key)
            if previous is None or previous.mod_revision != record.mod_revision:
                events.append(Event(record, previous, False))
        events.sort(key=lambda event: event.revision)
        for key, previous in list(self._image.records.items()):
            if key not in fresh:
                events.append(Event(Record(key, b"", 0, present, 0), previous, True))
        self._image.apply(events)
        self._show(present)

    async def _wait_for(self, revision: int) -> None:
        if self.revision >= revision:
            return
        future = asyncio.get_running_loop().create_future()
        self._reached.append((revision, future))
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await future
        except TimeoutError:
            raise Unavailable(f"etcd's revision {revision} does not arrive by the watch") from None

    @property
    def is_current(self) -> bool:
        """Other servers write, too."""
        return False

    async def sync(self) -> None:
        """See `Store.sync`."""
        await self._wait_for(await self._present())

    async def settle(self) -> None:
        """See `Store.settle`: a write that another one beat has waited for that already."""

    # -- writes

    async def _write(
        self, compares: Sequence[Compare], puts: Sequence[Put], *, must_exist: bool = False
    ) -> list[Record]:
        conditions = [self._condition(each) for each in compares]
        if must_exist:
            conditions += [
                {"key": _b64(put.key), "target": "VERSION", "result": "GREATER", "version": 0} for put in puts
            ]
        keys = [each.key for each in compares] + [put.key for put in puts]
        body = {
            "compare": conditions,
            "success": [self._operation(put) for put in puts],
            "failure": [{"request_range": {"key": _b64(key)}} for key in keys],
        }
        found = await self._txn(body)
        revision = int(found["header"]["revision"])
        if not found.get("succeeded"):
            await self._wait_for(revision)
            items = found["responses"][0]["response_range"].get("kvs")
            raise Mismatch(self._record(items[0]) if items else None)
        await self._wait_for(revision)
        return [self._written(put, revision) for put in puts]

    async def txn(self, compares: Sequence[Compare], then: Sequence[Put], otherwise: Sequence[Put] = ()) -> TxnResult:
        """See `Store.txn`."""
        body = {
            "compare": [self._condition(each) for each in compares],
            "success": [self._operation(put) for put in then],
            "failure": [self._operation(put) for put in otherwise],
        }
        found = await self._txn(body)
        revision = int(found["header"]["revision"])
        await self._wait_for(revision)
        succeeded = bool(found.get("succeeded"))
        puts = then if succeeded else otherwise
        records = [None if put.value is None else self._written(put, revision) for put in puts]
        return TxnResult(succeeded, revision, records)

    async def _txn(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._call("/v3/kv/txn", body)
        except _Refused as error:
            raise StoreError(str(error)) from error

    @staticmethod
    def _condition(compare: Compare) -> dict[str, Any]:
        return {
            "key": _b64(compare.key),
            "target": "MOD",
            "result": "EQUAL",
            "mod_revision": compare.mod_revision,
        }

    def _operation(self, put: Put) -> dict[str, Any]:
        if put.value is None:
            return {"request_delete_range": {"key": _b64(put.key)}}
        value = self._transformer.encode(put.key, put.value)
        return {"request_put": {"key": _b64(put.key), "value": _b64(value), "lease": put.lease}}

    def _written(self, put: Put, revision: int) -> Record:
        if put.value is None:
            return Record(put.key, b"", 0, revision, 0)
        record = self._image.records.get(put.key)
        if record is not None and record.mod_revision == revision:
            return record
        # Somebody was so fast that it has changed again: what was written follows from the history, or from the call.
        for event in reversed(self._image.log.events):
            if event.revision == revision and event.key == put.key:
                return event.record
        return Record(put.key, stamped(put.value, revision), revision, revision, 1, put.lease)

    # -- leases

    async def grant(self, ttl: float) -> int:
        """See `Store.grant`; etcd counts whole seconds."""
        return int((await self._call("/v3/lease/grant", {"TTL": max(round(ttl), 1)}))["ID"])

    async def keep_alive(self, lease: int) -> None:
        """See `Store.keep_alive`."""
        found = await self._call("/v3/lease/keepalive", {"ID": lease})
        if int(found.get("result", {}).get("TTL", 0)) <= 0:
            raise KeyError(lease)

    async def revoke(self, lease: int) -> None:
        """See `Store.revoke`."""
        try:
            found = await self._call("/v3/lease/revoke", {"ID": lease})
        except _Refused as error:
            if error.code == 5:  # not found
                return
            raise
        await self._wait_for(int(found["header"]["revision"]))

    # -- upkeep

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        try:
            await self._call("/v3/kv/compaction", {"revision": min(revision, self.revision)})
        except _Refused as error:
            if error.code != 11:  # another server was faster
                raise
        self._image.compact(revision)

    async def _keep_bounded(self) -> None:
        while not self._closed:
            await asyncio.sleep(_COMPACT_SECONDS)
            target = self._history.compaction(asyncio.get_running_loop().time(), self.revision)
            if target > self.compacted_revision:
                await self._quietly(self.compact(target))

    async def snapshot(self, path: str) -> None:
        """See `Store.snapshot`: etcd's own format, for `etcdutl snapshot restore`."""
        temporary = f"{path}.tmp"
        endpoint = self._endpoints[0] + "/v3/maintenance/snapshot"
        try:
            # An operator's command: a short write now and then may hold up the loop.
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                async with self._session.post(endpoint, json={}, timeout=_STREAM_TIMEOUT) as answer:
                    async for line in _lines(answer):
                        found = json.loads(line)
                        if "result" not in found:
                            raise Unavailable(str(found.get("error", found)))
                        file.write(base64.b64decode(found["result"].get("blob", "")))
            os.link(temporary, path)
            os.unlink(temporary)
        except aiohttp.ClientError as error:
            raise Unavailable(str(error)) from error

    async def defragment(self) -> None:
        """See `Store.defragment`; of the member that answers."""
        await self._call("/v3/maintenance/defragment", {})

    async def size(self) -> int:
        """See `Store.size`; of the member that answers."""
        return int((await self._call("/v3/maintenance/status", {})).get("dbSize", 0))

    async def close(self) -> None:
        """See `Store.close`."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The lines of a stream, of any length up to a bound."""
    rest = bytearray()
    async for chunk in answer.content.iter_any():
        rest += chunk
        if b"\n" in chunk:
            *lines, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            for line in lines:
                if line:
                    yield line
        elif len(rest) > _LINE_LIMIT:
            raise Unavailable("etcd sends a line without end")
    if rest:
        yield bytes(rest)
