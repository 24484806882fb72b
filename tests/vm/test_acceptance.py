"""The engine with cgroup v2 and AppArmor: limits, devices, freezer, kill, figures, out of memory and labels."""

from __future__ import annotations

import pytest
from harness import pytest_in_vm

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(500)]


def test_the_acceptance_suite_passes_with_v2_and_apparmor() -> None:
    tests = pytest_in_vm(["tests/acceptance/test_limits.py"], 300)
    assert not tests.failed, tests.result.output
    assert tests.result.exit_code == 0, tests.result.output
    assert set(tests.skipped.values()) <= {"this kernel has AppArmor"}
    assert len(tests.passed) >= 28
