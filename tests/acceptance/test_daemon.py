"""The daemon itself: sockets, configuration, signals, neighbours."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.__main__ import busybox_root

from support import certificates, leaks
from support.engine import PrivateEngine
from support.remains import left_of

WINDLASS = str(Path(sys.executable).parent / "windlass")
Start = Callable[..., PrivateEngine]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start daemons with flags; each is gone without trace at the end."""
    before = leaks.look()
    engines: list[PrivateEngine] = []

    def make(*flags: str) -> PrivateEngine:
        engine = PrivateEngine(Path(tempfile.mkdtemp(prefix="wl-")), *flags)
        engines.append(engine)
        engine.start()
        return engine

    yield make
    left: list[str] = []
    for engine in engines:
        engine.close()
        left += left_of(engine, before)
        shutil.rmtree(engine.root, ignore_errors=True)
    assert not left


def refused(*flags: str) -> str:
    """What a daemon that does not start says."""
    run = subprocess.run([WINDLASS, "daemon", *flags], capture_output=True, text=True, check=False, timeout=30)
    assert run.returncode == 1, run.stdout + run.stderr
    return run.stderr


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_it_starts_answers_and_stops_without_trace(start: Start) -> None:
    engine = start()
    assert stat.S_IMODE(engine.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(engine.data_root.stat().st_mode) == 0o710
    assert engine.process is not None
    assert int((engine.exec_root / "windlass.pid").read_text()) == engine.process.pid
    assert engine.json("GET", "/version")["ApiVersion"] == "1.51"
    engine.stop()
    assert engine.process.returncode == 0
    assert not engine.socket.exists()
    assert not (engine.exec_root / "windlass.pid").exists()


def test_a_second_daemon_on_the_same_roots_is_refused(start: Start) -> None:
    engine = start()
    assert engine.process is not None
    message = refused(
        f"--data-root={engine.data_root}", f"--exec-root={engine.exec_root}", f"--host=unix://{engine.root}/b.sock"
    )
    assert f"in use by another daemon (process {engine.process.pid})" in message
    other = engine.root / "other"
    message = refused(f"--data-root={other}/data", f"--exec-root={other}/run", f"--host=unix://{engine.socket}")
    assert "address already in use" in message
    assert engine.call("GET", "/_ping") == b"OK"


def test_daemons_with_different_roots_live_side_by_side(start: Start) -> None:
    first, second = start(), start()
    assert first.json("GET", "/info")["ID"] != second.json("GET", "/info")["ID"]
    bridges = [engine.json("GET", "/networks/bridge") for engine in (first, second)]
    assert bridges[0]["IPAM"]["Config"][0]["Subnet"] != bridges[1]["IPAM"]["Config"][0]["Subnet"]
    first.stop()
    assert second.call("GET", "/_ping") == b"OK"


def test_it_survives_its_own_death(start: Start) -> None:
    engine = start()
    identity = engine.json("GET", "/info")["ID"]
    engine.kill()
    assert engine.socket.exists()
    engine.start()
    assert engine.json("GET", "/info")["ID"] == identity


def test_sighup_takes_over_a_changed_file(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "daemon.json"
    config.write_text(json.dumps({"labels": ["a=1"], "registry-mirrors": ["https://one.example"]}))
    engine = start(f"--config-file={config}")
    assert engine.process is not None
    assert engine.json("GET", "/info")["Labels"] == ["a=1"]
    since = time.time() - 1
    config.write_text(json.dumps({"labels": ["a=2"], "debug": True}))
    engine.process.send_signal(signal.SIGHUP)
    wait_for(lambda: engine.json("GET", "/info")["Labels"] == ["a=2"])
    assert engine.json("GET", "/info")["Debug"] is True
    events = engine.call("GET", f"/events?since={since}&until={time.time() + 0.2}").splitlines()
    assert [json.loads(event)["Action"] for event in events if b"daemon" in event] == ["reload"]
    config.write_text("{ broken")
    engine.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "Error reloading" in engine.log.read_text())
    assert engine.json("GET", "/info")["Labels"] == ["a=2"]


def test_plain_tcp_needs_loopback_and_a_loud_flag(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    engine = start(f"--host=tcp://127.0.0.1:{port}", "--tls=false")
    run = subprocess.run(
        ["docker", "-H", f"tcp://127.0.0.1:{port}", "version", "--format", "{{.Server.APIVersion}}"],
        env=engine.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "1.51", run.stderr


def test_tls_lets_in_only_who_has_a_certificate(start: Start, tmp_path: Path) -> None:
    certificates.make(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    engine = start(
        f"--host=tcp://127.0.0.1:{port}",
        "--tlsverify",
        f"--tlscacert={tmp_path}/ca.pem",
        f"--tlscert={tmp_path}/server-cert.pem",
        f"--tlskey={tmp_path}/server-key.pem",
    )
    command = ["docker", "-H", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", f"{tmp_path}/ca.pem"]
    wanted = ["version", "--format", "{{.Server.APIVersion}}"]
    mine = ["--tlscert", f"{tmp_path}/cert.pem", "--tlskey", f"{tmp_path}/key.pem"]
    known = subprocess.run(
        [*command, *mine, *wanted],
        env=engine.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert known.stdout.strip() == "1.51", known.stderr
    engine.call("POST", "/images/create?fromSrc=-&repo=busybox&tag=latest", busybox_root())
    script = "cat; sleep 0.1; echo after the end of input"
    cat = subprocess.run(
        [*command, *mine, "run", "-i", "--rm", "busybox", "sh", "-c", script],
        env=engine.environment,
        input="x" * 1_000_000,
        capture_output=True,
        text=True,
        check=False,
    )
    assert cat.stdout == "x" * 1_000_000 + "after the end of input\n", cat.stderr
    (tmp_path / "empty").mkdir()
    environment = engine.environment | {"DOCKER_CERT_PATH": str(tmp_path / "empty")}
    unknown = subprocess.run([*command, *wanted], env=environment, capture_output=True, text=True, check=False)
    assert unknown.returncode != 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--nope",), "unknown flag: --nope"),
        (("-H", "tcp://0.0.0.0:1"), "needs --tlsverify"),
        (("-H", "fd://"), "socket activation"),
        (("--storage-driver=zfs-of-mine",), "zfs-of-mine"),
        (("--bip=300.1.2.3/24",), "300.1.2.3/24"),
        (("--userns-remap=no-such-user",), "no-such-user"),
        (("--default-runtime=nope",), "unknown or invalid runtime name: nope"),
        (("--log-driver=pigeon",), "no log driver named 'pigeon' is registered"),
        (("--log-opt=colour=red",), "unknown log opt 'colour' for json-file log driver"),
        (("--seccomp-profile=/no/such/profile",), "opening seccomp profile (/no/such/profile) failed"),
        (("--insecure-registry=a b",), "a b"),
        (("--default-ulimit=luck=1",), "invalid ulimit type: luck"),
        (("--storage-opt=overlay2.size=1G",), "unknown storage option"),
        (("--init-path=/no/such/init",), "is no executable file"),
        (("--cgroup-parent=../up",), "../up"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    before = leaks.look()
    roots = (f"--data-root={tmp_path}/data", f"--exec-root={tmp_path}/run")
    assert message in refused(*roots, *flags)
    assert not [line for line in leaks.look().minus(before) if str(tmp_path) in line]


def test_validate_checks_without_starting(tmp_path: Path) -> None:
    config = tmp_path / "daemon.json"
    config.write_text('{"mtu": 9000}')
    run = subprocess.run(
        [WINDLASS, "daemon", "--validate", f"--config-file={config}"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "configuration OK\n")


def test_the_service_manager_hands_over_a_socket_and_is_told(tmp_path: Path) -> None:
    """As systemd would: descriptor 3 listens, LISTEN_FDS and NOTIFY_SOCKET stand in the environment."""
    root = Path(tempfile.mkdtemp(prefix="wl-"))
    before = leaks.look()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        listener.bind(str(root / "activated.sock"))
        listener.listen()
        manager.bind(str(root / "notify"))
        manager.settimeout(30)
        script = (
            "import os, sys\n"
            "fd = int(sys.argv[1])\n"
            "os.dup2(fd, 3)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
            "os.execv(sys.argv[2], sys.argv[2:])\n"
        )
        command = [WINDLASS, "daemon", f"--data-root={root}/data", f"--exec-root={root}/run", "-H", "fd://"]
        with (root / "log").open("w") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-c", script, str(listener.fileno()), *command],
                pass_fds=[listener.fileno()],
                env=os.environ | {"NOTIFY_SOCKET": str(root / "notify")},
                stdout=log,
                stderr=log,
            )
        try:
            ready = manager.recv(1000).decode()
            assert ready.splitlines() == ["READY=1", f"MAINPID={daemon.pid}"]
            engine = PrivateEngine(root)
            engine.exec_root = root / "run"
            engine.socket = root / "activated.sock"
            assert engine.call("GET", "/_ping") == b"OK"
            daemon.send_signal(signal.SIGTERM)
            assert manager.recv(1000) == b"STOPPING=1"
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
            daemon.wait()
        assert not left_of(engine, before)
    shutil.rmtree(root)


def test_idle_connections_are_cheap(start: Start) -> None:
    """A thousand clients that keep their connection: each costs the daemon some kilobytes, and none is refused."""
    engine = start()
    assert engine.process is not None

    def memory() -> int:
        text = Path(f"/proc/{engine.process.pid}/smaps_rollup").read_text()  # type: ignore[union-attr]
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))

    before = memory()
    clients = []
    for _ in range(1000):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(engine.socket))
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        clients.append(client)
    for client in clients:
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    per_client = (memory() - before) / len(clients)
    for client in clients:
        client.close()
    assert per_client < 16, f"{per_client:.1f} KB for each idle connection"
