"""cgroup v2 with all controllers, as most hosts have it: the tests of the live kernel run there unchanged."""

from __future__ import annotations

import pytest
from harness import pytest_in_vm

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(400)]


def test_the_cgroup_suite_passes_with_v2_alone() -> None:
    tests = pytest_in_vm(["tests/unit/kernel/test_cgroups_live.py"])
    assert not tests.failed, tests.result.output
    assert tests.result.exit_code == 0, tests.result.output
    # Nothing may be skipped for want of a controller: that is what the machine is for.
    reasons = "\n".join(tests.skipped.values())
    assert "no controller" not in reasons
    assert len(tests.passed) >= 38


def test_the_cgroup_suite_passes_with_v1_as_systemd_mounts_it() -> None:
    """Controllers in pairs (cpu,cpuacct), and no v2 hierarchy to lean on."""
    tests = pytest_in_vm(["tests/unit/kernel/test_cgroups_live.py"], cgroup="v1")
    assert not tests.failed, tests.result.output
    assert tests.result.exit_code == 0, tests.result.output
    assert len(tests.passed) >= 35
