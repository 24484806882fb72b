"""A container's way through its states, seen through the API: transitions, ends, waits, restarts, removal, health."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from support.dockercli import Docker
from support.engine import ApiError, PrivateEngine
from support.lives import IMAGE, Document, Lives, ended

pytestmark = pytest.mark.usefixtures("busybox")


# -- states


def test_states_and_their_times(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.create("sh", "-c", "exit 3")
    state = lives.inspect(container)["State"]
    assert (state["Status"], state["Running"], state["Pid"]) == ("created", False, 0)
    assert state["StartedAt"] == state["FinishedAt"] == "0001-01-01T00:00:00Z"
    engine.call("POST", f"/containers/{container}/start")
    assert engine.json("POST", f"/containers/{container}/wait") == {"StatusCode": 3}
    state = lives.inspect(container)["State"]
    assert (state["Status"], state["ExitCode"], state["Error"], state["OOMKilled"]) == ("exited", 3, "", False)
    assert lives.inspect(container)["Created"] < state["StartedAt"] < state["FinishedAt"]


def test_what_a_running_container_refuses(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sleep", "60")
    assert engine.call("POST", f"/containers/{container}/start") == b""  # 304
    with pytest.raises(ApiError, match="is not paused"):
        engine.call("POST", f"/containers/{container}/unpause")
    engine.call("POST", f"/containers/{container}/pause")
    for action in ("pause", "exec", "attach?stream=1&stdout=1"):
        with pytest.raises(ApiError, match="paused") as refusal:
            engine.call("POST", f"/containers/{container}/{action}", {"Cmd": ["true"]})
        assert refusal.value.status == 409
    assert lives.inspect(container)["State"]["Status"] == "paused"


@pytest.mark.parametrize(
    ("action", "status", "words"),
    [
        ("pause", 409, "is not running"),
        ("kill", 409, "is not running"),
        ("exec", 409, "is not running"),
        ("resize?h=1&w=1", 409, "is not running"),
    ],
)
def test_what_a_stopped_container_refuses(
    engine: PrivateEngine, lives: Lives, action: str, status: int, words: str
) -> None:
    container = lives.create("true")
    with pytest.raises(ApiError, match=words) as refusal:
        engine.call("POST", f"/containers/{container}/{action}", {"Cmd": ["true"]} if action == "exec" else None)
    assert refusal.value.status == status


def test_a_stop_asks_first_and_kills_then(engine: PrivateEngine, lives: Lives) -> None:
    polite = lives.run("sh", "-c", "trap 'echo asked; exit 9' TERM; while :; do sleep 0.05; done")
    deaf = lives.run(
        "sleep", "600"
    )  # the first process of its namespace: without a handler the signal is not delivered
    time.sleep(0.3)
    begun = time.monotonic()
    engine.call("POST", f"/containers/{polite}/stop?t=10")
    assert time.monotonic() - begun < 5
    engine.call("POST", f"/containers/{deaf}/stop?t=1")
    assert (lives.inspect(polite)["State"]["ExitCode"], lives.logs(polite)) == (9, "asked\n")
    assert lives.inspect(deaf)["State"]["ExitCode"] == 137


def test_stop_uses_the_signal_and_the_patience_of_the_container(engine: PrivateEngine, lives: Lives) -> None:
    script = "trap 'exit 11' USR1; while :; do sleep 0.05; done"
    container = lives.run("sh", "-c", script, body={"StopSignal": "SIGUSR1", "StopTimeout": 20})
    time.sleep(0.3)
    engine.call("POST", f"/containers/{container}/stop")
    assert lives.inspect(container)["State"]["ExitCode"] == 11


def test_kill_with_any_signal(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run(
        "sh", "-c", "trap 'echo hup' HUP; trap 'exit 4' INT; echo ready; while :; do sleep 0.05; done"
    )
    deadline = time.monotonic() + 10
    while "ready" not in lives.logs(container):
        assert time.monotonic() < deadline
    engine.call("POST", f"/containers/{container}/kill?signal=HUP")
    while "hup" not in lives.logs(container):
        assert time.monotonic() < deadline
    assert lives.inspect(container)["State"]["Running"]
    engine.call("POST", f"/containers/{container}/kill?signal=2")
    assert lives.until(container, ended)["ExitCode"] == 4
    with pytest.raises(ApiError, match="invalid signal"):
        engine.call("POST", f"/containers/{container}/kill?signal=NONE")


def test_restart_gives_a_new_process_and_keeps_the_files(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sh", "-c", "echo x >> /runs; wc -l < /runs; sleep 600")
    lives.until_said(container, "1\n")
    before = lives.inspect(container)["State"]
    engine.call("POST", f"/containers/{container}/restart?t=0")
    after = lives.inspect(container)["State"]
    assert after["Running"] and after["Pid"] != before["Pid"] and after["StartedAt"] > before["StartedAt"]
    lives.until_said(container, "1\n2\n")
    assert lives.inspect(container)["RestartCount"] == 0


def test_a_failed_start_leaves_a_created_container(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.create("/no/such/program")
    with pytest.raises(ApiError) as failure:
        engine.call("POST", f"/containers/{container}/start")
    assert failure.value.status == 400
    assert failure.value.message == (
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create "
        'failed: unable to start container process: exec: "/no/such/program": stat /no/such/program: no such file or '
        "directory: unknown"
    )
    state = lives.inspect(container)["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 127, failure.value.message)
    assert engine.json("POST", f"/containers/{container}/wait?condition=not-running")["StatusCode"] == 127


# -- waiting


def waiting(engine: PrivateEngine, container: str, condition: str) -> Callable[[], Document]:
    """Begin to wait; the result is a function that gives the answer."""
    answers: list[Document] = []

    def wait() -> None:
        answers.append(engine.json("POST", f"/containers/{container}/wait?condition={condition}"))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)

    def answer() -> Document:
        thread.join(15)
        return answers[0]

    return answer


def test_waits_for_each_condition(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.create("sh", "-c", "sleep 0.3; exit 5")
    exit_ = waiting(engine, container, "next-exit")
    removed = waiting(engine, container, "removed")
    assert engine.json("POST", f"/containers/{container}/wait?condition=not-running") == {"StatusCode": 0}
    engine.call("POST", f"/containers/{container}/start")
    assert engine.json("POST", f"/containers/{container}/wait") == {"StatusCode": 5}
    assert exit_() == {"StatusCode": 5}
    engine.call("DELETE", f"/containers/{container}")
    assert removed() == {"StatusCode": 5}
    with pytest.raises(ApiError, match="invalid condition"):
        engine.json("POST", f"/containers/{lives.create('true')}/wait?condition=bored")


# -- removal


def test_removal_needs_an_end_or_force(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sleep", "60", name="busy")
    with pytest.raises(ApiError, match=r'cannot remove container "busy": container is running') as refusal:
        engine.call("DELETE", "/containers/busy")
    assert refusal.value.status == 409
    engine.call("DELETE", f"/containers/{container[:12]}?force=1")
    with pytest.raises(ApiError, match=f"No such container: {container}"):
        lives.inspect(container)


def test_auto_removal_takes_anonymous_volumes_along(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.create("true", AutoRemove=True, Binds=["kept:/kept"], body={"Volumes": {"/gone": {}}})
    assert len(engine.json("GET", "/volumes")["Volumes"]) == 2
    removed = waiting(engine, container, "removed")
    engine.call("POST", f"/containers/{container}/start")
    assert removed() == {"StatusCode": 0}
    assert [volume["Name"] for volume in engine.json("GET", "/volumes")["Volumes"]] == ["kept"]


def test_prune_takes_the_ended_ones(engine: PrivateEngine, lives: Lives) -> None:
    running, done, labelled = (
        lives.run("sleep", "60"),
        lives.run("true"),
        lives.create("true", body={"Labels": {"keep": "1"}}),
    )
    lives.until(done, ended)
    filters = json.dumps({"label!": ["keep"]}).replace('"', "%22").replace(" ", "")
    assert engine.json("POST", f"/containers/prune?filters={filters}")["ContainersDeleted"] == [done]
    assert engine.json("POST", "/containers/prune")["ContainersDeleted"] == [labelled]
    assert [each["Id"] for each in engine.json("GET", "/containers/json?all=1")] == [running]


# -- restart policies


def test_on_failure_gives_up_after_its_tries(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sh", "-c", "exit 2", RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 2})
    lives.until(container, lambda state: ended(state) and not state["Restarting"])
    deadline = time.monotonic() + 10
    while lives.inspect(container)["RestartCount"] < 2:
        assert time.monotonic() < deadline
    lives.until(container, ended)
    time.sleep(0.5)
    assert lives.inspect(container)["RestartCount"] == 2


def test_on_failure_leaves_a_success_alone(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("true", RestartPolicy={"Name": "on-failure"})
    lives.until(container, ended)
    time.sleep(0.3)
    assert lives.inspect(container)["RestartCount"] == 0


def test_always_waits_longer_each_time_and_ends_with_a_stop(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.run("sh", "-c", "date +%s%N", RestartPolicy={"Name": "always"})
    time.sleep(2.5)
    count = lives.inspect(container)["RestartCount"]
    assert 2 <= count <= 5  # after 0.1, 0.2, 0.4, 0.8 seconds and the time that starting takes
    engine.call("POST", f"/containers/{container}/stop")
    state = lives.inspect(container)["State"]
    assert (state["Status"], state["Restarting"]) == ("exited", False)
    count = lives.inspect(container)["RestartCount"]
    time.sleep(2)
    assert lives.inspect(container)["RestartCount"] == count
    engine.call("POST", f"/containers/{container}/start")
    lives.until(container, lambda state: state["Restarting"] or state["Running"])


def test_policies_after_the_engine_was_away(engine: PrivateEngine, lives: Lives) -> None:
    always = lives.run("sleep", "600", RestartPolicy={"Name": "always"})
    stopped = lives.run("sleep", "600", RestartPolicy={"Name": "unless-stopped"})
    forced = lives.run("sleep", "600", RestartPolicy={"Name": "always"})
    plain = lives.run("sh", "-c", "sleep 0.5; exit 6")
    for container in (stopped, forced):
        engine.call("POST", f"/containers/{container}/stop?t=0")
    engine.kill()
    time.sleep(1)
    engine.start()
    assert lives.inspect(plain)["State"]["ExitCode"] == 6
    assert lives.inspect(always)["State"]["Running"]
    lives.until(forced, lambda state: bool(state["Running"]))
    assert lives.inspect(stopped)["State"]["Status"] == "exited"


# -- health


def test_health_by_its_steps(engine: PrivateEngine, lives: Lives) -> None:
    check = {"Test": ["CMD-SHELL", "echo looked; test -e /well"], "Interval": 10**8, "Timeout": 10**9, "Retries": 2}
    container = lives.run("sleep", "60", body={"Healthcheck": check})
    assert lives.inspect(container)["State"]["Health"]["Status"] == "starting"
    state = lives.until(container, lambda state: state["Health"]["Status"] == "unhealthy")
    assert state["Health"]["FailingStreak"] >= 2
    assert state["Health"]["Log"][-1]["ExitCode"] == 1 and state["Health"]["Log"][-1]["Output"] == "looked\n"
    made = engine.json("POST", f"/containers/{container}/exec", {"Cmd": ["touch", "/well"]})
    engine.call("POST", f"/exec/{made['Id']}/start", {"Detach": True})
    state = lives.until(container, lambda state: state["Health"]["Status"] == "healthy")
    assert state["Health"]["FailingStreak"] == 0
    lives.until(container, lambda state: len(state["Health"]["Log"]) == 5)
    [listed] = engine.json("GET", '/containers/json?filters={"health":["healthy"]}'.replace('"', "%22"))
    assert listed["Status"].endswith("(healthy)")


def test_a_probe_that_takes_too_long_fails(engine: PrivateEngine, lives: Lives) -> None:
    check = {"Test": ["CMD", "sleep", "30"], "Interval": 10**8, "Timeout": 2 * 10**8, "Retries": 1}
    container = lives.run("sleep", "60", body={"Healthcheck": check})
    state = lives.until(container, lambda state: state["Health"]["Status"] == "unhealthy")
    assert state["Health"]["Log"][-1]["ExitCode"] == -1
    assert "exceeded timeout" in state["Health"]["Log"][-1]["Output"]


# -- names


def test_names_and_identifiers(engine: PrivateEngine, lives: Lives) -> None:
    container = lives.create("true", name="first")
    for reference in ("first", container, container[:12], container[:4]):
        assert lives.inspect(reference)["Id"] == container
    with pytest.raises(ApiError, match=r'The container name "/first" is already in use by container') as refusal:
        lives.create("true", name="first")
    assert refusal.value.status == 409
    engine.call("POST", "/containers/first/rename?name=second")
    assert lives.inspect("second")["Name"] == "/second"
    lives.create("true", name="first")
    assert "_" in lives.inspect(lives.create("true"))["Name"]


def test_many_at_once(engine: PrivateEngine, lives: Lives) -> None:
    """Lives side by side: nothing is lost, nothing is mixed up."""
    codes: dict[int, int] = {}

    def live(number: int) -> None:
        container = lives.create("sh", "-c", f"exit {number}", NetworkMode="bridge" if number % 4 == 0 else "none")
        engine.call("POST", f"/containers/{container}/start")
        codes[number] = engine.json("POST", f"/containers/{container}/wait")["StatusCode"]
        engine.call("DELETE", f"/containers/{container}")

    threads = [threading.Thread(target=live, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {number: number for number in range(60)}
    assert engine.json("GET", "/containers/json?all=1") == []


def test_who_hangs_up_leaves_nothing_half_done(engine: PrivateEngine, docker: Docker) -> None:
    """Clients that go away in the middle of creations and starts."""
    import socket

    body = json.dumps(
        {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", "AutoRemove": True}}
    ).encode()
    head = b"POST /containers/create?name=gone%d HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for number in range(20):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(engine.socket))
            connection.sendall(head % number + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            if number % 2:
                connection.recv(100)
                connection.sendall(
                    b"POST /containers/gone%d/start HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % number
                )
    time.sleep(1)
    left = {each["Names"][0]: each["State"] for each in engine.json("GET", "/containers/json?all=1")}
    assert set(left.values()) <= {"created"}
    for name in left:
        engine.call("DELETE", f"/containers{name}")
    assert docker("ps", "-aq").stdout == ""
