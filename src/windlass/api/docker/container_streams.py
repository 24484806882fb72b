"""Tag Container, what flows: logs, statistics, attach, wait, archives."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson

from windlass.api.docker import hijack
from windlass.api.docker.backend import AttachStream, Document, LogEntry
from windlass.api.docker.call import Answer, Call, json_answer
from windlass.api.docker.problems import JSON, message_of
from windlass.api.docker.streams import OCTETS, TAR, binary, close, documents
from windlass.errors import InvalidParameter
from windlass.http import Response, StreamResponse
from windlass.http.message import ClientGoneError
from windlass.logs.frames import frame, render

_CONDITIONS: Final = ("not-running", "next-exit", "removed")


async def logs(call: Call) -> Answer:
    """ContainerLogs."""
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not stdout and not stderr:
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    timestamps, details = call.flag("timestamps"), call.flag("details")
    terminal = call.engine.container_get(call.name).terminal
    batches = await call.engine.container_logs(
        call.name,
        follow=call.flag("follow"),
        stdout=stdout,
        stderr=stderr,
        since=call.moment("since"),
        until=call.moment("until"),
        tail=_tail(call.text("tail")),
        details=details,
    )
    kind = hijack.content_type(call, terminal=terminal)
    chunks = _log_frames(batches, multiplex=not terminal, timestamps=timestamps, details=details)
    return StreamResponse(200, [("Content-Type", kind)], chunks)


def _tail(text: str) -> int:
    """A number of lines; "all" and everything that is no number means all of them."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


async def _log_frames(
    batches: AsyncIterator[Sequence[LogEntry]], *, multiplex: bool, timestamps: bool, details: bool
) -> AsyncIterator[bytes]:
    try:
        async for batch in batches:
            yield render(batch, multiplex=multiplex, timestamps=timestamps, details=details)  # type: ignore[arg-type]
    except ClientGoneError:
        raise
    except Exception as error:
        problem = f"Error grabbing logs: {message_of(error)}\n".encode()
        yield frame("systemerr", problem) if multiplex else problem
    finally:
        await close(batches)


async def stats(call: Call) -> Answer:
    """ContainerStats: a document a second, or one."""
    stream = call.flag("stream", default=True)
    one_shot = not call.older(1, 41) and call.flag("one-shot")
    samples = await call.engine.container_stats(call.name, stream=stream, one_shot=one_shot)
    if stream:
        return documents(samples)
    try:
        return json_answer(await anext(samples, {}))
    finally:
        await close(samples)


async def wait(call: Call) -> Answer:
    """ContainerWait. The client starts the container when it sees our head, so the waiter stands before that leaves."""
    condition = "not-running"
    if not call.older(1, 30):
        condition = call.text("condition") or condition
        if condition not in _CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{condition}"')
    call.engine.container_get(call.name)
    waiter = asyncio.ensure_future(call.engine.container_wait(call.name, condition=condition))
    if call.older(1, 30):
        return json_answer(await waiter)
    await asyncio.sleep(0)  # an engine that refuses at once gets an HTTP status
    if waiter.done():
        waiter.result()
    return StreamResponse(200, JSON, _waited(waiter))


async def _waited(waiter: asyncio.Future[Document]) -> AsyncIterator[bytes]:
    try:
        result: dict[str, Any] = await waiter
    except asyncio.CancelledError:
        waiter.cancel()
        raise
    except Exception as error:
        result = {"StatusCode": -1, "Error": {"Message": message_of(error)}}
    yield orjson.dumps(result) + b"\n"


async def _attach(call: Call, *, everything: bool) -> AttachStream:
    """`everything`: old WebSocket clients named no streams."""
    return await call.engine.container_attach(
        call.name,
        stdin=everything or call.flag("stdin"),
        stdout=everything or call.flag("stdout"),
        stderr=everything or call.flag("stderr"),
        logs=call.flag("logs"),
        stream=call.flag("stream"),
        detach_keys=call.text("detachKeys"),
    )


async def attach(call: Call) -> Answer:
    """ContainerAttach."""
    stream = await _attach(call, everything=False)
    try:
        duplex = await hijack.open_raw(call, terminal=stream.terminal)
    except BaseException:
        await stream.close()
        raise
    await hijack.serve_raw(duplex, stream)
    return None


async def attach_websocket(call: Call) -> Answer:
    """ContainerAttachWebsocket."""
    stream = await _attach(call, everything=call.older(1, 42))
    await hijack.serve_websocket(call, stream)
    return None


async def export(call: Call) -> Answer:
    """ContainerExport."""
    return await binary(call.engine.container_export(call.name), OCTETS)


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidParameter("bad parameter: pathcannot be empty")  # dockerd's words
    return path


def _stat_header(stat: Document) -> tuple[str, str]:
    return "X-Docker-Container-Path-Stat", base64.b64encode(orjson.dumps(stat)).decode("ascii")


async def archive_info(call: Call) -> Answer:
    """ContainerArchiveInfo."""
    stat = await call.engine.container_archive_info(call.name, path=_path(call))
    return Response(200, [_stat_header(stat)])


async def archive(call: Call) -> Answer:
    """ContainerArchive."""
    stat, chunks = await call.engine.container_archive(call.name, path=_path(call))

    async def source() -> AsyncIterator[bytes]:
        return chunks

    return await binary(source(), (*TAR, _stat_header(stat)))


async def put_archive(call: Call) -> Answer:
    """PutContainerArchive."""
    await call.engine.put_container_archive(
        call.name,
        path=_path(call),
        no_overwrite_dir_non_dir=call.flag("noOverwriteDirNonDir"),
        copy_uid_gid=call.flag("copyUIDGID"),
        body=call.stream,
    )
    return Response(200)
