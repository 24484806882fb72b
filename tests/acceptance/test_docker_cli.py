"""The unmodified docker command line, from `run` to `rm`, against a daemon of our own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from support.dockercli import Docker
from support.engine import PrivateEngine

pytestmark = pytest.mark.usefixtures("busybox")
IMAGE = "busybox"


class Terminal:
    """A docker command on a terminal of its own."""

    def __init__(self, engine: PrivateEngine, *arguments: str, size: tuple[int, int] = (24, 80)) -> None:
        self.master, slave = pty.openpty()
        self.resize(*size)
        self.process = subprocess.Popen(
            ["docker", *arguments],
            env=engine.environment | {"TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def expect(self, text: bytes, seconds: float = 15) -> None:
        """Read until `text` has been seen behind what was expected before."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"no {text!r} in {self.seen!r}"
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            assert data, f"ended before {text!r}: {self.seen!r}"
            self.seen += data
        self.seen = self.seen.partition(text)[2]

    def wait(self) -> int:
        with contextlib.suppress(OSError):
            while os.read(self.master, 65536):
                pass
        return self.process.wait(15)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(engine: PrivateEngine) -> Iterator[Any]:
    """`terminal("run", "-it", …)`."""
    opened: list[Terminal] = []

    def start(*arguments: str, **options: Any) -> Terminal:
        opened.append(Terminal(engine, *arguments, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture(autouse=True)
def _clean(engine: PrivateEngine) -> Iterator[None]:
    yield
    for container in engine.json("GET", "/containers/json?all=1"):
        engine.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")


def inspect(docker: Docker, name: str) -> Any:
    return json.loads(docker("inspect", name).stdout)[0]


# -- run


def test_output_and_exit_code(docker: Docker) -> None:
    assert docker("run", "--rm", IMAGE, "echo", "hello").stdout == "hello\n"
    both = docker("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (both.returncode, both.stdout, both.stderr) == (7, "out\n", "err\n")
    assert docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("no-such-command",), 127, "executable file not found in $PATH"),
        (("/etc/passwd",), 126, "permission denied"),
        (("/etc",), 126, ""),
        # The kernel lets the first process of a PID namespace ignore its own signals; its children are like others.
        (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137, ""),
        (("sh", "-c", "sh -c 'kill -15 $$'; exit $?"), 143, ""),
    ],
)
def test_exit_codes_of_ends_that_are_no_exits(docker: Docker, command: tuple[str, ...], code: int, words: str) -> None:
    run = docker("run", "--rm", IMAGE, *command, check=False)
    assert run.returncode == code, run.stderr
    assert words in run.stderr


def test_input_ends_and_output_goes_on(docker: Docker) -> None:
    script = "cat; sleep 0.1; echo after"
    assert (
        docker("run", "--rm", "-i", IMAGE, "sh", "-c", script, input="x\n" * 50_000).stdout
        == "x\n" * 50_000 + "after\n"
    )
    assert docker("run", "--rm", "-i", IMAGE, "wc", "-c", input="").stdout.strip() == "0"


def test_a_lot_of_output_arrives_whole(docker: Docker) -> None:
    run = docker("run", "--rm", IMAGE, "sh", "-c", "yes 0123456789 | head -n 300000")
    assert len(run.stdout) == 11 * 300_000


def test_a_terminal_with_resize(terminal: Any) -> None:
    shell = terminal("run", "-it", "--rm", IMAGE, "sh", size=(31, 97))
    shell.expect(b"# ")
    shell.type(b"stty size; tty\r")
    shell.expect(b"31 97")
    shell.expect(b"/dev/pts/0")
    shell.resize(40, 100)
    os.kill(shell.process.pid, signal.SIGWINCH)
    shell.type(b"sleep 0.3; stty size\r")
    shell.expect(b"40 100")
    shell.type(b"exit 5\r")
    assert shell.wait() == 5


def test_control_c_reaches_the_container(terminal: Any) -> None:
    shell = terminal(
        "run", "-it", "--rm", IMAGE, "sh", "-c", "trap 'echo got it; exit 3' INT; echo ready; sleep 30 & wait"
    )
    shell.expect(b"ready")
    shell.type(b"\x03")
    shell.expect(b"got it")
    assert shell.wait() == 3


def test_detach_keys_leave_the_container_running(docker: Docker, terminal: Any) -> None:
    shell = terminal("run", "-it", "--name", "left", IMAGE, "sh")
    shell.expect(b"# ")
    shell.type(b"\x10\x11")
    assert shell.wait() == 0
    assert inspect(docker, "left")["State"]["Running"]
    again = terminal("attach", "--detach-keys", "ctrl-x", "left")
    again.type(b"echo still$((1+1))here\r")
    again.expect(b"still2here")
    again.type(b"\x18")
    assert again.wait() in (0, 1)
    assert inspect(docker, "left")["State"]["Running"]


