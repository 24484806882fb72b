"""What comes out of a container while it runs, and what goes in: attach, exec, logs, events, top, stats."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.engine import ApiError, Connection, PrivateEngine
from support.lives import IMAGE, Document, Lives, ended, frames

pytestmark = pytest.mark.usefixtures("busybox")


class Upgraded:
    """A connection that a request took over: raw bytes both ways."""

    def __init__(self, engine: PrivateEngine, path: str, body: Document | None = None) -> None:
        data = json.dumps(body).encode() if body is not None else b""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(15)
        self.sock.connect(str(engine.socket))
        self.sock.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.sock.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        self.multiplexed = b"multiplexed-stream" in answer

    def read_all(self) -> bytes:
        """Everything until the other side has ended."""
        data = b""
        while piece := self.sock.recv(65536):
            data += piece
        return data

    def read_until(self, text: bytes) -> bytes:
        data = b""
        while text not in data:
            piece = self.sock.recv(65536)
            assert piece, data
            data += piece
        return data

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def upgraded(engine: PrivateEngine) -> Iterator[Any]:
    """`upgraded(path, body)`."""
    with contextlib.ExitStack() as stack:

        def connect(path: str, body: Document | None = None) -> Upgraded:
            made = Upgraded(engine, path, body)
            stack.callback(made.close)
            return made

        yield connect


ALL = "stream=1&stdin=1&stdout=1&stderr=1"


# -- attach


def test_attached_before_the_start_nothing_is_missed(engine: PrivateEngine, lives: Lives, upgraded: Any) -> None:
    container = lives.create("sh", "-c", "echo out; echo err >&2")
    clients = [
        upgraded(f"/containers/{container}/attach?stream=1&{which}=1") for which in ("stdout", "stderr", "stdin")
    ]
    engine.call("POST", f"/containers/{container}/start")
    assert clients[0].multiplexed
    assert clients[0].read_all() == b"\x01\0\0\0\0\0\0\x04out\n"
    assert clients[1].read_all() == b"\x02\0\0\0\0\0\0\x04err\n"
    assert clients[2].read_all() == b""


def test_input_ends_with_its_client(engine: PrivateEngine, lives: Lives, upgraded: Any) -> None:
    container = lives.create("cat", body={"OpenStdin": True, "StdinOnce": True})
    client = upgraded(f"/containers/{container}/attach?{ALL}")
    engine.call("POST", f"/containers/{container}/start")
    client.sock.sendall(b"through\n")
    assert frames(client.read_until(b"through\n")) == "through\n"
    client.sock.shutdown(socket.SHUT_WR)
    assert client.read_all() == b""
    assert lives.until(container, ended)["ExitCode"] == 0


def test_input_may_come_from_several(engine: PrivateEngine, lives: Lives, upgraded: Any) -> None:
    container = lives.run("cat", body={"OpenStdin": True})
    first = upgraded(f"/containers/{container}/attach?{ALL}")
    first.sock.sendall(b"one\n")
    first.read_until(b"one\n")
    first.close()
    second = upgraded(f"/containers/{container}/attach?{ALL}&logs=1")
    assert frames(second.read_until(b"one\n")) == "one\n"
    second.sock.sendall(b"two\n")
    assert frames(second.read_until(b"two\n")) == "two\n"
    assert lives.logs(container) == "one\ntwo\n"


def test_a_terminal_and_its_detach_keys(engine: PrivateEngine, lives: Lives, upgraded: Any) -> None:
    container = lives.create("sh", body={"Tty": True, "OpenStdin": True})
    client = upgraded(f"/containers/{container}/attach?{ALL}&detachKeys=ctrl-a,x")
    assert not client.multiplexed
    engine.call("POST", f"/containers/{container}/start")
    engine.call("POST", f"/containers/{container}/resize?h=7&w=33")
    client.sock.sendall(b"stty size; tty\n")
    client.read_until(b"7 33\r\n/dev/pts/0\r\n")
    client.sock.sendall(b"echo a\x01")
    client.sock.sendall(b"x")
    client.read_all()
    assert lives.inspect(container)["State"]["Running"]


def test_a_client_that_does_not_read_delays_nobody(engine: PrivateEngine, lives: Lives, upgraded: Any) -> None:
    container = lives.create("sh", "-c", "dd if=/dev/zero bs=1M count=30 2>/dev/null; echo end >&2")
    upgraded(f"/containers/{container}/attach?stream=1&stdout=1")  # and never read
    reader = upgraded(f"/containers/{container}/attach?stream=1&stderr=1")
    engine.call("POST", f"/containers/{container}/start")
    assert frames(reader.read_all()) == "end\n"
    assert engine.json("POST", f"/containers/{container}/wait")["StatusCode"] == 0


def test_attach_survives_a_restart_of_the_container(engine: PrivateEngine, lives: Lives, upgraded: Any) -> None:
    container = lives.run("sh", "-c", "echo begun; sleep 600")
    lives.until_said(container, "begun")
    client = upgraded(f"/containers/{container}/attach?stream=1&stdout=1&logs=1")
    assert frames(client.read_until(b"begun\n")) == "begun\n"
    engine.call("POST", f"/containers/{container}/restart?t=0")
    # As with dockerd the stream ends with the process.
    client.read_all()


# -- exec


def execute(engine: PrivateEngine, container: str, *command: str, **options: Any) -> tuple[Document, str]:
    """Execute and look at the end of it."""
    body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True} | options
    made = engine.json("POST", f"/containers/{container}/exec", body)["Id"]
    said = frames(engine.call("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False}))
    return engine.json("GET", f"/exec/{made}/json"), said


def test_exec_is_told_apart(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sleep", "600", body={"Env": ["A=1"], "WorkingDir": "/tmp"})
    found, said = execute(engine, container, "sh", "-c", "echo $A $B $PWD; id -u; exit 42", Env=["B=2"], User="7")
    assert (found["ExitCode"], found["Running"], said) == (42, False, "1 2 /tmp\n7\n")
    assert found["ProcessConfig"]["entrypoint"] == "sh" and found["ContainerID"] == container
    assert execute(engine, container, "pwd", WorkingDir="/root")[1] == "/root\n"
    for command, code in (("no-such-program", 127), ("/etc/passwd", 126)):
        made = engine.json("POST", f"/containers/{container}/exec", {"Cmd": [command], "AttachStdout": True})["Id"]
        with contextlib.suppress(ApiError):
            engine.call("POST", f"/exec/{made}/start", {})
        assert engine.json("GET", f"/exec/{made}/json")["ExitCode"] == code
    made = engine.json("POST", f"/containers/{container}/exec", {"Cmd": ["true"]})["Id"]
    engine.call("POST", f"/exec/{made}/start", {"Detach": True})
    with pytest.raises(ApiError, match=r"has already run|is already"):
        engine.call("POST", f"/exec/{made}/start", {"Detach": True})


def test_exec_with_a_terminal_and_input(engine: PrivateEngine, lives: Lives, upgraded: Any) -> None:
    container = lives.run("sleep", "600")
    body = {"Cmd": ["sh"], "AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": True}
    made = engine.json("POST", f"/containers/{container}/exec", body | {"ConsoleSize": [11, 22]})["Id"]
    client = upgraded(f"/exec/{made}/start", {"Detach": False, "Tty": True, "ConsoleSize": [11, 22]})
    client.sock.sendall(b"stty size\n")
    client.read_until(b"11 22\r\n")
    engine.call("POST", f"/exec/{made}/resize?h=5&w=50")
    client.sock.sendall(b"stty size\n")
    client.read_until(b"5 50\r\n")
    client.sock.sendall(b"exit 3\n")
    client.read_all()
    assert engine.json("GET", f"/exec/{made}/json")["ExitCode"] == 3


def test_execs_end_with_the_container(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sleep", "600")
    ends: list[Document] = []
    thread = threading.Thread(target=lambda: ends.append(execute(engine, container, "sleep", "600")[0]))
    thread.start()
    deadline = time.monotonic() + 10
    while not lives.inspect(container)["ExecIDs"]:
        assert time.monotonic() < deadline
    time.sleep(0.2)
    engine.call("POST", f"/containers/{container}/kill")
    thread.join(15)
    assert [(end["Running"], end["ExitCode"]) for end in ends] == [(False, 137)]


def test_an_exec_goes_on_without_the_engine(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sleep", "600")
    made = engine.json("POST", f"/containers/{container}/exec", {"Cmd": ["sh", "-c", "sleep 1; touch /done"]})["Id"]
    engine.call("POST", f"/exec/{made}/start", {"Detach": True})
    engine.kill()
    engine.start()
    deadline = time.monotonic() + 10
    while "done" not in lives.execute(container, "ls /"):
        assert time.monotonic() < deadline
    assert lives.inspect(container)["State"]["Running"]


# -- logs


def test_logs_by_their_options(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; echo bad >&2")
    lives.until(container, ended)
    get = f"/containers/{container}/logs?stdout=1"
    # Lines are counted before streams are told apart.
    assert frames(engine.call("GET", f"{get}&tail=3")) == "4\n5\n"
    stamped = frames(engine.call("GET", f"{get}&timestamps=1")).splitlines()
    third = stamped[2].split()[0]
    seconds = time.mktime(time.strptime(third[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert frames(engine.call("GET", f"{get}&since={int(seconds)}.{third[20:29]}")) == "3\n4\n5\n"
    assert frames(engine.call("GET", f"/containers/{container}/logs?stderr=1")) == "bad\n"
    with pytest.raises(ApiError, match="choose at least one stream"):
        engine.call("GET", f"/containers/{container}/logs")


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_followed_logs_end_with_the_container(engine: PrivateEngine, lives: Lives, driver: str) -> None:
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"
    container = lives.run("sh", "-c", script, LogConfig={"Type": driver})
    assert frames(engine.call("GET", f"/containers/{container}/logs?stdout=1&follow=1")) == "1\n2\n3\n4\n5\n"


def test_logs_rotate_and_a_driver_without_logs_says_so(engine: PrivateEngine, lives: Lives) -> None:
    config = {"Type": "json-file", "Config": {"max-size": "10k", "max-file": "2"}}
    container = lives.run("sh", "-c", "for i in $(seq 1000); do echo line $i; done", LogConfig=config)
    lives.until(container, ended)
    lines = lives.logs(container).splitlines()
    assert lines[-1] == "line 1000" and 0 < len(lines) < 1000
    silent = lives.run("echo", "lost", LogConfig={"Type": "none"})
    with pytest.raises(ApiError, match="configured logging driver does not support reading"):
        engine.call("GET", f"/containers/{silent}/logs?stdout=1")


# -- events


def test_events_of_a_life(engine: PrivateEngine, lives: Lives) -> None:
    begun = time.time() - 0.001
    container = lives.run("true", name="observed", body={"Labels": {"x": "y"}})
    lives.until(container, ended)
    engine.call("DELETE", f"/containers/{container}")
    path = f"/events?since={begun:.6f}&until={time.time():.6f}"
    events = [json.loads(line) for line in engine.call("GET", path).splitlines()]
    mine = [event for event in events if event["Type"] == "container"]
    assert [event["Action"] for event in mine] == ["create", "start", "die", "destroy"]
    assert mine[2]["Actor"] == {
        "ID": container,
        "Attributes": {"image": IMAGE, "name": "observed", "x": "y", "exitCode": "0", "execDuration": "0"},
    }
    filters = json.dumps({"event": ["die"], "label": ["x=y"]}, separators=(",", ":")).replace('"', "%22")
    found = engine.call("GET", f"{path}&filters={filters.replace('{', '%7B').replace('}', '%7D')}").splitlines()
    assert [json.loads(line)["Action"] for line in found] == ["die"]


# -- top and stats


def test_top_and_its_columns(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sh", "-c", "sleep 600 & sleep 600")
    lives.execute(container, "while [ $(pidof sleep | wc -w) -lt 2 ]; do :; done")
    listed = engine.json("GET", f"/containers/{container}/top")
    assert "PID" in listed["Titles"] and len(listed["Processes"]) == 2
    listed = engine.json("GET", f"/containers/{container}/top?ps_args=-o%20pid,comm")
    assert listed["Titles"] == ["PID", "COMMAND"]
    assert sorted(process[1] for process in listed["Processes"]) == ["sleep", "sleep"]


def test_stats_come_each_second_to_all_who_look(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sh", "-c", "while :; do :; done", NetworkMode="bridge")
    samples: list[list[Document]] = [[], []]

    def look(into: list[Document]) -> None:
        connection = Connection(engine.socket)
        connection.request("GET", f"/containers/{container}/stats")
        answer = connection.getresponse()
        for _ in range(3):
            into.append(json.loads(answer.readline()))
        connection.close()

    threads = [threading.Thread(target=look, args=(into,)) for into in samples]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for into in samples:
        first, last = into[1]["cpu_stats"], into[2]["cpu_stats"]
        used = last["cpu_usage"]["total_usage"] - first["cpu_usage"]["total_usage"]
        assert used > 10**8
        assert into[2]["precpu_stats"]["cpu_usage"] == first["cpu_usage"]
        assert into[2]["networks"]["eth0"]["rx_bytes"] >= 0 and into[2]["memory_stats"]["usage"] > 0
    once = engine.json("GET", f"/containers/{container}/stats?stream=0")
    assert once["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert engine.json("GET", f"/containers/{container}/stats?stream=0&one-shot=1")["pids_stats"]["current"] == 1


# -- the engine as a process


def test_the_engine_stops_while_everybody_listens(engine: PrivateEngine, lives: Lives, upgraded: Any) -> None:
    container = lives.run("sh", "-c", "while :; do echo x; sleep 0.1; done")
    client = upgraded(f"/containers/{container}/attach?stream=1&stdout=1")
    threads = [
        threading.Thread(target=_quiet, args=(engine, path))
        for path in (f"/containers/{container}/logs?stdout=1&follow=1", f"/containers/{container}/stats", "/events")
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert engine.process
    begun = time.monotonic()
    os.kill(engine.process.pid, signal.SIGTERM)
    assert engine.process.wait(20) == 0
    assert time.monotonic() - begun < 10
    for thread in threads:
        thread.join(10)
    with contextlib.suppress(OSError):
        client.read_all()
    engine.start()
    assert lives.inspect(container)["State"]["Running"]
    assert "Traceback" not in Path(engine.log).read_text()


def _quiet(engine: PrivateEngine, path: str) -> None:
    with contextlib.suppress(Exception):
        engine.call("GET", path)
