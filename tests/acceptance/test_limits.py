"""Limits, devices, freezing, killing, figures, out of memory and labels, through the API and seen from inside.

The same tests hold with cgroup v1, here, and with v2 and AppArmor, in the virtual machine (tests/vm).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.engine import PrivateEngine
from windlass.kernel import lsm

docker = pytest.importorskip("docker")

V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
MIB = 1 << 20
Make = Callable[..., Any]


@pytest.fixture
def make(client: Any, busybox: str) -> Iterator[Make]:
    """Starts a container that is removed after the test."""
    made = []

    def start(command: Any = ("sleep", "1000"), **options: Any) -> Any:
        container = client.containers.create(busybox, list(command), **options)
        made.append(container)
        container.start()
        container.reload()
        return container

    yield start
    for container in made:
        try:
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            continue


def run(client: Any, image: str, script: str, **options: Any) -> str:
    """What a shell in a fresh container prints, errors too."""
    output = client.containers.run(image, ["sh", "-c", f"({script}) 2>&1; true"], remove=True, **options)
    return str(output.decode().strip())


def groups_of(container: Any) -> list[Path]:
    """The directories on the host of a running container's control groups."""
    text = Path(f"/proc/{container.attrs['State']['Pid']}/cgroup").read_text()
    found = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        name = "unified" if not V2 and not controllers else controllers.removeprefix("name=")
        directory = Path(f"/sys/fs/cgroup/{'' if V2 else name}{path if V2 else '/' + path.strip('/')}")
        if container.id in path and directory.is_dir():
            found.append(directory)
    assert found, text
    return found


# --- limits

LIMITS: list[tuple[dict[str, Any], str, str, str, str]] = [
    # options, file on v1, its value, file on v2, its value
    ({"mem_limit": "64m"}, "memory/memory.limit_in_bytes", str(64 * MIB), "memory.max", str(64 * MIB)),
    (
        {"mem_limit": "64m", "memswap_limit": "96m"},
        *("memory/memory.memsw.limit_in_bytes", str(96 * MIB), "memory.swap.max", str(32 * MIB)),
    ),
    ({"mem_reservation": "32m"}, "memory/memory.soft_limit_in_bytes", str(32 * MIB), "memory.low", str(32 * MIB)),
    ({"nano_cpus": 500_000_000}, "cpu/cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"),
    (
        {"cpu_quota": 20000, "cpu_period": 50000},
        *("cpu/cpu.cfs_period_us", "50000", "cpu.max", "20000 50000"),
    ),
    ({"cpu_shares": 512}, "cpu/cpu.shares", "512", "cpu.weight", "59"),
    ({"cpuset_cpus": "0"}, "cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"),
    ({"pids_limit": 50}, "pids/pids.max", "50", "pids.max", "50"),
    ({}, "pids/pids.max", "max", "pids.max", "max"),
]


@pytest.mark.parametrize(("options", "v1", "v1_value", "v2", "v2_value"), LIMITS)
def test_a_limit_is_seen_from_inside(
    client: Any, busybox: str, options: dict[str, Any], v1: str, v1_value: str, v2: str, v2_value: str
) -> None:
    seen = run(client, busybox, f"cat /sys/fs/cgroup/{v2 if V2 else v1}", **options)
    assert seen == (v2_value if V2 else v1_value)


def test_a_container_sees_its_own_group_only_and_cannot_change_it(client: Any, busybox: str) -> None:
    file = "memory.max" if V2 else "memory/memory.limit_in_bytes"
    assert "Read-only file system" in run(client, busybox, f"echo -1 > /sys/fs/cgroup/{file}", mem_limit="64m")


def test_throttles_of_block_devices(client: Any, busybox: str) -> None:
    devices = [name for name in sorted(os.listdir("/sys/block")) if name.startswith(("vd", "sd", "nvme", "loop"))]
    if not devices:
        pytest.skip("no block device")
    numbers = Path(f"/sys/block/{devices[0]}/dev").read_text().strip()
    file = "io.max" if V2 else "blkio/blkio.throttle.read_bps_device"
    seen = run(
        client, busybox, f"cat /sys/fs/cgroup/{file}", device_read_bps=[{"Path": f"/dev/{devices[0]}", "Rate": MIB}]
    )
    assert seen.split(" ")[0] == numbers
    assert str(MIB) in seen