def test_signals_are_proxied(engine: PrivateEngine, docker: Docker) -> None:
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    run = subprocess.Popen(
        ["docker", "run", "--rm", "--name", "proxied", IMAGE, "sh", "-c", script],
        env=engine.environment,
        stdout=subprocess.PIPE,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"ready\n"
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 9
    run.stdout.close()


def test_several_attached_see_the_same(engine: PrivateEngine, docker: Docker) -> None:
    docker("create", "-i", "--name", "shared", IMAGE, "cat")
    first = subprocess.Popen(
        ["docker", "start", "-ai", "shared"], env=engine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdin and first.stdout
    first.stdin.write(b"one\n")
    first.stdin.flush()
    assert first.stdout.readline() == b"one\n"
    second = subprocess.Popen(
        ["docker", "attach", "--no-stdin", "shared"],
        env=engine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert second.stdout
    lines: list[bytes] = []
    while not lines:  # until the second is attached
        first.stdin.write(b"two\n")
        first.stdin.flush()
        assert first.stdout.readline() == b"two\n"
        if select.select([second.stdout], [], [], 0.1)[0]:
            lines.append(second.stdout.readline())
    assert lines == [b"two\n"]
    first.stdin.close()
    assert first.wait(15) == 0
    assert second.wait(15) == 0
    first.stdout.close()
    second.stdout.close()


# -- what a container is given


def test_flags_arrive_inside(docker: Docker) -> None:
    script = (
        "id -u; pwd; echo $A; hostname; "
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    )
    flags = ("-u", "1000:1000", "-w", "/tmp", "-e", "A=b c", "-h", "here", "-m", "64m")
    inside = docker("run", "--rm", *flags, IMAGE, "sh", "-c", script).stdout.splitlines()
    assert inside == ["1000", "/tmp", "b c", "here", str(64 << 20)]


def test_files_of_the_host_and_volumes(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    mount = f"{tmp_path}:/host:ro"
    assert docker("run", "--rm", "-v", mount, IMAGE, "cat", "/host/file").stdout == "from the host\n"
    refused = docker("run", "--rm", "-v", mount, IMAGE, "touch", "/host/x", check=False)
    assert "Read-only file system" in refused.stderr
    docker("volume", "create", "kept")
    docker("run", "--rm", "-v", "kept:/data", IMAGE, "sh", "-c", "echo precious >/data/f")
    assert docker("run", "--rm", "--mount", "type=volume,src=kept,dst=/d", IMAGE, "cat", "/d/f").stdout == "precious\n"
    docker("run", "--rm", "-v", "/anonymous", IMAGE, "touch", "/anonymous/x")
    assert docker("volume", "ls", "-q").stdout == "kept\n"
    docker("volume", "rm", "kept")


def test_networks(docker: Docker) -> None:
    docker("run", "-d", "--name", "web", IMAGE, "sh", "-c", "mkdir /w; echo served >/w/index.html; httpd -f -h /w")
    address = inspect(docker, "web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    fetch = f"for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://{address}/ && break; sleep 0.2; done"
    assert docker("run", "--rm", IMAGE, "sh", "-c", fetch).stdout == "served\n"
    assert (
        docker("run", "--rm", "--network", "container:web", IMAGE, "wget", "-qO-", "http://127.0.0.1/").stdout
        == "served\n"
    )
    alone = docker("run", "--rm", "--network", "none", IMAGE, "ip", "-o", "link").stdout
    assert len(alone.splitlines()) == 1
    host = docker("run", "--rm", "--network", "host", IMAGE, "sh", "-c", "ls /sys/class/net").stdout.split()
    assert set(host) >= {"lo"}


def test_published_ports(docker: Docker) -> None:
    docker("run", "-d", "--name", "echo", "-p", "127.0.0.1::7", IMAGE, "nc", "-ll", "-p", "7", "-e", "cat")
    port = int(docker("port", "echo", "7").stdout.strip().rpartition(":")[2])
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                assert sock.getsockname() != sock.getpeername()  # TCP may connect to itself where nobody listens
                sock.sendall(b"through the kernel\n")
                assert sock.recv(100) == b"through the kernel\n"
            break
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    docker("rm", "-f", "echo")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)


# -- a running container


def test_exec(docker: Docker, terminal: Any) -> None:
    docker("run", "-d", "--name", "busy", IMAGE, "sleep", "600")
    assert (
        docker("exec", "-e", "A=1", "-w", "/tmp", "-u", "7", "busy", "sh", "-c", "echo $A $(pwd) $(id -u)").stdout
        == "1 /tmp 7\n"
    )
    assert docker("exec", "busy", "sh", "-c", "exit 42", check=False).returncode == 42
    assert docker("exec", "-i", "busy", "cat", input="through\n").stdout == "through\n"
    missing = docker("exec", "busy", "no-such-command", check=False)
    assert missing.returncode == 127
    assert "executable file not found" in missing.stdout + missing.stderr
    docker("exec", "-d", "busy", "touch", "/made")
    shell = terminal("exec", "-it", "busy", "sh", size=(33, 99))
    shell.expect(b"# ")
    shell.type(b"ls /made; stty size; exit 4\r")
    shell.expect(b"/made")
    shell.expect(b"33 99")
    assert shell.wait() == 4


def test_logs(engine: PrivateEngine, docker: Docker) -> None:
    docker("run", "--name", "chatty", IMAGE, "sh", "-c", "for i in 1 2 3; do echo line $i; done; echo bad >&2")
    done = docker("logs", "chatty")
    assert (done.stdout, done.stderr) == ("line 1\nline 2\nline 3\n", "bad\n")
    assert docker("logs", "--tail", "2", "chatty").stdout.splitlines()[-1:] == ["line 3"]
    stamped = docker("logs", "-t", "chatty").stdout.splitlines()[0]
    assert stamped.endswith("Z line 1")
    docker("run", "-d", "--name", "slow", IMAGE, "sh", "-c", "echo one; sleep 1; echo two")
    follow = subprocess.Popen(["docker", "logs", "-f", "slow"], env=engine.environment, stdout=subprocess.PIPE)
    output, _ = follow.communicate(timeout=20)
    assert output == b"one\ntwo\n"


def test_stop_kill_pause_restart(docker: Docker) -> None:
    docker("run", "-d", "--name", "polite", IMAGE, "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    docker("stop", "polite")
    assert inspect(docker, "polite")["State"]["ExitCode"] == 3
    docker("start", "polite")
    docker("pause", "polite")
    assert inspect(docker, "polite")["State"]["Status"] == "paused"
    docker("unpause", "polite")
    docker("restart", "-t", "1", "polite")
    docker("kill", "-s", "KILL", "polite")
    assert docker("wait", "polite").stdout == "137\n"


def test_top_stats_rename_update(docker: Docker) -> None:
    docker("run", "-d", "--name", "first", IMAGE, "sleep", "600")
    assert "sleep 600" in docker("top", "first").stdout
    stats = docker("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "first").stdout.split()
    assert stats == ["first", "1"]
    docker("rename", "first", "second")
    docker("update", "--memory", "128m", "--memory-swap", "128m", "second")
    assert inspect(docker, "second")["HostConfig"]["Memory"] == 128 << 20


def test_copy_diff_commit_export(docker: Docker, tmp_path: Path) -> None:
    docker("run", "-d", "--name", "work", IMAGE, "sleep", "600")
    (tmp_path / "in").write_text("into\n")
    docker("cp", f"{tmp_path}/in", "work:/etc/copied")
    assert docker("exec", "work", "cat", "/etc/copied").stdout == "into\n"
    docker("cp", "work:/etc/copied", f"{tmp_path}/out")
    assert (tmp_path / "out").read_text() == "into\n"
    assert "A /etc/copied" in docker("diff", "work").stdout.splitlines()
    docker("commit", "-c", 'CMD ["cat", "/etc/copied"]', "work", "committed")
    assert docker("run", "--rm", "committed").stdout == "into\n"
    docker("export", "-o", f"{tmp_path}/tree.tar", "work")
    docker("import", f"{tmp_path}/tree.tar", "imported")
    assert docker("run", "--rm", "imported", "cat", "/etc/copied").stdout == "into\n"
    docker("save", "-o", f"{tmp_path}/image.tar", "committed")
    docker("rmi", "committed", "imported")
    assert "Loaded image: committed:latest" in docker("load", "-i", f"{tmp_path}/image.tar").stdout
    docker("rmi", "committed")


def test_events(docker: Docker) -> None:
    since = time.time() - 0.01
    docker("run", "--rm", "--name", "seen", IMAGE, "true")
    lines = docker(
        "events",
        "--since",
        str(since),
        "--until",
        str(time.time()),
        "--filter",
        "container=seen",
        "--format",
        "{{.Action}}",
    ).stdout.split()
    assert [line for line in lines if line in ("create", "start", "die", "destroy")] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def test_lists_and_facts(docker: Docker) -> None:
    docker("run", "-d", "--name", "one", "-l", "colour=red", IMAGE, "sleep", "600")
    assert docker("ps", "--filter", "label=colour=red", "--format", "{{.Names}} {{.Image}}").stdout == "one busybox\n"
    assert docker("ps", "--filter", "label=colour=blue", "-q").stdout == ""
    assert "busybox" in docker("images").stdout
    assert "Import" in docker("history", IMAGE).stdout
    assert docker("info", "--format", "{{.OSType}} {{.ContainersRunning}}").stdout == "linux 1\n"
    assert "Containers" in docker("system", "df").stdout


def test_health(docker: Docker) -> None:
    docker(
        "run",
        "-d",
        "--name",
        "sick",
        "--health-cmd",
        "test -e /well",
        "--health-interval",
        "100ms",
        IMAGE,
        "sleep",
        "600",
    )
    docker("exec", "sick", "touch", "/well")
    deadline = time.monotonic() + 15
    while inspect(docker, "sick")["State"]["Health"]["Status"] != "healthy":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_restart_policies(docker: Docker) -> None:
    docker("run", "-d", "--name", "tries", "--restart", "on-failure:2", IMAGE, "false")
    deadline = time.monotonic() + 20
    while (state := inspect(docker, "tries"))["State"]["Status"] != "exited" or state["RestartCount"] < 2:
        assert time.monotonic() < deadline, state["State"]
        time.sleep(0.05)
    assert state["RestartCount"] == 2
