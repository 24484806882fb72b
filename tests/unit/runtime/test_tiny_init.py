"""The programs for process 1: that their bytes are what they say, and that the one of `--init` does what it should."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.containers import Running, Workshop, docker_config, temporary_image, temporary_workshop
from windlass.runtime import tiny_init, tiny_pause

pytestmark = pytest.mark.skipif(tiny_init.code() is None, reason="no listing for this machine")


@pytest.mark.skipif(shutil.which("as") is None or shutil.which("objcopy") is None, reason="needs binutils")
@pytest.mark.parametrize("program", [tiny_init, tiny_pause.PROGRAM], ids=["init", "pause"])
def test_the_bytes_are_what_the_listing_says(tmp_path: Path, program: Any) -> None:
    (tmp_path / "init.s").write_text(program.source("x86_64"))
    subprocess.run(["as", "--64", "-o", tmp_path / "init.o", tmp_path / "init.s"], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", tmp_path / "init.o", tmp_path / "init.bin"], check=True)
    assert (tmp_path / "init.bin").read_bytes() == program.code("x86_64")


def test_it_is_written_once_and_whole(tmp_path: Path) -> None:
    path = tiny_init.write(str(tmp_path))
    assert path is not None
    before = os.stat(path)
    assert tiny_init.write(str(tmp_path)) == path
    assert os.stat(path).st_ino == before.st_ino
    assert before.st_mode & 0o777 == 0o755
    Path(path).write_bytes(b"damaged")
    tiny_init.write(str(tmp_path))
    assert Path(path).read_bytes() == tiny_init.executable()
    assert os.listdir(tmp_path) == ["docker-init"]


def test_other_machines_have_none() -> None:
    assert tiny_init.executable("pdp11") is None


# --- in a container


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    with temporary_image() as path:
        tiny_init.write(str(path / "bin"))
        yield path


@pytest.fixture
def workshop(image: Path) -> Iterator[Workshop]:
    with temporary_workshop(image) as made:
        yield made


def start(workshop: Workshop, *args: str, **process: Any) -> Running:
    config = docker_config(["/bin/docker-init", *args])
    config["process"] |= process
    return workshop.start(config)


@pytest.mark.root
@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["true"], 0, ""),
        (["--", "/bin/sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -9 $$"], 128 + 9, ""),
        (["sh", "-c", "kill -TERM $$"], 128 + 15, ""),
        (["no-such-program"], 127, "docker-init: exec no-such-program failed: No such file or directory\n"),
        (["--", "/no/such/program"], 127, "docker-init: exec /no/such/program failed: No such file or directory\n"),
        (["/etc/passwd"], 126, "docker-init: exec /etc/passwd failed: it cannot be executed\n"),
        (["", "x"], 127, "docker-init: exec  failed: No such file or directory\n"),
        (["n" * 9000], 127, None),
        ([], 1, ""),
        (["--"], 1, ""),
    ],
)
def test_it_ends_as_its_program_does(workshop: Workshop, args: list[str], code: int, words: str | None) -> None:
    result = start(workshop, *args).finish()
    assert result.code == code
    if words is not None:
        assert result.stderr == words


@pytest.mark.root
@pytest.mark.parametrize(
    "path", ["/nope:/bin", "/etc/passwd:/bin", ":/bin", "/bin", "/bin:", "/root:/bin/", "n" * 9000]
)
def test_it_searches_the_path(workshop: Workshop, path: str) -> None:
    result = start(workshop, "sh", "-c", "echo $0 $A", env=["X=1", "XPATH=/x", f"PATH={path}", "A=b"]).finish()
    assert (result.code, result.stdout) == ((0, "sh b\n") if len(path) < 9000 else (127, ""))


@pytest.mark.root
def test_without_a_path_variable_nothing_is_found(workshop: Workshop) -> None:
    assert start(workshop, "true", env=["A=b"]).finish().code == 127
    assert start(workshop, "/bin/true", env=[]).finish().code == 0


@pytest.mark.root
def test_the_program_is_another_one_with_no_signal_blocked(workshop: Workshop) -> None:
    result = start(workshop, "sh", "-c", "echo $$; cat /proc/$$/status; ls /proc/1/fd").finish()
    assert result.stdout.split()[0] == "2"
    assert "SigBlk:\t0000000000000000" in result.stdout
    assert result.stdout.split()[-3:] == ["0", "1", "2"]


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGRTMIN + 3])
def test_signals_are_passed_on(workshop: Workshop, number: int) -> None:
    script = f"trap 'echo got; exit 3' {int(number)}; echo up; while :; do sleep 0.01; done"
    running = start(workshop, "sh", "-c", script)
    running.read_until("up")
    running.signal(number)
    result = running.finish()
    assert (result.code, result.stdout) == (3, "got\n")


@pytest.mark.root
def test_orphans_are_reaped(workshop: Workshop) -> None:
    script = """
    for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 & ) ; done
    while [ "$(ps -o comm | grep -c sleep)" != 0 ]; do sleep 0.01; done
    ps -o stat,comm | grep -c '^Z'
    """
    assert start(workshop, "sh", "-c", script).finish().stdout == "0\n"


@pytest.mark.root
def test_it_has_a_terminal_s_foreground_for_its_program(workshop: Workshop) -> None:
    script = "trap 'echo caught; exit 4' INT; echo up; while :; do sleep 0.01; done"
    config = docker_config(["/bin/docker-init", "--", "sh", "-c", script])
    config["process"]["terminal"] = True
    running = workshop.start(config)
    running.read_until("up")
    assert running.process.master is not None
    os.write(running.process.master, b"\x03")
    running.read_until("caught")
    assert running.finish().code == 4