def test_more_processes_than_allowed_do_not_start(client: Any, busybox: str) -> None:
    output = run(client, busybox, "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait", pids_limit=4)
    assert "can't fork" in output


def test_limits_change_while_a_container_runs(make: Make, engine: PrivateEngine) -> None:
    container = make(mem_limit="64m", memswap_limit="64m", pids_limit=20)
    container.update(mem_limit="128m", memswap_limit="256m", cpu_quota=30000, cpu_period=100000)
    engine.json("POST", f"/containers/{container.id}/update", {"PidsLimit": 30})  # docker-py cannot say this
    paths = {path.parts[4]: path for path in groups_of(container)} if not V2 else {}

    def value(controller: str, v1: str, v2: str) -> str:
        directory = groups_of(container)[0] if V2 else paths[controller]
        return (directory / (v2 if V2 else v1)).read_text().strip()

    assert value("memory", "memory.limit_in_bytes", "memory.max") == str(128 * MIB)
    assert value("cpu", "cpu.cfs_quota_us", "cpu.max") in {"30000", "30000 100000"}
    assert value("pids", "pids.max", "pids.max") == "30"
    container.update(mem_limit="32m", memswap_limit="32m")
    assert value("memory", "memory.limit_in_bytes", "memory.max") == str(32 * MIB)
    container.reload()
    assert container.attrs["HostConfig"]["Memory"] == 32 * MIB


def test_a_refused_update_changes_nothing(make: Make) -> None:
    container = make(mem_limit="64m", memswap_limit="64m", pids_limit=20)
    with pytest.raises(docker.errors.APIError):
        container.update(cpuset_cpus="4000", mem_limit="32m", memswap_limit="32m")
    container.reload()
    assert container.attrs["HostConfig"]["Memory"] == 64 * MIB
    file = "memory.max" if V2 else "memory.limit_in_bytes"
    (memory,) = [path for path in groups_of(container) if (path / file).exists()]
    assert (memory / file).read_text().strip() == str(64 * MIB)


# --- out of memory


def test_an_oom_kill_is_told(make: Make, client: Any) -> None:
    since = int(time.time()) - 1
    container = make(["tail", "/dev/zero"], mem_limit="16m", memswap_limit="16m")
    assert container.wait(timeout=60)["StatusCode"] == 137
    container.reload()
    assert container.attrs["State"]["OOMKilled"] is True
    events = client.events(decode=True, since=since, until=int(time.time()) + 1, filters={"container": container.id})
    actions = [event["Action"] for event in events]
    assert actions.index("oom") < actions.index("die")


def test_a_kill_is_not_an_oom_kill(make: Make) -> None:
    container = make(mem_limit="16m")
    container.kill()
    assert container.wait(timeout=30)["StatusCode"] == 137
    container.reload()
    assert container.attrs["State"]["OOMKilled"] is False


# --- devices


def test_only_the_usual_devices_open(client: Any, busybox: str) -> None:
    script = (
        "for d in null zero full random urandom tty ptmx; do true < /dev/$d || echo no $d; done;"
        "mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg"
    )
    assert run(client, busybox, script, cap_add=["SYSLOG"]) in {
        "head: /tmp/kmsg: Operation not permitted",
        # without a terminal, /dev/tty has no device behind it
        "sh: can't open /dev/tty: No such device or address\nno tty\nhead: /tmp/kmsg: Operation not permitted",
    }


def test_a_device_is_there_as_asked(client: Any, busybox: str) -> None:
    script = "head -c1 /dev/log-of-kernel >/dev/null && echo read; true > /dev/log-of-kernel && echo write"
    seen = run(client, busybox, script, devices=["/dev/kmsg:/dev/log-of-kernel:r"], cap_add=["SYSLOG"])
    assert seen.splitlines()[0] == "read"
    assert "operation not permitted" in seen.lower()
    assert "write" not in seen.splitlines()


def test_a_device_rule_allows_what_it_says(client: Any, busybox: str) -> None:
    script = "mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg >/dev/null && echo read; true > /tmp/kmsg && echo write"
    seen = run(client, busybox, script, device_cgroup_rules=["c 1:11 rm"], cap_add=["SYSLOG"]).splitlines()
    assert seen[0] == "read"
    assert "write" not in seen


def test_a_privileged_container_has_all_devices(client: Any, busybox: str) -> None:
    assert run(client, busybox, ": > /dev/kmsg && echo write", privileged=True) == "write"


