"""Whoever is killed at whatever moment: the container is known or cleanly absent, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_bundles import Bundle, oci_config

from windlass.kernel.cgroups import open_cgroup
from windlass.logs.reading import open_reader
from windlass.runtime.client import Launcher, LaunchError, Monitor, NoMonitor, read_exit

pytestmark = pytest.mark.root

NewBundle = Callable[..., Bundle]


def with_slow_hook(bundle: Bundle, args: list[str]) -> Path:
    """A bundle whose creation stands still in a hook until the file `go` is there."""
    config = oci_config(args, cgroup=bundle.cgroup)
    script = f"touch {bundle.directory}/in-hook; while ! test -e {bundle.directory}/go; do sleep 0.02; done"
    config["hooks"] = {
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]
    }
    return bundle.write(args, config=config)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def title(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    return ""


def monitor_of(launcher: Launcher, bundle: Bundle) -> int:
    return next(pid for pid in children(launcher.pid) if title(pid) == f"windlass-monitor {bundle.id[:12]}")


def is_gone(bundle: Bundle) -> bool:
    return not open_cgroup(bundle.cgroup).exists() and not (bundle.directory / "monitor.sock").exists()


async def test_a_builder_that_is_killed_is_a_failed_launch(launcher: Launcher, new_bundle: NewBundle) -> None:
    bundle = new_bundle()
    launching = asyncio.create_task(launcher.launch(with_slow_hook(bundle, ["sleep", "1000"])))
    await until((bundle.directory / "in-hook").exists)
    (builder,) = [pid for pid in children(monitor_of(launcher, bundle)) if title(pid).startswith("windlass-builder")]
    os.kill(builder, signal.SIGKILL)
    with pytest.raises(LaunchError, match="has died"):
        await launching
    assert is_gone(bundle)
    assert read_exit(bundle.directory) is None
    (bundle.directory / "go").touch()  # the hook, an orphan now
    again = await launcher.launch(bundle.write(["true"]))
    assert (await again.wait()).exit_code == 0


async def test_a_monitor_that_is_killed_during_the_launch_leaves_nothing(
    launcher: Launcher, new_bundle: NewBundle
) -> None:
    bundle = new_bundle()
    launching = asyncio.create_task(launcher.launch(with_slow_hook(bundle, ["sleep", "1000"])))
    await until((bundle.directory / "in-hook").exists)
    os.kill(monitor_of(launcher, bundle), signal.SIGKILL)
    (bundle.directory / "go").touch()
    with pytest.raises(LaunchError):
        await launching
    await until(lambda: is_gone(bundle))


async def test_a_launch_goes_on_without_the_daemon_and_is_found(exec_root: Path, new_bundle: NewBundle) -> None:
    bundle = new_bundle()
    first = await Launcher.start(exec_root)
    launching = asyncio.create_task(first.launch(with_slow_hook(bundle, ["sleep", "1000"])))
    await until((bundle.directory / "in-hook").exists)
    launching.cancel()  # as if the daemon had died: its end of the connection is closed
    with contextlib.suppress(asyncio.CancelledError):
        await launching
    await first.close()
    connecting = asyncio.create_task(Monitor.connect(bundle.directory))
    (bundle.directory / "go").touch()
    monitor = await connecting
    assert monitor.pid > 0
    await monitor.signal(signal.SIGKILL)
    assert (await monitor.wait()).exit_code == 137


async def test_a_launcher_that_is_killed_before_it_forks_costs_nothing(
    launcher: Launcher, new_bundle: NewBundle
) -> None:
    bundles = [new_bundle() for _ in range(4)]
    os.kill(launcher.pid, signal.SIGSTOP)
    launches = [asyncio.create_task(launcher.launch(bundle.write(["true"]))) for bundle in bundles]
    await asyncio.sleep(0.05)
    os.kill(launcher.pid, signal.SIGKILL)
    for monitor in await asyncio.gather(*launches):
        assert (await monitor.wait()).exit_code == 0


async def test_kills_at_random_moments(launcher: Launcher, new_bundle: NewBundle) -> None:
    """Launcher, monitors and builders are killed while containers are being started: each ends in a known way."""

    async def one(number: int) -> str:
        bundle = new_bundle()
        try:
            monitor = await launcher.launch(
                bundle.write(["sh", "-c", f"echo {number}; sleep 0.0{number % 5}; exit {number}"])
            )
        except LaunchError:
            await until(lambda: is_gone(bundle))
            return "failed"
        status = await monitor.wait()
        assert status.exit_code == number or (status.exit_code == 137 and "died" in status.error)
        await until(lambda: is_gone(bundle))
        if status.exit_code == number:
            assert bundle.logged() == [("stdout", f"{number}\n")]
            return "ran"
        return "killed"

    async def kill() -> None:
        for number in range(12):
            await asyncio.sleep(0.013 * (1 + number % 3))
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                monitors = children(launcher.pid)
                builders = [pid for parent in monitors for pid in children(parent) if "builder" in title(pid)]
                # The launcher rarely, because it takes a while to begin anew.
                victims = [launcher.pid] if number in (3, 9) else [*monitors, *builders]
                if victims:
                    os.kill(victims[number * 7 % len(victims)], signal.SIGKILL)

    results, _ = await asyncio.gather(asyncio.gather(*(one(number) for number in range(30))), kill())
    assert set(results) <= {"ran", "failed", "killed"}
    assert results.count("ran") > 0


async def test_out_of_memory_is_noticed(launcher: Launcher, new_bundle: NewBundle) -> None:
    bundle = new_bundle()
    config = oci_config(["tail", "/dev/zero"], cgroup=bundle.cgroup)
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/dev"]
    config["process"]["args"] = ["sh", "-c", "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"]
    config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    monitor = await launcher.launch(bundle.write([], config=config))
    seen: list[dict[str, Any]] = []

    async def listen() -> None:
        async for event in monitor.events():
            seen.append(event)

    listening = asyncio.create_task(listen())
    status = await monitor.wait()
    await listening
    assert (status.exit_code, status.oom_killed) == (137, True)
    assert seen[-1]["event"] == "exit"


async def test_a_flood_is_rotated_compressed_and_read_back(launcher: Launcher, new_bundle: NewBundle) -> None:
    bundle = new_bundle()
    options = {"max-size": "300k", "max-file": "50", "compress": "true"}
    log = {"driver": "json-file", "options": options, "path": str(bundle.log), "attrs": {"a": "b"}}
    monitor = await launcher.launch(bundle.write(["seq", "30000"], log=log))
    ended = asyncio.Event()

    async def follow() -> list[bytes]:
        reader = open_reader("json-file", options, str(bundle.log))
        return [entry.line async for batch in reader.read(follow=True, ended=ended) for entry in batch]

    following = asyncio.create_task(follow())
    assert (await monitor.wait()).exit_code == 0
    ended.set()
    expected = [b"%d\n" % number for number in range(1, 30001)]
    assert await following == expected
    reader = open_reader("json-file", options, str(bundle.log))
    assert [entry.line async for batch in reader.read() for entry in batch] == expected
    assert not [name for name in os.listdir(bundle.log.parent) if name.endswith((".tmp", ".new"))]


async def test_a_flood_does_not_keep_others_from_starting(launcher: Launcher, new_bundle: NewBundle) -> None:
    noisy = await launcher.launch(new_bundle().write(["yes"]))
    for _ in range(3):
        quiet = await launcher.launch(new_bundle().write(["true"]))
        assert (await quiet.wait()).exit_code == 0
    await noisy.signal(signal.SIGKILL)
    assert (await noisy.wait()).exit_code == 137


async def test_a_container_is_launched_again_and_again(launcher: Launcher, new_bundle: NewBundle) -> None:
    bundle = new_bundle()
    for number in range(10):
        monitor = await launcher.launch(bundle.write(["sh", "-c", f"echo {number}"]))
        assert (await monitor.wait()).exit_code == 0
    assert bundle.logged() == [("stdout", f"{number}\n") for number in range(10)]


async def test_no_crash_notes_and_titles_that_tell(launcher: Launcher, new_bundle: NewBundle) -> None:
    bundle = new_bundle()
    monitor = await launcher.launch(bundle.write(["sleep", "1000"]))
    state = json.loads((bundle.directory / "state.json").read_text())
    assert title(state["monitorPid"]) == f"windlass-monitor {bundle.id[:12]}"
    assert title(launcher.pid) == "windlass-launcher"
    await monitor.signal(signal.SIGKILL)
    await monitor.wait()
    assert not (bundle.directory / "monitor.crash").exists()
    with pytest.raises(NoMonitor):
        await Monitor.connect(bundle.directory)
