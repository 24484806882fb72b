"""`windlass runtime`, driven as conmon, podman and containerd drive runc: by its command line."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_bundles import oci_config

import windlass
from windlass.kernel.cgroups import open_cgroup
from windlass.kernel.mount_options import parse_options
from windlass.kernel.seccomp import compile_filter
from windlass.runtime.command import documents
from windlass.runtime.command.control import parse_signal
from windlass.runtime.command.execute import process_document
from windlass.runtime.command.inspect import parse_duration
from windlass.runtime.command.parser import UsageError, build_parser
from windlass.runtime.command.store import CommandError
from windlass.runtime.plan import plan_container
from windlass.runtime.plan.steps import NewSessionKeyring

SOURCE = str(Path(windlass.__file__).resolve().parents[1])
CODE = f"import sys; sys.path.append({SOURCE!r}); from windlass.runtime.command import program; "
PROGRAM = [sys.executable, "-I", "-S", "-c", CODE + "sys.exit(program(sys.argv[1:]))"]
Completed = subprocess.CompletedProcess[str]


class Runtime:
    """The command line with a private state directory, and bundles for it."""

    def __init__(self, folder: Path, rootfs: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.cgroup = f"/windlass-test-{secrets.token_hex(4)}"
        self._rootfs = rootfs
        self._ids: list[str] = []

    def __call__(self, *words: str, check: bool = True, **options: Any) -> Completed:
        command = [*PROGRAM, "--root", str(self.state), *words]
        # Files, not pipes: what the container inherits must not keep us waiting.
        with open(self.folder / "out", "w+") as out, open(self.folder / "err", "w+") as err:
            done = subprocess.run(
                command, stdout=options.pop("stdout", out), stderr=err, text=True, timeout=60, check=False, **options
            )
            out.seek(0)
            err.seek(0)
            completed = subprocess.CompletedProcess(command, done.returncode, out.read(), err.read())
        if check and completed.returncode != 0:
            raise AssertionError(f"{words}: {completed.returncode}: {completed.stderr}")
        return completed

    def bundle(self, args: list[str], **changes: Any) -> tuple[str, str]:
        """(id, bundle) of a container that runs `args`; `changes` are merged into config.json."""
        identifier = "c" + secrets.token_hex(6)
        self._ids.append(identifier)
        path = self.folder / identifier
        path.mkdir()
        config = oci_config(
            args,
            terminal=bool(changes.pop("terminal", False)),
            cgroup=f"{self.cgroup}/{identifier}",
            rootfs=str(self._rootfs),
        )
        config.update(changes)
        (path / "config.json").write_text(json.dumps(config))
        return identifier, str(path)

    def status(self, identifier: str) -> str:
        status: str = json.loads(self("state", identifier).stdout)["status"]
        return status

    def close(self) -> list[str]:
        """Delete all -> the cgroups that were left behind."""
        left = []
        for identifier in self._ids:
            self("delete", "--force", identifier, check=False)
            if open_cgroup(f"{self.cgroup}/{identifier}").exists():
                left.append(identifier)
        open_cgroup(self.cgroup).discard()
        return left


@pytest.fixture
def runtime(tmp_path: Path, rootfs: Path) -> Iterator[Runtime]:
    made = Runtime(tmp_path, rootfs)
    yield made
    assert made.close() == []
    assert not made.state.exists() or os.listdir(made.state) == []


def wait_until(condition: Callable[[], bool]) -> None:
    import time

    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.root
def test_run_is_the_process_and_leaves_nothing(runtime: Runtime) -> None:
    identifier, bundle = runtime.bundle(["sh", "-c", "echo out; echo err >&2; exit 3"])
    done = runtime("run", "--bundle", bundle, identifier, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert runtime("list", "-q").stdout == ""


@pytest.mark.root
def test_a_container_goes_through_its_states(runtime: Runtime) -> None:
    identifier, bundle = runtime.bundle(["sleep", "1000"], annotations={"org.example": "1"})
    runtime("create", "--bundle", bundle, "--pid-file", str(runtime.folder / "pid"), identifier)
    state = json.loads(runtime("state", identifier).stdout)
    assert state["pid"] == int((runtime.folder / "pid").read_text())
    assert {key: state[key] for key in ("ociVersion", "id", "status", "bundle", "annotations", "owner")} == {
        "ociVersion": "1.0.2",
        "id": identifier,
        "status": "created",
        "bundle": bundle,
        "annotations": {"org.example": "1"},
        "owner": "root",
    }
    again = runtime("create", "--bundle", bundle, identifier, check=False)
    assert (again.returncode, "container with given ID already exists" in again.stderr) == (1, True)
    runtime("start", identifier)
    assert runtime.status(identifier) == "running"
    assert "cannot start an already running container" in runtime("start", identifier, check=False).stderr
    refused = runtime("delete", identifier, check=False)
    assert f"cannot delete container {identifier} that is not stopped: running" in refused.stderr
    runtime("kill", identifier, "KILL")
    wait_until(lambda: runtime.status(identifier) == "stopped")
    assert json.loads(runtime("state", identifier).stdout)["pid"] == 0
    assert "cannot start a container that has stopped" in runtime("start", identifier, check=False).stderr
    assert "container not running" in runtime("kill", identifier, "TERM", check=False).stderr
    runtime("delete", identifier)
    assert "container does not exist" in runtime("state", identifier, check=False).stderr


@pytest.mark.root
def test_a_created_container_is_deleted_and_a_running_one_by_force(runtime: Runtime) -> None:
    created, bundle = runtime.bundle(["true"])
    runtime("create", "-b", bundle, created)
    runtime("delete", created)
    running, bundle = runtime.bundle(["sleep", "1000"])
    runtime("run", "-d", "-b", bundle, running)
    runtime("delete", "--force", running)
    runtime("delete", "--force", "was-never-there")
    assert json.loads(runtime("list", "-f", "json").stdout) is None


@pytest.mark.root
def test_what_cannot_be_created_is_an_error_and_leaves_nothing(runtime: Runtime) -> None:
    identifier, bundle = runtime.bundle(["no-such-program"])
    failed = runtime(
        "--log", str(runtime.folder / "log"), "--log-format", "json", "create", "-b", bundle, identifier, check=False
    )
    assert failed.returncode == 1
    assert 'exec: "no-such-program": executable file not found in $PATH' in failed.stderr
    record = json.loads((runtime.folder / "log").read_text().splitlines()[-1])
    assert record["level"] == "error"
    assert "executable file not found in $PATH" in record["msg"]
    assert "container does not exist" in runtime("state", identifier, check=False).stderr
    missing = runtime("create", "-b", str(runtime.folder), identifier, check=False)
    assert "JSON specification file config.json not found" in missing.stderr
    terminal, bundle = runtime.bundle(["true"], terminal=True)
    assert "without setting console socket" in runtime("create", "-b", bundle, terminal, check=False).stderr
    assert "invalid container id format" in runtime("state", "../x", check=False).stderr
    assert "not supported" in runtime("--systemd-cgroup", "list", check=False).stderr


@pytest.mark.root
def test_exec(runtime: Runtime) -> None:
    identifier, bundle = runtime.bundle(["sleep", "1000"])
    runtime("run", "-d", "-b", bundle, identifier)
    done = runtime(
        "exec",
        "-e",
        "A=b",
        "--cwd",
        "/tmp",
        "-u",
        "1:2",
        "-g",
        "7",
        identifier,
        "sh",
        "-c",
        "echo $A; readlink /proc/self/cwd; id",
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, ["b", "/tmp", "uid=1 gid=2 groups=7"])
    assert runtime("exec", identifier, "sh", "-c", "exit 9", check=False).returncode == 9
    assert runtime("exec", identifier, "sh", "-c", "kill -9 $$", check=False).returncode == 137
    assert "executable file not found" in runtime("exec", identifier, "nope", check=False).stderr
    assert "bad user or group id" in runtime("exec", "-u", "root", identifier, "id", check=False).stderr
    document = runtime.folder / "process.json"
    document.write_text(
        json.dumps({"args": ["sleep", "1000"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]})
    )
    runtime("exec", "-d", "-p", str(document), "--pid-file", str(runtime.folder / "pid"), identifier)
    pid = int((runtime.folder / "pid").read_text())
    assert pid in json.loads(runtime("ps", "-f", "json", identifier).stdout)
    assert "sleep 1000" in runtime("ps", identifier).stdout
    runtime("kill", "--all", identifier, "KILL")
    wait_until(lambda: runtime.status(identifier) == "stopped")
    assert "cannot exec in a stopped container" in runtime("exec", identifier, "true", check=False).stderr


@pytest.mark.root
def test_the_master_of_a_terminal_is_sent_to_the_console_socket(runtime: Runtime) -> None:
    identifier, bundle = runtime.bundle(["sh", "-c", "stty size; read x; echo got $x; sleep 1000"], terminal=True)
    config = json.loads(Path(bundle, "config.json").read_text())
    config["process"]["consoleSize"] = {"height": 17, "width": 71}
    Path(bundle, "config.json").write_text(json.dumps(config))
    path = str(runtime.folder / "console")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(2)
        runtime("create", "-b", bundle, "--console-socket", path, identifier)
        master = receive_master(listener)
        runtime("start", identifier)
        assert read_until(master, b"17 71\r\n").startswith(b"17 71")
        os.write(master, b"line\n")
        assert read_until(master, b"got line\r\n")
        runtime("exec", "-d", "-t", "--console-socket", path, identifier, "tty")
        other = receive_master(listener)
        assert read_until(other, b"/dev/pts/")
    os.close(master)
    os.close(other)


def receive_master(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        _, descriptors, _, _ = socket.recv_fds(connection, 1024, 1)
    return descriptors[0]


def read_until(descriptor: int, needle: bytes) -> bytes:
    data = b""
    while needle not in data:
        data += os.read(descriptor, 4096)
    return data


@pytest.mark.root
def test_pause_resume_update_and_events(runtime: Runtime) -> None:
    identifier, bundle = runtime.bundle(["sleep", "1000"])
    runtime("run", "-d", "-b", bundle, identifier)
    runtime("pause", identifier)
    assert runtime.status(identifier) == "paused"
    assert "cannot exec in a paused container" in runtime("exec", identifier, "true", check=False).stderr
    runtime("resume", identifier)
    assert runtime.status(identifier) == "running"
    assert "container not paused" in runtime("resume", identifier, check=False).stderr
    runtime("update", "--pids-limit", "33", "--memory", "64m", identifier)
    event = json.loads(runtime("events", "--stats", identifier).stdout)
    assert (event["type"], event["id"]) == ("stats", identifier)
    assert event["data"]["pids"] == {"current": 1, "limit": 33}
    assert event["data"]["memory"]["usage"]["limit"] == 64 << 20
    document = runtime.folder / "resources.json"
    document.write_text('{"pids": {"limit": 44}}')
    runtime("update", "-r", str(document), identifier)
    assert json.loads(runtime("events", "--stats", identifier).stdout)["data"]["pids"]["limit"] == 44
    assert runtime("update", "--memory", "much", identifier, check=False).returncode == 1


def hook(folder: Path, name: str, *, code: int = 0, shell: str = "") -> dict[str, Any]:
    """A hook that appends its name and the state that it was given to a file."""
    script = f'read -r state; printf "%s %s\\n" {name} "$state" >> {folder}/hooks; {shell} exit {code}'
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 30}


@pytest.mark.root
def test_all_hooks_run_in_their_order_with_the_state(runtime: Runtime) -> None:
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    hooks = {kind: [hook(runtime.folder, kind)] for kind in kinds}
    # These two run in the container's namespaces, where only what its root has can be run or written.
    for kind in ("startContainer",):
        hooks[kind] = [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /dev/start-hook"]}]
    identifier, bundle = runtime.bundle(["sh", "-c", "cat /dev/start-hook; sleep 1000"], hooks=hooks)
    output = runtime.folder / "output"
    with open(output, "w") as out:
        runtime("create", "-b", bundle, identifier, stdout=out)
        lines = (runtime.folder / "hooks").read_text().splitlines()
        assert [line.split(" ", 1)[0] for line in lines] == ["prestart", "createRuntime", "createContainer"]
        for line in lines:
            state = json.loads(line.split(" ", 1)[1])
            assert (state["id"], state["status"], state["bundle"]) == (identifier, "creating", bundle)
        assert json.loads(lines[0].split(" ", 1)[1])["pid"] == json.loads(runtime("state", identifier).stdout)["pid"]
        runtime("start", identifier)
    wait_until(lambda: output.read_text().endswith("}") or output.read_text().endswith("}\n"))
    assert json.loads(output.read_text())["status"] == "created"
    runtime("delete", "--force", identifier)
    lines = (runtime.folder / "hooks").read_text().splitlines()
    ends = [(line.split(" ", 1)[0], json.loads(line.split(" ", 1)[1])["status"]) for line in lines[3:]]
    assert ends == [("poststart", "running"), ("poststop", "stopped")]


@pytest.mark.root
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_before_the_start_ends_the_creation(runtime: Runtime, kind: str) -> None:
    hooks = {kind: [hook(runtime.folder, "bad", code=1)], "poststop": [hook(runtime.folder, "poststop")]}
    identifier, bundle = runtime.bundle(["true"], hooks=hooks)
    failed = runtime("create", "-b", bundle, identifier, check=False)
    assert failed.returncode == 1
    assert f"error running {kind} hook #0" in failed.stderr
    assert "container does not exist" in runtime("state", identifier, check=False).stderr


@pytest.mark.root
def test_a_hook_that_fails_later_is_only_remarked(runtime: Runtime) -> None:
    hooks = {"poststart": [hook(runtime.folder, "bad", code=1), hook(runtime.folder, "second")]}
    identifier, bundle = runtime.bundle(["sleep", "1000"], hooks=hooks)
    runtime("create", "-b", bundle, identifier)
    done = runtime("start", identifier)
    assert "level=warning" in done.stderr
    assert [line.split(" ", 1)[0] for line in (runtime.folder / "hooks").read_text().splitlines()] == ["bad", "second"]


@pytest.mark.root
def test_the_program_runs_from_a_read_only_mount(runtime: Runtime) -> None:
    # A hook can see what a container might: the executable of the process that makes it.
    script = f"test -w /proc/$PPID/exe || touch {runtime.folder}/refused"
    hooks = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]}
    identifier, bundle = runtime.bundle(["true"], hooks=hooks)
    runtime("run", "-b", bundle, identifier)
    assert (runtime.folder / "refused").exists()


@pytest.mark.root
def test_preserved_descriptors_reach_the_process(runtime: Runtime) -> None:
    identifier, bundle = runtime.bundle(["sh", "-c", "cat <&3; ls /proc/self/fd | wc -l"])
    path = runtime.folder / "handed-over"
    path.write_text("from outside\n")
    with open(path) as file:
        done = subprocess.run(
            [
                "sh",
                "-c",
                'exec 3<"$0"; shift 0; exec "$@"',
                str(path),
                *PROGRAM,
                "--root",
                str(runtime.state),
                "run",
                "--preserve-fds",
                "1",
                "-b",
                bundle,
                identifier,
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert file.read() == "from outside\n"
    assert done.stdout.startswith("from outside\n")


@pytest.mark.root
def test_spec_writes_a_configuration_that_runs(runtime: Runtime, rootfs: Path) -> None:
    folder = runtime.folder / "example"
    folder.mkdir()
    runtime("spec", "--bundle", str(folder))
    assert "exists. Remove it first" in runtime("spec", "--bundle", str(folder), check=False).stderr
    config = json.loads((folder / "config.json").read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = ["sh", "-c", "id; hostname"]
    config["process"]["env"] = ["PATH=/bin"]
    config["root"]["path"] = str(rootfs)
    config["linux"]["cgroupsPath"] = f"{runtime.cgroup}/example"
    (folder / "config.json").write_text(json.dumps(config))
    assert runtime("run", "-b", str(folder), "example").stdout == "uid=0(root) gid=0\nwindlass\n"


# --- without root


def test_signals_by_name_and_number() -> None:
    assert parse_signal("KILL") == parse_signal("SIGKILL") == parse_signal("9") == signal.SIGKILL
    assert parse_signal("rtmin+3") == signal.SIGRTMIN + 3
    for bad in ("", "0", "65", "SIGNOPE", "SIG_DFL", "RTMIN+x", "-9", "TERM+1x"):
        with pytest.raises(CommandError):
            parse_signal(bad)


def test_durations() -> None:
    assert parse_duration("5s") == 5
    assert parse_duration("1m30s") == 90
    assert parse_duration("100ms") == pytest.approx(0.1)
    for bad in ("", "5", "s", "5x", "0s", "5s "):
        with pytest.raises(CommandError):
            parse_duration(bad)


def test_the_command_line_is_that_of_runc() -> None:
    parse = build_parser().parse_args
    options = parse(
        ["--root", "/r", "create", "--bundle", "/b", "--pid-file", "/p", "--no-pivot", "--preserve-fds", "2", "id"]
    )
    assert (options.root, options.verb, options.bundle, options.pid_file, options.no_pivot, options.preserve_fds) == (
        "/r",
        "create",
        "/b",
        "/p",
        True,
        2,
    )
    options = parse(["exec", "--process", "p.json", "--detach", "--console-socket", "s", "id"])
    assert (options.process, options.detach, options.console_socket, options.container) == ("p.json", True, "s", "id")
    options = parse(["exec", "-t", "id", "sh", "-c", "--x"])
    assert (options.tty, options.command) == (True, ["sh", "-c", "--x"])
    assert parse(["kill", "--all", "id", "TERM"]).signal == "TERM"
    assert parse(["kill", "id"]).signal == "SIGTERM"
    for bad in ([], ["nope"], ["create"], ["create", "--nope", "id"]):
        with pytest.raises(UsageError):
            parse(bad)


def exec_options(*words: str) -> Namespace:
    return build_parser().parse_args(["exec", *words])


def test_an_exec_is_the_containers_process_changed_by_the_options() -> None:
    config = {"process": {"args": ["init"], "env": ["A=1", "B=2"], "cwd": "/srv", "user": {"uid": 5, "gid": 6}}}
    document = process_document(
        exec_options("-e", "A=9", "--cap", "net_admin", "--no-new-privs", "id", "x", "-y"), config
    )
    assert document["args"] == ["x", "-y"]
    assert document["env"] == ["B=2", "A=9"]
    assert (document["cwd"], document["user"]["uid"], document["terminal"]) == ("/srv", 5, False)
    assert document["capabilities"]["effective"] == ["CAP_NET_ADMIN"]
    assert document["capabilities"]["inheritable"] == []
    assert document["noNewPrivileges"] is True
    for bad in ("4294967295", "-1", "1:x", "0x0", "", "9" * 30):
        with pytest.raises(CommandError):
            process_document(exec_options(f"--user={bad or ':'}", "id", "x"), config)
    with pytest.raises(CommandError):
        process_document(exec_options("id"), config)


def test_a_keyring_can_be_the_callers() -> None:
    config = oci_config(["true"], rootfs="/r")
    assert any(isinstance(step, NewSessionKeyring) for step in plan_container(config))
    assert not any(isinstance(step, NewSessionKeyring) for step in plan_container(config, new_keyring=False))


def test_features_promise_only_what_there_is() -> None:
    document = documents.features_document()
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": document["linux"]["seccomp"]["archs"]}
    for action in document["linux"]["seccomp"]["actions"]:
        for operator in document["linux"]["seccomp"]["operators"]:
            arguments = [{"index": 0, "value": 1, "valueTwo": 1, "op": operator}]
            rule = {"names": ["personality"], "action": action, "args": arguments}
            assert compile_filter({**profile, "syscalls": [rule]})
    assert all(not parse_options([option]).data for option in document["mountOptions"])
    assert {"pid", "user", "time", "cgroup"} <= set(document["linux"]["namespaces"])


def test_the_rootless_example_needs_no_rights_of_the_host() -> None:
    document = documents.example_rootless(1000, 100)
    kinds = {entry["type"] for entry in document["linux"]["namespaces"]}
    assert "user" in kinds
    assert "network" not in kinds
    assert document["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert all(not option.startswith("gid=") for mount in document["mounts"] for option in mount.get("options", []))