# --- freezer and kill


def test_pause_stops_and_unpause_goes_on(make: Make) -> None:
    container = make(["sh", "-c", "while :; do echo x; sleep 0.05; done"])
    container.pause()
    container.reload()
    assert container.status == "paused"
    assert container.attrs["State"]["Paused"] is True
    before = container.logs()
    with pytest.raises(docker.errors.APIError, match="is paused"):
        container.exec_run("true")
    assert container.logs() == before
    container.unpause()
    deadline = time.monotonic() + 30
    while container.logs() == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_paused_container_is_removed_by_force(make: Make) -> None:
    container = make()
    groups = groups_of(container)
    container.pause()
    container.remove(force=True)
    assert not [path for path in groups if path.exists()]


def test_all_processes_end_with_the_first(make: Make) -> None:
    container = make(["sh", "-c", "for i in 1 2 3 4 5; do setsid sleep 1000 & done; wait"])
    deadline = time.monotonic() + 30
    while len(container.top()["Processes"]) < 6:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    groups = groups_of(container)
    pids = [pid for path in groups[:1] for pid in (path / "cgroup.procs").read_text().split()]
    assert len(pids) == 6
    container.kill()
    container.wait(timeout=30)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert not [path for path in groups if path.exists()]


# --- figures


def test_figures_of_a_running_container(make: Make) -> None:
    script = "dd if=/dev/zero of=/dev/shm/data bs=1M count=8 2>/dev/null; while :; do :; done"
    container = make(["sh", "-c", script], mem_limit="64m", pids_limit=50, nano_cpus=200_000_000)
    deadline = time.monotonic() + 60
    while True:
        stats = container.stats(stream=False)
        if stats["memory_stats"]["usage"] >= 8 * MIB and stats["cpu_stats"]["throttling_data"]["throttled_periods"]:
            break
        assert time.monotonic() < deadline
    assert stats["memory_stats"]["limit"] == 64 * MIB
    assert ("inactive_file" if V2 else "total_inactive_file") in stats["memory_stats"]["stats"]
    assert stats["pids_stats"] == {"current": 1, "limit": 50}
    now, before = stats["cpu_stats"], stats["precpu_stats"]
    assert now["cpu_usage"]["total_usage"] > before["cpu_usage"]["total_usage"] > 0
    assert now["system_cpu_usage"] > before["system_cpu_usage"] > 0
    assert now["online_cpus"] == os.cpu_count()
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    machine = now["system_cpu_usage"] - before["system_cpu_usage"]
    assert 0 < used / machine * now["online_cpus"] < 0.9  # a fifth of a CPU, with room for a busy machine
    assert container.top()["Processes"]


# --- labels


@pytest.mark.skipif(not lsm.apparmor_enabled(), reason="this kernel has no AppArmor")
class TestAppArmor:
    """On a host that has it."""

    def test_the_default_profile_confines(self, client: Any, busybox: str, make: Make) -> None:
        assert run(client, busybox, "cat /proc/self/attr/current") == "docker-default (enforce)"
        assert make().attrs["AppArmorProfile"] == "docker-default"
        denied = run(client, busybox, "mount -t tmpfs none /tmp", cap_add=["SYS_ADMIN"])
        assert "denied" in denied.lower()

    def test_exec_is_confined_too(self, make: Make) -> None:
        code, output = make().exec_run("cat /proc/self/attr/current")
        assert (code, output) == (0, b"docker-default (enforce)\n")

    def test_unconfined_and_privileged(self, client: Any, busybox: str) -> None:
        for options in ({"security_opt": ["apparmor=unconfined"]}, {"privileged": True}):
            assert run(client, busybox, "cat /proc/self/attr/current", **options) == "unconfined"

    def test_a_profile_that_is_not_loaded(self, client: Any, busybox: str) -> None:
        with pytest.raises(docker.errors.APIError, match="windlass-missing"):
            run(client, busybox, "true", security_opt=["apparmor=windlass-missing"])


@pytest.mark.skipif(lsm.apparmor_enabled(), reason="this kernel has AppArmor")
def test_a_label_that_the_host_does_not_have_is_an_error(client: Any, busybox: str) -> None:
    with pytest.raises(docker.errors.APIError, match=r"(?i)apparmor is not enabled"):
        run(client, busybox, "true", security_opt=["apparmor=custom"])
