"""Control groups on other hosts than this one: the tests of the live kernel run there unchanged."""

from __future__ import annotations

import pytest
from harness import VmTests, pytest_in_vm

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(500)]

SELECTION = "tests/unit/kernel/test_cgroups_live.py"


def test_the_cgroup_suite_passes_with_v2_alone(v2: VmTests) -> None:
    tests = v2.of(SELECTION)
    assert not tests.failed, tests.result.output
    # Nothing may be skipped for want of a controller: that is what the machine is for.
    assert "no controller" not in "\n".join(tests.skipped.values())
    assert len(tests.passed) >= 40


def test_the_cgroup_suite_passes_with_v1_as_systemd_mounts_it() -> None:
    """Controllers in pairs (cpu,cpuacct), and no v2 hierarchy to lean on."""
    tests = pytest_in_vm([SELECTION], cgroup="v1")
    assert not tests.failed, tests.result.output
    assert tests.result.exit_code == 0, tests.result.output
    assert len(tests.passed) >= 35
