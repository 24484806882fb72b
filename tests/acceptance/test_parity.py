"""What a container sees from inside, point by point beside dockerd on the same machine and the same image.

Debian 12's dockerd is some years older than the API that we speak; where newer versions of Docker changed a default
on purpose, the test names the difference and expects the newer one from us.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import peers
from bench.__main__ import busybox_root

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("dockerd"), reason="needs Debian's docker.io")]

# Newer Docker masks these too (moby/profiles and runtime defaults of 2024 to 2026).
NEWLY_MASKED = {"/proc/interrupts", "/proc/latency_stats", "/sys/devices/virtual/powercap"}


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[peers.Peer, peers.Peer]]:
    """Our engine and dockerd, both driven by the same docker client, with the same image."""
    root = Path(tempfile.mkdtemp(prefix="windlass-parity-"))
    try:
        with peers.windlass(root) as ours, peers.docker(root) as theirs:
            pair = (ours[1], theirs[0])
            for engine in pair:
                engine.run("import", "-", peers.IMAGE, stdin=busybox_root())
            yield pair
    finally:
        shutil.rmtree(root, ignore_errors=True)


def inside(engine: peers.Peer, script: str, *options: str) -> str:
    """What a shell in a fresh container prints."""
    return engine.run("run", "--rm", "--hostname", "same", *options, peers.IMAGE, "sh", "-c", script).decode()


def skip_what_dockerd_cannot(theirs: peers.Peer, options: tuple[str, ...]) -> None:
    """On a host that itself lacks capabilities, dockerd refuses --privileged; then there is nothing to compare."""
    try:
        inside(theirs, "true", *options)
    except subprocess.CalledProcessError:
        pytest.skip(f"dockerd itself cannot run {' '.join(options)} on this host")


def both(engines: tuple[peers.Peer, peers.Peer], script: str, *options: str) -> tuple[str, str]:
    ours, theirs = engines
    if "--privileged" in options:
        skip_what_dockerd_cannot(theirs, options)
    return inside(ours, script, *options), inside(theirs, script, *options)


CASES = {
    "no flags": (),
    "limited": (
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--cap-drop",
        "ALL",
    ),
    "user": ("--user", "1000:1000"),
    "added": ("--cap-add", "NET_ADMIN", "--group-add", "27", "--ulimit", "nofile=1000:2000", "--shm-size", "8m"),
    "privileged": ("--privileged",),
    "no new privileges": ("--security-opt", "no-new-privileges"),
    "unconfined": ("--security-opt", "seccomp=unconfined"),
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_capabilities_seccomp_and_identity(engines: tuple[peers.Peer, peers.Peer], options: tuple[str, ...]) -> None:
    fields = "Uid|Gid|Groups|Cap[A-Z][a-z]+|NoNewPrivs|Seccomp|CoreDumping|Speculation_Store_Bypass"
    ours, theirs = both(engines, f"grep -E '^({fields}):' /proc/self/status", *options)

    def comparable(text: str) -> list[str]:
        lines = [line.rstrip() for line in text.splitlines()]
        # The inheritable set was the permitted one until CVE-2022-24769; it is empty now.
        return [line for line in lines if not line.startswith("CapInh")]

    assert comparable(ours) == comparable(theirs)
    assert re.search(r"^CapInh:\t0+$", ours, re.MULTILINE)


@pytest.mark.parametrize(
    "options", [CASES["no flags"], CASES["limited"], CASES["privileged"]], ids=["none", "limited", "privileged"]
)
def test_mounts(engines: tuple[peers.Peer, peers.Peer], options: tuple[str, ...]) -> None:
    def mounts(text: str) -> dict[str, tuple[str, frozenset[str]]]:
        found = {}
        for line in text.splitlines():
            before, _, after = line.partition(" - ")
            fields = before.split()
            target, flags = fields[4], frozenset(fields[5].split(","))
            # Older runtimes left the directory of the cgroup mounts writable, newer ones do not.
            if target.startswith("/sys/fs/cgroup") or target in NEWLY_MASKED or "thermal_throttle" in target:
                continue
            # Which null device covers a file, the host's or the container's, is the engine's business.
            masked = target.startswith("/proc/") and after.split()[0] in {"devtmpfs", "tmpfs"} and "ro" not in flags
            found[target] = ("mask", frozenset()) if masked else (after.split()[0], flags - {"relatime"})
        return found

    ours, theirs = (mounts(text) for text in both(engines, "cat /proc/self/mountinfo", *options))
    assert set(ours) == set(theirs)
    assert {target: flags for target, (_, flags) in ours.items()} == {
        target: flags for target, (_, flags) in theirs.items()
    }


@pytest.mark.parametrize("options", [CASES["no flags"], CASES["user"]], ids=["root", "user"])
def test_devices(engines: tuple[peers.Peer, peers.Peer], options: tuple[str, ...]) -> None:
    links = "for l in fd stdin stdout stderr ptmx; do readlink $l; done"
    script = f"cd /dev; for f in *; do stat -c '%n %F %a %u %g %t %T' $f; done; {links}"
    ours, theirs = both(engines, script, *options)
    assert ours == theirs


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_environment_and_working_directory(engines: tuple[peers.Peer, peers.Peer], options: tuple[str, ...]) -> None:
    ours, theirs = both(engines, "env | sort; pwd; umask; id", *options)
    assert ours == theirs


@pytest.mark.parametrize("options", [CASES["no flags"], CASES["added"]], ids=["none", "ulimit"])
def test_resource_limits(engines: tuple[peers.Peer, peers.Peer], options: tuple[str, ...]) -> None:
    ours, theirs = both(engines, "cat /proc/self/limits; cat /proc/self/oom_score_adj", *options)
    assert ours == theirs


def test_cgroup_limits(engines: tuple[peers.Peer, peers.Peer]) -> None:
    files = (
        "memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us "
        "pids/pids.max devices/devices.list cpuset/cpuset.cpus cpu/cpu.shares"
    )
    script = f"cd /sys/fs/cgroup; for f in {files}; do echo $f; cat $f 2>/dev/null; done"
    ours, theirs = both(engines, script, *CASES["limited"])

    def comparable(text: str) -> list[str]:
        # TUN devices are not given by default any more.
        return sorted(set(text.splitlines()) - {"c 10:200 rwm"})

    assert comparable(ours) == comparable(theirs)


@pytest.mark.parametrize(
    "path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/proc/scsi"]
)
def test_masked_paths(engines: tuple[peers.Peer, peers.Peer], path: str) -> None:
    script = (
        f"if [ -d {path} ]; then ls -A {path} | wc -l; elif [ -e {path} ]; then wc -c <{path}; else echo absent; fi"
    )
    ours, theirs = both(engines, script)
    assert ours == theirs


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/proc/irq/x", "/proc/bus/x", "/sys/x"]
)
def test_read_only_paths(engines: tuple[peers.Peer, peers.Peer], path: str) -> None:
    ours, theirs = both(engines, f"echo 1 2>&1 >{path}; true")
    assert ours == theirs


@pytest.mark.parametrize(
    "call", ["unshare -m true", "mount -t tmpfs none /mnt", "chroot / true", "hostname other", "mknod /null c 1 3"]
)
def test_refused_and_allowed_calls(engines: tuple[peers.Peer, peers.Peer], call: str) -> None:
    ours, theirs = both(engines, f"mkdir -p /mnt; {call} 2>&1; echo $?")
    assert ours == theirs


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nosuchimage:really",), 125),
        ((peers.IMAGE, "nosuchcommand"), 127),
        ((peers.IMAGE, "/etc/passwd"), 126),
        (("--user", "nobodyhere", peers.IMAGE, "true"), 125),
        ((peers.IMAGE, "sh", "-c", "exit 42"), 42),
        ((peers.IMAGE, "sh", "-c", "sh -c 'kill -TERM $$'; exit $?"), 143),
    ],
)
def test_exit_codes(engines: tuple[peers.Peer, peers.Peer], arguments: tuple[str, ...], code: int) -> None:
    for engine in engines:
        done = subprocess.run(
            [*engine.command, "run", "--rm", "--pull=never", *arguments],
            env=engine.environment | {"PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, (engine.name, done.stderr)
