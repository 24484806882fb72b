"""Bad input: dockerd's own status and words, and no trace of it."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.engine import ApiError, Connection, PrivateEngine

pytestmark = pytest.mark.usefixtures("busybox")


@pytest.fixture(autouse=True)
def _no_trace(engine: PrivateEngine) -> Iterator[None]:
    """After each refusal the engine holds what it held before."""
    yield
    for container in engine.json("GET", "/containers/json?all=1"):
        engine.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for kind in ("containers", "volumes"):
        path = engine.data_root / kind
        assert not path.exists() or [n for n in os.listdir(path) if (path / n).is_dir()] == [], kind
    running = engine.exec_root / "containers"
    assert not running.exists() or not os.listdir(running)


def refusal(engine: PrivateEngine, method: str, path: str, body: Any = None) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        engine.call(method, path, body)
    return caught.value.status, caught.value.message


def create(engine: PrivateEngine, **config: Any) -> str:
    config = {"Image": "busybox", "Cmd": ["true"], **config}
    identifier: str = engine.json("POST", "/containers/create", config)["Id"]
    return identifier


def test_an_unknown_image(engine: PrivateEngine) -> None:
    assert refusal(engine, "POST", "/containers/create", {"Image": "nope", "Cmd": ["true"]}) == (
        404,
        "No such image: nope:latest",
    )


def test_a_name_that_is_taken(engine: PrivateEngine) -> None:
    first = engine.json("POST", "/containers/create?name=web", {"Image": "busybox", "Cmd": ["true"]})["Id"]
    assert refusal(engine, "POST", "/containers/create?name=web", {"Image": "busybox", "Cmd": ["true"]}) == (
        409,
        f'Conflict. The container name "/web" is already in use by container "{first}". You have to remove (or rename) '
        "that container to be able to reuse that name.",
    )


@pytest.mark.parametrize("name", ["a b", "-a", ".a", "a/b", "ü", "a"])
def test_names_that_are_none(engine: PrivateEngine, name: str) -> None:
    from urllib.parse import quote

    status, message = refusal(
        engine, "POST", f"/containers/create?name={quote(name)}", {"Image": "busybox", "Cmd": ["x"]}
    )
    assert (status, message) == (
        400,
        f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-command"], 'exec: "no-such-command": executable file not found in $PATH'),
        (["/no/such/file"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
    ],
)
def test_commands_that_cannot_be_run(engine: PrivateEngine, command: list[str], words: str) -> None:
    identifier = create(engine, Cmd=command)
    status, message = refusal(engine, "POST", f"/containers/{identifier}/start")
    assert status == 400
    assert words in message
    assert message.startswith("failed to create task for container: ")
    state = engine.json("GET", f"/containers/{identifier}/json")["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 126 if "denied" in words else 127)


@pytest.mark.parametrize(
    ("user", "words"), [("nobody-here", "unable to find user nobody-here"), ("1:no-group", "no-group")]
)
def test_users_that_do_not_exist(engine: PrivateEngine, user: str, words: str) -> None:
    identifier = create(engine, User=user)
    status, message = refusal(engine, "POST", f"/containers/{identifier}/start")
    assert status in (400, 500)
    assert words in message


@pytest.mark.parametrize(
    ("host_config", "words"),
    [
        ({"Memory": 1024}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 64 << 20, "MemorySwap": 32 << 20}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"NanoCpus": 10**15}, "range of CPUs is from 0.01 to"),
        ({"CpusetCpus": "99999"}, "99999"),
        ({"NetworkMode": "no-such-network"}, "network no-such-network not found"),
        ({"RestartPolicy": {"Name": "sometimes"}}, "invalid restart policy"),
        ({"LogConfig": {"Type": "carrier-pigeon"}}, "carrier-pigeon"),
        ({"Runtime": "no-such-runtime"}, "unknown or invalid runtime name: no-such-runtime"),
        ({"Binds": ["relative:/x:zz"]}, "invalid mode: zz"),
        ({"Binds": ["/a:relative"]}, "mount path must be absolute"),
        (
            {"Mounts": [{"Type": "bind", "Source": "/no/such/dir", "Target": "/x"}]},
            "bind source path does not exist: /no/such/dir",
        ),
        ({"CapAdd": ["FLY"]}, 'invalid CapAdd: unknown capability: "CAP_FLY"'),
        ({"PortBindings": {"80/quic": [{}]}}, "quic"),
        ({"SecurityOpt": ["nonsense"]}, "nonsense"),
    ],
)
def test_settings_that_cannot_be(engine: PrivateEngine, host_config: dict[str, Any], words: str) -> None:
    """Refused when created or, what only the kernel or the host can tell, when started."""

    def ask() -> None:
        engine.call("POST", f"/containers/{create(engine, HostConfig=host_config)}/start")

    with pytest.raises(ApiError) as caught:
        ask()
    assert caught.value.status in (400, 404, 500)
    assert words in caught.value.message


def test_a_port_in_use(engine: PrivateEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}
        identifier = create(engine, HostConfig={"PortBindings": bindings})
        status, message = refusal(engine, "POST", f"/containers/{identifier}/start")
    assert status == 500
    assert "address already in use" in message or "port is already allocated" in message
    engine.call("POST", f"/containers/{identifier}/start")  # now that it is free


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "invalid JSON: unexpected EOF"),
        (b'{"Image": "busybox"} x', "unexpected content after JSON"),
        (
            b'{"Image": 5}',
            "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Image of type string",
        ),
        (
            b'{"HostConfig": {"Memory": "much"}}',
            "invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.HostConfig.Memory of type "
            "int64",
        ),
        (b'{"Image": "busybox"}', "no command specified"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_requests(engine: PrivateEngine, body: bytes, message: str) -> None:
    connection = Connection(engine.socket)
    connection.request("POST", "/containers/create", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["message"]) == (400, message)
    connection.close()


def test_an_oversized_body(engine: PrivateEngine) -> None:
    connection = Connection(engine.socket)
    body = b'{"Image": "' + b"x" * (9 << 20) + b'"}'
    try:
        connection.request("POST", "/containers/create", body, {"Content-Type": "application/json"})
    except BrokenPipeError:
        pass  # the answer came before all was sent
    answer = connection.getresponse()
    assert answer.status == 413
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/containers/nope/json", 404, "No such container: nope"),
        ("POST", "/containers/nope/start", 404, "No such container: nope"),
        ("POST", "/containers/nope/kill", 404, "cannot kill container: nope: No such container: nope"),
        ("DELETE", "/containers/nope", 404, "No such container: nope"),
        ("GET", "/images/nope/json", 404, "No such image: nope:latest"),
        ("DELETE", "/images/nope", 404, "No such image: nope:latest"),
        ("GET", "/exec/nope/json", 404, "No such exec instance: nope"),
        ("GET", "/volumes/nope", 404, "get nope: no such volume"),
        ("GET", "/networks/nope", 404, "network nope not found"),
        ("POST", "/containers/create?name=x", 400, "invalid JSON: got EOF while reading request body"),
        ("GET", "/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
        ("GET", "/nope", 404, "page not found"),
    ],
)
def test_things_that_do_not_exist(engine: PrivateEngine, method: str, path: str, status: int, message: str) -> None:
    assert refusal(engine, method, path) == (status, message)


def test_archives_that_are_none(engine: PrivateEngine) -> None:
    data = engine.call("POST", "/images/load", b"this is no archive" * 100)
    assert b"errorDetail" in data
    images = engine.json("GET", "/images/json")
    with pytest.raises(ApiError):
        engine.call("POST", "/images/create?fromSrc=-&repo=junk", b"this is no archive" * 100)
    assert engine.json("GET", "/images/json") == images


def test_a_process_that_is_not_there(engine: PrivateEngine) -> None:
    identifier = create(engine)
    assert refusal(engine, "POST", f"/containers/{identifier}/kill")[0] == 409
    assert refusal(engine, "POST", f"/containers/{identifier}/exec", {"Cmd": ["true"]}) == (
        409,
        f"container {identifier} is not running",
    )
    assert refusal(engine, "POST", f"/containers/{identifier}/pause")[0] == 409


def test_malformed_http(engine: PrivateEngine) -> None:
    for data in (b"\r\n\r\nnonsense\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(engine.socket))
        connection.sendall(data)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status in (400, 505)
        answer.read()
        connection.close()


def test_a_full_disk(tmp_path: Path) -> None:
    """An import into a store that is full is refused and leaves nothing; the engine goes on."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("big")
        member.size = 8 << 20
        archive.addfile(member, io.BytesIO(os.urandom(member.size)))
    small = PrivateEngine(tmp_path)
    small.data_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(small.data_root)], check=True)
    try:
        small.start()
        with pytest.raises(ApiError, match=r"(?i)no space left on device"):
            small.call("POST", "/images/create?fromSrc=-&repo=big", target.getvalue())
        assert small.json("GET", "/images/json") == []
        assert small.call("GET", "/_ping") == b"OK"
    finally:
        small.close()
        subprocess.run(["umount", str(small.data_root)], check=True)
