"""The virtual machine itself: what a test that runs in it may rely on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness import VmFailed, run_in_vm

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(200)]

PROGRAM = """
import os, sys
sys.path[:0] = []
import windlass
controllers = open("/sys/fs/cgroup/cgroup.controllers").read().split()
assert {"cpuset", "cpu", "io", "memory", "pids"} <= set(controllers), controllers
assert "apparmor" in open("/sys/kernel/security/lsm").read().split(",")
assert os.getuid() == 0 and os.getpid() != 1
print(open(sys.argv[1]).read())
open("/tmp/answer", "w").write("42")
sys.exit(7)
"""


def test_a_command_runs_with_our_sources_and_its_end_is_reported(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("taken along")
    result = run_in_vm(
        [sys.executable, "-c", PROGRAM, str(given)], 120, files=[given], collect=["/tmp/answer", "/none"]
    )
    assert result.output.strip() == "taken along"
    assert result.exit_code == 7
    assert result.files == {"/tmp/answer": b"42"}


def test_a_machine_that_does_not_end_is_ended() -> None:
    with pytest.raises(VmFailed, match="did not end in time"):
        run_in_vm(["/bin/sleep", "1000"], 3)
