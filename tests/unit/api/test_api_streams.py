"""Attach, exec, logs, wait and stats, over a real socket and an engine that a test drives."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import orjson
import pytest
from wsproto import ConnectionType, WSConnection, events

from support.fakeapi import Client, FakeContainer, FakeStream, items
from support.rawhttp import read_answer, read_head, request
from windlass import errors
from windlass.api.docker.hijack import MULTIPLEXED, RAW, frame

UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")


class Entry(NamedTuple):
    stream: str
    time_ns: int
    line: bytes
    attrs: dict[str, str] | None = None


@pytest.mark.parametrize(
    ("prefix", "fields", "terminal", "status", "kind"),
    [
        ("", UPGRADE, False, 101, MULTIPLEXED),
        ("", UPGRADE, True, 101, RAW),
        ("/v1.41", UPGRADE, False, 101, RAW),
        ("", (), False, 200, RAW),
    ],
)
async def test_attach_in_both_forms(
    api: Client, prefix: str, fields: tuple[str, ...], terminal: bool, status: int, kind: str
) -> None:
    stream = FakeStream([b"out1", b"out2"], terminal=terminal)
    stream.wait_for_input = True
    api.engine.answers["container_attach"] = lambda *_, **__: stream
    reader, writer = await api.open()
    target = f"{prefix}/containers/web/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a"
    writer.write(request(target, "POST", *fields) + b"first ")
    got, headers = await read_head(reader)
    assert (got, headers["content-type"]) == (status, kind)
    writer.write(b"second")
    writer.write_eof()
    assert await reader.read() == b"out1out2"
    assert stream.input == b"first second"
    assert stream.closed
    asked = api.engine.last[2]
    assert asked == {
        "stdin": True,
        "stdout": True,
        "stderr": False,
        "logs": False,
        "stream": True,
        "detach_keys": "ctrl-a",
    }


async def test_attach_to_nothing_is_an_ordinary_error(api: Client) -> None:
    api.engine.answers["container_attach"] = errors.NotFound("No such container: x")
    assert await api.json("POST", "/containers/x/attach?stream=1", None, *UPGRADE) == (
        404,
        {"message": "No such container: x"},
    )


async def test_an_attached_client_that_leaves_frees_the_stream(api: Client) -> None:
    closed = asyncio.Event()

    class Silent(FakeStream):
        async def read(self) -> bytes:
            await asyncio.Event().wait()
            return b""

        async def close(self) -> None:
            closed.set()

    api.engine.answers["container_attach"] = lambda *_, **__: Silent([])
    reader, writer = await api.open()
    writer.write(request("/containers/web/attach?stream=1&stdout=1", "POST", *UPGRADE))
    await read_head(reader)
    writer.close()
    await asyncio.wait_for(closed.wait(), 5)


async def test_attach_over_a_websocket_carries_bare_output(api: Client) -> None:
    stream = FakeStream([frame(1, b"out") + frame(2, b"err")[:5], frame(2, b"err")[5:]])
    stream.wait_for_input = True
    api.engine.answers["container_attach"] = lambda *_, **__: stream
    reader, writer = await api.open()
    ws = WSConnection(ConnectionType.CLIENT)
    writer.write(
        ws.send(events.Request(host="x", target="/containers/web/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"))
    )
    received = b""
    writer_done = False
    while True:
        data = await asyncio.wait_for(reader.read(65536), 5)
        ws.receive_data(data or None)
        for event in ws.events():
            if isinstance(event, events.AcceptConnection):
                writer.write(ws.send(events.BytesMessage(b"typed")))
                await asyncio.sleep(0.01)
                stream.input_ended.set()
            elif isinstance(event, events.BytesMessage):
                received += event.data
            elif isinstance(event, events.CloseConnection):
                writer_done = True
        if writer_done or not data:
            break
    assert received == b"outerr"
    assert stream.input == b"typed"
    assert api.engine.last[2]["stderr"] is True


async def test_exec_hijacks_with_its_body_read(api: Client) -> None:
    stream = FakeStream([b"out"])
    stream.wait_for_input = True
    api.engine.answers["exec_inspect"] = {}
    api.engine.answers["exec_start"] = lambda *_, **__: stream
    reader, writer = await api.open()
    body = b'{"Detach":false,"Tty":false}'
    fields = (*UPGRADE, "Content-Type: application/json")
    writer.write(request("/exec/e/start", "POST", *fields, body=body) + b"typed")
    writer.write_eof()
    assert (await read_head(reader))[0] == 101
    assert await reader.read() == b"out"
    assert stream.input == b"typed"


async def test_exec_detached_answers_200(api: Client) -> None:
    api.engine.answers["exec_inspect"] = {}
    api.engine.answers["exec_start"] = None
    assert (await api("POST", "/exec/e/start", {"Detach": True})).status == 200
    assert api.engine.last[2] == {"detach": True, "tty": False, "console_size": None}
    await api("POST", "/exec/e/start", {"Detach": True, "Tty": True, "ConsoleSize": [24, 80]})
    assert api.engine.last[2]["console_size"] == (24, 80)


async def test_an_exec_that_cannot_start_says_so_on_its_stream(api: Client) -> None:
    api.engine.answers["exec_inspect"] = {}
    api.engine.answers["exec_start"] = errors.InvalidParameter("OCI runtime exec failed: no such file")
    reader, writer = await api.open()
    writer.write(request("/exec/e/start", "POST", *UPGRADE, "Content-Type: application/json", body=b"{}"))
    assert (await read_head(reader))[0] == 101
    assert await reader.read() == frame(1, b"OCI runtime exec failed: no such file\r\n")
    api.engine.answers["exec_inspect"] = errors.NotFound("No such exec instance: e")
    assert (await api.json("POST", "/exec/e/start", {}))[0] == 404


async def test_exec_needs_a_command(api: Client) -> None:
    assert await api.json("POST", "/containers/web/exec", {}) == (400, {"message": "No exec command specified"})


@pytest.mark.parametrize(
    ("prefix", "terminal", "kind", "body"),
    [
        ("", False, MULTIPLEXED, frame(1, b"one\n") + frame(2, b"two\n")),
        ("/v1.41", False, RAW, frame(1, b"one\n") + frame(2, b"two\n")),
        ("", True, RAW, b"one\ntwo\n"),
    ],
)
async def test_logs_are_framed_unless_there_is_a_terminal(
    api: Client, prefix: str, terminal: bool, kind: str, body: bytes
) -> None:
    api.engine.containers["web"] = FakeContainer("web", terminal=terminal)
    api.engine.answers["container_logs"] = lambda *_, **__: items(
        [Entry("stdout", 1, b"one\n"), Entry("stderr", 2, b"two\n")]
    )
    query = "?stdout=1&stderr=1&follow=0&tail=7&since=1.25&until=2"
    answer = await api("GET", f"{prefix}/containers/web/logs{query}")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, body)
    assert api.engine.last[2] == {
        "follow": False,
        "stdout": True,
        "stderr": True,
        "since": 1_250_000_000,
        "until": 2_000_000_000,
        "tail": 7,
        "details": False,
    }


async def test_logs_with_timestamps_and_details(api: Client) -> None:
    entry = Entry("stdout", 1_700_000_000_000_000_001, b"one\n", {"b": "2 3", "a": "1"})
    api.engine.answers["container_logs"] = lambda *_, **__: items([entry])
    answer = await api("GET", "/containers/web/logs?stdout=1&timestamps=1&details=1&tail=all")
    assert answer.body == frame(1, b"2023-11-14T22:13:20.000000001Z a=1,b=2+3 one\n")
    assert api.engine.last[2]["tail"] == -1


async def test_a_failure_in_the_middle_of_logs_is_a_frame_of_its_own(api: Client) -> None:
    broken = errors.SystemFailure("the log is damaged")
    api.engine.answers["container_logs"] = lambda *_, **__: items([Entry("stdout", 1, b"one\n")], broken)
    answer = await api("GET", "/containers/web/logs?stdout=1")
    assert answer.body == frame(1, b"one\n") + frame(3, b"Error grabbing logs: the log is damaged\n")


async def test_logs_need_a_stream_and_a_container(api: Client) -> None:
    assert await api.json("GET", "/containers/web/logs") == (
        400,
        {"message": "Bad parameters: you must choose at least one stream"},
    )
    assert (await api.json("GET", "/containers/nope/logs?stdout=1"))[0] == 404
    assert (await api.json("GET", "/containers/web/logs?stdout=1&since=yesterday"))[0] == 400


async def test_wait_sends_its_head_before_the_container_ends(api: Client) -> None:
    ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def container_wait(*_: Any, **__: Any) -> dict[str, Any]:
        return await ended

    api.engine.answers["container_wait"] = container_wait
    reader, writer = await api.open()
    writer.write(request("/containers/web/wait?condition=next-exit", "POST"))
    status, headers = await read_head(reader)
    assert (status, headers["content-type"]) == (200, "application/json")
    ended.set_result({"StatusCode": 3})
    assert b'{"StatusCode":3}\n' in await reader.readuntil(b"0\r\n\r\n")
    assert api.engine.last == ("container_wait", ("web",), {"condition": "next-exit"})


async def test_wait_refuses_what_it_cannot_wait_for(api: Client) -> None:
    assert await api.json("POST", "/containers/web/wait?condition=fun") == (
        400,
        {"message": 'invalid condition: "fun"'},
    )
    assert await api.json("POST", "/containers/nope/wait") == (404, {"message": "No such container: nope"})


async def test_wait_before_1_30_answers_only_at_the_end(api: Client) -> None:
    api.engine.answers["container_wait"] = {"StatusCode": 0}
    answer = await api("POST", "/v1.29/containers/web/wait?condition=fun")
    assert (answer.status, orjson.loads(answer.body)) == (200, {"StatusCode": 0})
    assert "content-length" in answer.headers


async def test_a_wait_that_nobody_waits_for_is_given_up(api: Client) -> None:
    given_up = asyncio.Event()

    async def container_wait(*_: Any, **__: Any) -> dict[str, Any]:
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            given_up.set()
            raise

    api.engine.answers["container_wait"] = container_wait
    reader, writer = await api.open()
    writer.write(request("/containers/web/wait", "POST"))
    await read_head(reader)
    writer.close()
    await asyncio.wait_for(given_up.wait(), 5)


async def test_stats_once_or_as_a_stream(api: Client) -> None:
    api.engine.answers["container_stats"] = lambda *_, **__: items({"n": 1}, {"n": 2})
    once = await api("GET", "/containers/web/stats?stream=0&one-shot=1")
    assert orjson.loads(once.body) == {"n": 1}
    assert api.engine.last[2] == {"stream": False, "one_shot": True}
    assert (await api("GET", "/containers/web/stats")).body == b'{"n":1}\n{"n":2}\n'


async def test_a_stream_ends_when_its_client_does(api: Client) -> None:
    ended = asyncio.Event()

    async def forever() -> Any:
        try:
            yield {"n": 1}
            await asyncio.Event().wait()
        finally:
            ended.set()

    api.engine.answers["system_events"] = lambda **_: forever()
    reader, writer = await api.open()
    writer.write(request("/events"))
    await read_head(reader)
    await reader.readuntil(b"\n")
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)


async def test_events_send_their_head_at_once(api: Client) -> None:
    async def silent() -> Any:
        await asyncio.Event().wait()
        yield {}

    api.engine.answers["system_events"] = lambda **_: silent()
    reader, writer = await api.open()
    writer.write(request("/events"))
    assert (await asyncio.wait_for(read_head(reader), 5))[0] == 200


async def test_upload_into_a_container(api: Client) -> None:
    taken: list[bytes] = []

    async def put(*_: Any, **asked: Any) -> None:
        async for piece in asked["body"]:
            taken.append(piece)

    api.engine.answers["put_container_archive"] = put
    reader, writer = await api.open()
    target = "/containers/web/archive?path=/tmp&noOverwriteDirNonDir=true&copyUIDGID=1"
    chunked = b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    writer.write(request(target, "PUT", "Transfer-Encoding: chunked", "Content-Type: application/x-tar", body=chunked))
    assert (await read_answer(reader)).status == 200
    assert b"".join(taken) == b"abcdef"
    asked = api.engine.last[2]
    assert (asked["path"], asked["no_overwrite_dir_non_dir"], asked["copy_uid_gid"]) == ("/tmp", True, True)
