"""podman, which knows nothing of Windlass, with `windlass runtime` as its OCI runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import windlass

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
]

SOURCE = str(Path(windlass.__file__).resolve().parents[1])


class Podman:
    """podman with private roots, in a mount namespace that shows it a host without the v2 hierarchy.

    (podman 4 refuses hybrid hosts.)
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        runtime = folder / "windlass-runtime"
        runtime.write_text(
            f"#!{sys.executable} -IS\nimport sys\nsys.path.append({SOURCE!r})\n"
            "from windlass.runtime.command import program\nsys.exit(program(sys.argv[1:]))\n"
        )
        runtime.chmod(0o755)
        (folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'[engine.runtimes]\nwindlass = ["{runtime}"]\n'
        )
        settings = folder / "home" / ".config" / "containers"
        settings.mkdir(parents=True)
        (settings / "policy.json").write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def __call__(self, *words: str, check: int | None = 0, stdin: bytes = b"") -> str:
        command = [
            *("podman", "--root", f"{self._folder}/root", "--runroot", f"{self._folder}/run"),
            *("--storage-driver", "overlay", "--runtime", "windlass", *words),
        ]
        hide = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
        environment = {
            **os.environ,
            "CONTAINERS_CONF": f"{self._folder}/containers.conf",
            "HOME": f"{self._folder}/home",
            "XDG_CONFIG_HOME": f"{self._folder}/home/.config",
        }
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", hide, "sh", *command],
            input=stdin,
            capture_output=True,
            env=environment,
            timeout=60,
            check=False,
        )
        if check is not None:
            assert done.returncode == check, done.stderr.decode()
        return (done.stdout + done.stderr).decode()


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    folder = tmp_path_factory.mktemp("podman")
    rootfs = folder / "rootfs"
    for name in ("bin", "tmp", "etc", "proc", "dev", "sys"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "bin" / "busybox")
    for applet in ("sh", "cat", "id", "sleep", "echo", "true", "grep", "stty", "tty", "pwd", "touch"):
        (rootfs / "bin" / applet).symlink_to("busybox")
    subprocess.run(["tar", "-C", rootfs, "-cf", folder / "image.tar", "."], check=True)
    podman = Podman(folder)
    podman("import", str(folder / "image.tar"), "box")
    yield podman
    podman("rm", "--all", "--force", "--time", "0", check=None)
    podman("rmi", "--all", "--force", check=None)
    for group in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
        for below in sorted(group.rglob("*/"), reverse=True):
            below.rmdir()
        group.rmdir()


def test_run_gives_output_and_exit_code(podman: Podman) -> None:
    assert podman("run", "--rm", "--network", "none", "box", "echo", "hello") == "hello\n"
    podman("run", "--rm", "--network", "none", "box", "sh", "-c", "exit 7", check=7)
    assert podman("run", "-i", "--rm", "--network", "none", "box", "cat", stdin=b"input") == "input"


def test_what_cannot_be_run_has_its_exit_code(podman: Podman) -> None:
    assert "executable file not found in $PATH" in podman("run", "--rm", "--network", "none", "box", "nope", check=127)
    podman("run", "--rm", "--network", "none", "box", "/etc", check=126)


def test_limits_and_rights_are_applied(podman: Podman) -> None:
    options = ("--memory", "64m", "--pids-limit", "50", "--read-only", "--user", "1000:1000", "--cap-drop", "ALL")
    script = "id -u; grep CapBnd /proc/self/status; touch /x; cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    output = podman("run", "--rm", "--network", "none", *options, "box", "sh", "-c", script, check=None)
    assert "1000\n" in output
    assert "0000000000000000" in output
    assert "Read-only file system" in output
    if Path("/sys/fs/cgroup/memory").is_dir():
        assert str(64 << 20) in output


def test_a_container_is_steered_from_create_to_remove(podman: Podman) -> None:
    podman("run", "--detach", "--name", "steered", "--network", "none", "box", "sleep", "1000")
    assert podman("exec", "--env", "A=b", "--workdir", "/tmp", "steered", "sh", "-c", "echo $A; pwd") == "b\n/tmp\n"
    podman("exec", "steered", "sh", "-c", "exit 4", check=4)
    podman("pause", "steered")
    assert "Paused" in podman("ps", "--all", "--format", "{{.Status}}") or "paused" in podman(
        "inspect", "--format", "{{.State.Status}}", "steered"
    )
    podman("unpause", "steered")
    assert "sleep 1000" in podman("top", "steered")
    podman("update", "--memory", "99m", "steered")
    podman("kill", "--signal", "KILL", "steered")
    assert podman("wait", "steered") == "137\n"
    podman("start", "steered")
    assert podman("inspect", "--format", "{{.State.Status}}", "steered") == "running\n"
    podman("rm", "--force", "--time", "0", "steered")


def test_a_terminal(podman: Podman) -> None:
    assert "/dev/pts/0" in podman("run", "--rm", "--tty", "--network", "none", "box", "tty")
