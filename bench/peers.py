"""The engines that are measured, each started privately below one directory (a tmpfs), each driven by its own client.

dockerd runs in a network namespace of its own and podman in a mount namespace without the v2 hierarchy, because crun
refuses a hybrid cgroup layout; both keep away from the machine's own configuration.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

IMAGE = "bench/busybox:latest"


class Peer(NamedTuple):
    """An engine to measure: its name, the command that drives it, and the daemons whose memory counts."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    daemons: tuple[int, ...]
    socket: str | None

    def run(self, *arguments: str, stdin: bytes | None = None, check: bool = True) -> bytes:
        """Run a client command; returns its standard output."""
        return subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=check,
            env=os.environ | self.environment,
        ).stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a client command and do not wait for it."""
        return subprocess.Popen(
            [*self.command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | self.environment,
        )


def _await_ping(command: list[str], environment: dict[str, str], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended at start:\n{log.read_text()[-2000:]}")
        answer = subprocess.run(command, capture_output=True, env=os.environ | environment, check=False)
        if answer.returncode == 0:
            return
        time.sleep(0.02)
    raise RuntimeError(f"{command[0]} did not answer:\n{log.read_text()[-2000:]}")


def _docker_client() -> str:
    return "/usr/local/bin/docker" if os.path.exists("/usr/local/bin/docker") else "docker"


def children_of(pid: int) -> tuple[int, ...]:
    """`pid` and all its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                text = Path(f"/proc/{parent}/task/{task}/children").read_text()
                found.extend(int(child) for child in text.split())
    return tuple(found)


@contextlib.contextmanager
def windlass(root: Path) -> Iterator[list[Peer]]:
    """Our daemon, driven by our own client and by the docker client."""
    socket = root / "windlass.sock"
    log = root / "windlass.log"
    program = str(Path(__file__).parent.parent / ".venv/bin/windlass")
    command = [program, "daemon", "--data-root", str(root / "windlass"), "--exec-root", str(root / "windlass-run")]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "-H", f"unix://{socket}"], stdout=output, stderr=output)
    environment = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(root / "docker-config")}
    try:
        _await_ping([_docker_client(), "version"], environment, process, log)
        daemons = children_of(process.pid)
        yield [
            Peer("windlass", (program,), environment, daemons, str(socket)),
            Peer("windlass, docker client", (_docker_client(),), environment, daemons, str(socket)),
        ]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextlib.contextmanager
def docker(root: Path) -> Iterator[list[Peer]]:
    """Debian's dockerd in a network namespace of its own."""
    if not shutil.which("dockerd"):
        yield []
        return
    namespace = f"bench-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
    socket = root / "docker.sock"
    log = root / "docker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "nsenter",
                f"--net=/run/netns/{namespace}",
                "dockerd",
                f"--data-root={root / 'docker'}",
                f"--exec-root={root / 'docker-run'}",
                f"--pidfile={root / 'docker.pid'}",
                f"--host=unix://{socket}",
                "--exec-opt=native.cgroupdriver=cgroupfs",
                "--storage-driver=overlay2",
            ],
            stdout=output,
            stderr=output,
        )
    environment = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(root / "docker-config")}
    try:
        _await_ping([_docker_client(), "version"], environment, process, log)
        yield [Peer("docker", (_docker_client(),), environment, children_of(process.pid), str(socket))]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        subprocess.run(["ip", "netns", "delete", namespace], check=False)


@contextlib.contextmanager
def podman(root: Path) -> Iterator[list[Peer]]:
    """Debian's podman with crun, without the v2 mount that crun would refuse."""
    if not shutil.which("podman"):
        yield []
        return
    configuration = root / "containers.conf"
    configuration.write_text(
        '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "crun"\n[containers]\ndefault_ulimits = []\n'
    )
    script = root / "podman"
    script.write_text(
        "#!/bin/sh\n"
        "umount /sys/fs/cgroup/unified 2>/dev/null\n"
        f'exec podman --root {root}/podman-root --runroot {root}/podman-run --cgroup-manager cgroupfs "$@"\n'
    )
    script.chmod(0o755)
    environment = {"CONTAINERS_CONF": str(configuration)}
    yield [Peer("podman", ("unshare", "-m", str(script)), environment, (), None)]


def proportional_set_size(pids: tuple[int, ...]) -> int:
    """Bytes of memory that these processes hold, shared pages divided among their users (PSS)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
