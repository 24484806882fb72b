"""Whatever is killed, nothing is lost: containers, logs and exit codes survive the daemon and the launcher."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.__main__ import busybox_root

from support.engine import ApiError, PrivateEngine

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

IMAGE = "survivor:latest"
CRASHES = (OSError, http.client.HTTPException)


@pytest.fixture
def engine() -> Iterator[PrivateEngine]:
    root = Path(tempfile.mkdtemp(prefix="windlass-survival-"))
    engine = PrivateEngine(root)
    try:
        engine.start()
        engine.call("POST", "/images/create?fromSrc=-&repo=survivor&tag=latest", busybox_root())
        yield engine
        engine.close()
    finally:
        if engine.process and engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait()
        shutil.rmtree(root, ignore_errors=True)


def log_of(engine: PrivateEngine, container: str) -> list[str]:
    """Lines of the container's standard output, out of the multiplexed stream."""
    data = engine.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1")
    text, offset = bytearray(), 0
    while offset < len(data):
        stream, length = struct.unpack_from(">BxxxI", data, offset)
        assert stream in {1, 2}
        text += data[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return text.decode().splitlines()


def counting(lines: int, code: int) -> dict[str, object]:
    script = f"i=0; while [ $i -lt {lines} ]; do echo $i; i=$((i+1)); usleep 2000; done; exit {code}"
    return {"Image": IMAGE, "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}}


def launcher_of(engine: PrivateEngine) -> int:
    assert engine.process
    children = Path(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children").read_text().split()
    assert len(children) == 1, "the daemon has one child, the launcher"
    return int(children[0])


def test_a_running_container_outlives_the_daemon(engine: PrivateEngine) -> None:
    container = engine.json("POST", "/containers/create", counting(300, 7))["Id"]
    engine.call("POST", f"/containers/{container}/start")
    engine.kill()
    time.sleep(0.1)
    engine.start()
    assert engine.json("POST", f"/containers/{container}/wait")["StatusCode"] == 7
    assert log_of(engine, container) == [str(number) for number in range(300)]


def test_an_exit_without_a_daemon_is_known_to_the_next(engine: PrivateEngine) -> None:
    container = engine.json("POST", "/containers/create", counting(20, 3))["Id"]
    engine.call("POST", f"/containers/{container}/start")
    pid = engine.json("GET", f"/containers/{container}/json")["State"]["Pid"]
    engine.kill()
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)
    engine.start()
    state = engine.json("GET", f"/containers/{container}/json")["State"]
    assert (state["Status"], state["ExitCode"], state["Running"]) == ("exited", 3, False)
    assert log_of(engine, container) == [str(number) for number in range(20)]


def test_a_stopped_daemon_leaves_containers_running(engine: PrivateEngine) -> None:
    container = engine.json("POST", "/containers/create", counting(2000, 0))["Id"]
    engine.call("POST", f"/containers/{container}/start")
    before = engine.json("GET", f"/containers/{container}/json")["State"]
    engine.stop()
    engine.start()
    after = engine.json("GET", f"/containers/{container}/json")["State"]
    assert after["Pid"] == before["Pid"]
    assert after["StartedAt"] == before["StartedAt"]


def test_containers_go_on_when_the_launcher_is_killed(engine: PrivateEngine) -> None:
    first = engine.json("POST", "/containers/create", counting(200, 5))["Id"]
    engine.call("POST", f"/containers/{first}/start")
    os.kill(launcher_of(engine), signal.SIGKILL)
    second = engine.json("POST", "/containers/create", counting(5, 6))["Id"]
    engine.call("POST", f"/containers/{second}/start")
    assert engine.json("POST", f"/containers/{second}/wait")["StatusCode"] == 6
    assert engine.json("POST", f"/containers/{first}/wait")["StatusCode"] == 5
    assert log_of(engine, first) == [str(number) for number in range(200)]


def test_restart_policy_applies_after_a_crash(engine: PrivateEngine) -> None:
    body = counting(5, 1)
    body["HostConfig"] = {"NetworkMode": "none", "RestartPolicy": {"Name": "always"}}
    container = engine.json("POST", "/containers/create", body)["Id"]
    engine.call("POST", f"/containers/{container}/start")
    engine.kill()
    time.sleep(0.2)
    engine.start()
    deadline = time.monotonic() + 10
    while engine.json("GET", f"/containers/{container}/json")["RestartCount"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Workers:
    """Threads that take containers through their life and keep book, while the daemon dies under them."""

    def __init__(self, engine: PrivateEngine, numbers: Iterator[int]) -> None:
        self.engine = engine
        self.numbers = numbers
        self.lock = threading.Lock()
        self.broken: list[str] = []

    def insist(self, method: str, path: str, body: object = None, *, accept: tuple[int, ...] = ()) -> bytes | None:
        """Ask until an engine answers; an answer in `accept` counts as done by an earlier, unheard request."""
        for _ in range(2000):
            try:
                return self.engine.call(method, path, body)
            except CRASHES:
                time.sleep(0.01)
            except ApiError as error:
                if error.status in accept:
                    return None
                raise
        raise AssertionError(f"{method} {path}: no engine answers")

    def life(self, number: int) -> None:
        name, code, lines = f"life-{number}", number % 100 + 1, 20 + number % 30
        self.insist("POST", f"/containers/create?name={name}", counting(lines, code), accept=(409,))
        # A start whose answer was lost may have happened, and may have ended: only what was never started is started.
        while (state := self.state(name))["Status"] != "exited":
            assert state["Status"] in {"running", "created"}, state
            if state["Status"] == "created":
                with contextlib.suppress(*CRASHES):
                    self.engine.call("POST", f"/containers/{name}/start")
            time.sleep(0.02)
        if state["ExitCode"] != code:
            self.broken.append(f"{name}: exit code {state['ExitCode']}, not {code}")
        while True:
            try:
                seen = log_of(self.engine, name)
                break
            except CRASHES:
                time.sleep(0.01)
        if seen != [str(value) for value in range(lines)]:
            self.broken.append(f"{name}: log has {len(seen)} lines of {lines}: {seen[:5]}…")
        self.insist("DELETE", f"/containers/{name}", accept=(404,))

    def state(self, name: str) -> dict[str, object]:
        answer = self.insist("GET", f"/containers/{name}/json")
        assert answer is not None
        state: dict[str, object] = json.loads(answer)["State"]
        return state

    def work(self) -> None:
        while True:
            with self.lock:
                number = next(self.numbers, None)
            if number is None:
                return
            try:
                self.life(number)
            except Exception as error:
                self.broken.append(f"life-{number}: {type(error).__name__} {error}")


def test_a_hundred_lives_under_fifty_kills(engine: PrivateEngine) -> None:
    random.seed(20)
    workers = Workers(engine, iter(range(100)))
    threads = [threading.Thread(target=workers.work) for _ in range(8)]
    for thread in threads:
        thread.start()
    kills = 0
    while any(thread.is_alive() for thread in threads):
        time.sleep(random.uniform(0.0, 0.25))
        if kills < 50:
            engine.kill()
            kills += 1
            engine.start()
    for thread in threads:
        thread.join()
    while kills < 50:
        engine.kill()
        kills += 1
        engine.start()
    assert workers.broken == []
    assert engine.json("GET", "/containers/json?all=1") == []
    assert list((engine.data_root / "containers").iterdir()) == []
    assert list((engine.exec_root / "containers").iterdir()) == []
    assert list((engine.exec_root / "netns").iterdir()) == []
