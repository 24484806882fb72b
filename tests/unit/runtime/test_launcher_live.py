"""Containers through launcher and monitor, with our own runtime and with others'."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_bundles import Bundle

from windlass.kernel.cgroups import open_cgroup
from windlass.logs.frames import frame
from windlass.runtime.client import (
    Attachment,
    ExecSpec,
    Launcher,
    LaunchError,
    Monitor,
    NoMonitor,
    read_exit,
)

pytestmark = pytest.mark.root

NewBundle = Callable[..., Bundle]


async def read_all(connection: socket.socket) -> bytes:
    connection.setblocking(False)
    data = b""
    while chunk := await asyncio.get_running_loop().sock_recv(connection, 65536):
        data += chunk
    connection.close()
    return data


async def read_until(connection: socket.socket, needle: bytes) -> bytes:
    data = b""
    while needle not in data:
        chunk = await asyncio.get_running_loop().sock_recv(connection, 65536)
        assert chunk, f"the stream ended: {data!r}"
        data += chunk
    return data


def stream_pair(**wants: bool) -> tuple[socket.socket, Attachment]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, Attachment(theirs, **wants)


def payload(data: bytes, kind: int = 1) -> bytes:
    """The text of one stream of a multiplexed connection."""
    text = b""
    while data:
        size = int.from_bytes(data[4:8], "big")
        if data[0] == kind:
            text += data[8 : 8 + size]
        data = data[8 + size :]
    return text


def exec_spec(identifier: str, *args: str, **options: Any) -> ExecSpec:
    process = {
        "args": list(args),
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "terminal": bool(options.get("terminal")),
    }
    return ExecSpec(identifier, process, **options)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_output_exit_code_and_what_is_left(
    launcher: Launcher, new_bundle: NewBundle, runtime: str | None
) -> None:
    bundle = new_bundle(runtime)
    directory = bundle.write(["sh", "-c", "echo out; echo err >&2; exit 3"])
    monitor = await launcher.launch(directory)
    assert monitor.pid > 0
    status = await monitor.wait()
    assert (status.exit_code, status.oom_killed, status.error) == (3, False, "")
    assert status.exited_at_ns >= monitor.started_at_ns
    assert sorted(bundle.logged()) == [("stderr", "err\n"), ("stdout", "out\n")]
    assert read_exit(directory) == status
    assert not open_cgroup(bundle.cgroup).exists()
    assert not (directory / "monitor.sock").exists()


async def test_an_attachment_of_the_launch_sees_the_first_byte(
    launcher: Launcher, new_bundle: NewBundle, runtime: str | None
) -> None:
    ours, attachment = stream_pair(stdin=False)
    monitor = await launcher.launch(new_bundle(runtime).write(["sh", "-c", "echo one; echo two >&2"]), attachment)
    attachment.connection.close()
    seen = await read_all(ours)
    await monitor.wait()
    assert payload(seen, 1) == b"one\n"
    assert payload(seen, 2) == b"two\n"


async def test_stdin_ends_with_the_first_attacher(
    launcher: Launcher, new_bundle: NewBundle, runtime: str | None
) -> None:
    ours, attachment = stream_pair()
    bundle = new_bundle(runtime)
    monitor = await launcher.launch(bundle.write(["cat"], openStdin=True, stdinOnce=True), attachment)
    attachment.connection.close()
    ours.send(b"through the pipe\n")
    ours.shutdown(socket.SHUT_WR)
    assert await read_all(ours) == frame("stdout", b"through the pipe\n")
    assert (await monitor.wait()).exit_code == 0
    assert bundle.logged() == [("stdout", "through the pipe\n")]


async def test_a_container_without_stdin_reads_nothing(
    launcher: Launcher, new_bundle: NewBundle, runtime: str | None
) -> None:
    bundle = new_bundle(runtime)
    monitor = await launcher.launch(bundle.write(["sh", "-c", "cat; echo done"]))
    await monitor.wait()
    assert bundle.logged() == [("stdout", "done\n")]


async def test_a_terminal_is_raw_has_a_size_and_can_be_resized(
    launcher: Launcher, new_bundle: NewBundle, runtime: str | None
) -> None:
    ours, attachment = stream_pair()
    script = "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    bundle = new_bundle(runtime)
    directory = bundle.write(["sh", "-c", script], terminal=True, consoleSize=[33, 99], openStdin=True)
    monitor = await launcher.launch(directory, attachment)
    attachment.connection.close()
    assert b"33 99\r\n" in await read_until(ours, b"ready\r\n")
    await monitor.resize(44, 111)
    await read_until(ours, b"44 111\r\n")
    assert (await monitor.wait()).exit_code == 0
    ours.close()


@pytest.mark.parametrize(
    ("args", "number"), [(["no-such-program"], errno.ENOENT), (["/etc/passwd"], errno.EACCES), (["/etc"], errno.EACCES)]
)
async def test_what_cannot_be_executed_is_an_error_and_leaves_nothing(
    launcher: Launcher, new_bundle: NewBundle, runtime: str | None, args: list[str], number: int
) -> None:
    if runtime == "crun" and args == ["/etc"]:
        pytest.skip("crun reports a directory only in the container")
    bundle = new_bundle(runtime)
    directory = bundle.write(args)
    with pytest.raises(LaunchError) as error:
        await launcher.launch(directory)
    assert error.value.errno == number, error.value.message
    assert read_exit(directory) is None
    assert not open_cgroup(bundle.cgroup).exists()
    assert not (directory / "monitor.sock").exists()


async def test_signals_and_their_exit_codes(launcher: Launcher, new_bundle: NewBundle, runtime: str | None) -> None:
    ours, attachment = stream_pair()
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    monitor = await launcher.launch(new_bundle(runtime).write(["sh", "-c", script]), attachment)
    attachment.connection.close()
    await read_until(ours, b"ready")  # before its trap is set, the first process of a namespace ignores the signal
    await monitor.signal(signal.SIGTERM)
    assert (await monitor.wait()).exit_code == 7
    ours.close()
    monitor = await launcher.launch(new_bundle(runtime).write(["sleep", "1000"]))
    await monitor.signal(signal.SIGKILL)
    assert (await monitor.wait()).exit_code == 137
    with pytest.raises(LaunchError):
        await monitor.signal(signal.SIGKILL)


async def test_exec_with_streams_and_exit_codes(launcher: Launcher, new_bundle: NewBundle, runtime: str | None) -> None:
    monitor = await launcher.launch(new_bundle(runtime).write(["sleep", "1000"]))
    session = await monitor.exec(
        exec_spec("a", "sh", "-c", "cat; echo err >&2; exit 5", attach_stdin=True), attach=True
    )
    assert session.connection is not None
    assert is_running(session.pid)
    session.connection.send(b"input")
    session.connection.shutdown(socket.SHUT_WR)
    seen = await read_all(session.connection)
    assert (payload(seen, 1), payload(seen, 2)) == (b"input", b"err\n")
    assert await session.wait() == 5
    detached = await monitor.exec(exec_spec("b", "sh", "-c", "echo nobody; touch /tmp/was-here; exit 6"), attach=False)
    assert await detached.wait() == 6
    quiet = await monitor.exec(exec_spec("c", "sh", "-c", "cat; kill -9 $$"), attach=True)
    assert quiet.connection is not None
    assert await read_all(quiet.connection) == b""
    assert await quiet.wait() == 137
    with pytest.raises(LaunchError) as error:
        await monitor.exec(exec_spec("d", "no-such-program"), attach=True)
    assert error.value.errno == errno.ENOENT
    assert monitor.running_execs == []
    await monitor.signal(signal.SIGKILL)
    await monitor.wait()


async def test_exec_with_a_terminal(launcher: Launcher, new_bundle: NewBundle, runtime: str | None) -> None:
    monitor = await launcher.launch(new_bundle(runtime).write(["sleep", "1000"]))
    # Some runtimes set the size only after the process has begun.
    wait = 'while test "$(stty size 2>/dev/null)" != "$1"; do sleep 0.01; done; echo size $1'
    script = f"tty; size() {{ {wait}; }}; size '20 50'; size '30 60'; read x; echo got $x"
    spec = exec_spec("t", "sh", "-c", script, terminal=True, console_size=(20, 50), attach_stdin=True)
    session = await monitor.exec(spec, attach=True)
    assert session.connection is not None
    assert (await read_until(session.connection, b"size 20 50\r\n")).startswith(b"/dev/")
    await monitor.resize(30, 60, exec_id="t")
    await read_until(session.connection, b"size 30 60\r\n")
    session.connection.send(b"hello\n")
    await read_until(session.connection, b"got hello")
    assert await session.wait() == 0
    session.connection.close()
    await monitor.signal(signal.SIGKILL)
    await monitor.wait()


async def test_execs_end_with_their_container(launcher: Launcher, new_bundle: NewBundle, runtime: str | None) -> None:
    monitor = await launcher.launch(new_bundle(runtime).write(["sleep", "1000"]))
    session = await monitor.exec(exec_spec("x", "sleep", "1000"), attach=False)
    await monitor.signal(signal.SIGKILL)
    assert await session.wait() == 137
    assert (await monitor.wait()).exit_code == 137
    with pytest.raises(LaunchError):
        await monitor.exec(exec_spec("y", "true"), attach=False)


async def test_a_new_daemon_finds_the_container_again(
    launcher: Launcher, new_bundle: NewBundle, runtime: str | None
) -> None:
    bundle = new_bundle(runtime)
    first = await launcher.launch(
        bundle.write(["sh", "-c", "while read line; do echo $line; done; exit 9"], openStdin=True)
    )
    running = await first.exec(exec_spec("still", "sleep", "1000"), attach=False)
    await first.close()
    second = await Monitor.connect(bundle.directory)
    assert (second.pid, second.started_at_ns) == (first.pid, first.started_at_ns)
    assert second.running_execs == ["still"]
    stream = await second.attach(stdin=True)
    await asyncio.get_running_loop().sock_sendall(stream, b"hello again\n")
    await read_until(stream, frame("stdout", b"hello again\n"))
    await second.signal(signal.SIGKILL, exec_id="still")
    assert await second.wait_exec("still") == 137
    await second.signal(signal.SIGKILL)
    assert (await second.wait()).exit_code == 137
    stream.close()
    with pytest.raises(NoMonitor):
        await Monitor.connect(bundle.directory)
    assert running.pid > 0


async def test_containers_outlive_the_launcher(launcher: Launcher, new_bundle: NewBundle) -> None:
    bundle = new_bundle("crun")
    monitor = await launcher.launch(bundle.write(["sh", "-c", "sleep 0.3; echo still here; exit 4"]))
    old = launcher.pid
    os.kill(old, signal.SIGKILL)
    other = await launcher.launch(new_bundle("crun").write(["true"]))
    assert launcher.pid != old
    assert (await other.wait()).exit_code == 0
    assert (await monitor.wait()).exit_code == 4
    assert bundle.logged() == [("stdout", "still here\n")]


async def test_a_killed_monitor_takes_its_container_along_and_that_is_recorded(
    launcher: Launcher, new_bundle: NewBundle, runtime: str | None
) -> None:
    bundle = new_bundle(runtime)
    monitor = await launcher.launch(bundle.write(["sleep", "1000"]))
    kill_monitor(bundle)
    status = await monitor.wait()
    assert status.exit_code == 137
    assert "monitor died" in status.error
    assert read_exit(bundle.directory) == status
    assert not is_running(monitor.pid)
    assert not open_cgroup(bundle.cgroup).exists()


async def test_a_monitor_that_died_with_the_daemon_is_settled_by_the_next(
    launcher: Launcher, new_bundle: NewBundle
) -> None:
    bundle = new_bundle("crun")
    monitor = await launcher.launch(bundle.write(["sleep", "1000"]))
    await monitor.close()
    kill_monitor(bundle)
    with pytest.raises(NoMonitor):
        await Monitor.connect(bundle.directory)
    status = read_exit(bundle.directory)
    assert status is not None
    assert status.exit_code == 137
    assert not is_running(monitor.pid)


async def test_a_launch_nobody_waits_for_does_not_begin(launcher: Launcher, new_bundle: NewBundle) -> None:
    bundle = new_bundle()
    directory = bundle.write(["true"])
    ours, theirs = socket.socketpair()
    ours.close()
    await launcher._send(f'{{"directory": "{directory}", "attach": []}}'.encode(), [theirs])
    theirs.close()
    with pytest.raises(NoMonitor):
        await Monitor.connect(directory)
    assert read_exit(directory) is None


async def test_a_second_launch_of_a_running_container_is_refused(launcher: Launcher, new_bundle: NewBundle) -> None:
    bundle = new_bundle("crun")
    directory = bundle.write(["sleep", "1000"])
    monitor = await launcher.launch(directory)
    with pytest.raises(LaunchError, match="has a monitor already"):
        await launcher.launch(directory)
    await monitor.signal(signal.SIGKILL)
    assert (await monitor.wait()).exit_code == 137
    again = await launcher.launch(bundle.write(["true"]))
    assert (await again.wait()).exit_code == 0


async def test_bad_documents_are_errors(launcher: Launcher, new_bundle: NewBundle) -> None:
    bundle = new_bundle()
    with pytest.raises(LaunchError, match=r"launch\.json"):
        await launcher.launch(bundle.directory)
    (bundle.write(["true"]) / "config.json").write_text("{")
    with pytest.raises(LaunchError) as error:
        await launcher.launch(bundle.directory)
    assert error.value.stage == "config"
    directory = bundle.write(["true"], log={"driver": "fluffy"})
    with pytest.raises(LaunchError, match="no log driver named 'fluffy'"):
        await launcher.launch(directory)


async def test_events_end_with_the_exit(launcher: Launcher, new_bundle: NewBundle) -> None:
    monitor = await launcher.launch(new_bundle("crun").write(["sleep", "1000"]))
    seen: list[dict[str, Any]] = []

    async def listen() -> None:
        async for event in monitor.events():
            seen.append(event)

    listening = asyncio.create_task(listen())
    session = await monitor.exec(exec_spec("e", "true"), attach=False)
    await session.wait()
    await monitor.signal(signal.SIGKILL)
    await listening
    assert [event["event"] for event in seen] == ["exec-exit", "exit"]
    assert seen[0]["id"] == "e"


async def test_a_reader_who_stops_reading_stops_the_container_only_while_he_is_there(
    launcher: Launcher, new_bundle: NewBundle
) -> None:
    ours, attachment = stream_pair(stdin=False)
    bundle = new_bundle("crun")
    directory = bundle.write(["sh", "-c", "yes | head -c 8000000; echo end"], log={"driver": "none"})
    monitor = await launcher.launch(directory, attachment)
    attachment.connection.close()
    ended = asyncio.create_task(monitor.wait())
    await asyncio.wait([ended], timeout=0.5)
    assert not ended.done()  # it waits for us
    seen = await read_all(ours)
    assert payload(seen).endswith(b"y\nend\n")
    assert len(payload(seen)) == 8_000_004
    assert (await ended).exit_code == 0


async def test_many_at_once(launcher: Launcher, new_bundle: NewBundle) -> None:
    async def one(number: int) -> tuple[int, list[tuple[str, str]]]:
        bundle = new_bundle("crun")
        monitor = await launcher.launch(bundle.write(["sh", "-c", f"echo {number}; exit {number}"]))
        return (await monitor.wait()).exit_code, bundle.logged()

    results = await asyncio.gather(*(one(number) for number in range(12)))
    assert results == [(number, [("stdout", f"{number}\n")]) for number in range(12)]


def kill_monitor(bundle: Bundle) -> None:
    import json

    os.kill(json.loads((bundle.directory / "state.json").read_text())["monitorPid"], signal.SIGKILL)
