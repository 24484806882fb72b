"""The engine with cgroup v2 and AppArmor: limits, devices, freezer, kill, figures, out of memory and labels."""

from __future__ import annotations

import pytest
from harness import VmTests

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(500)]

SELECTION = "tests/acceptance/test_limits.py"


def test_the_acceptance_suite_passes_with_v2_and_apparmor(v2: VmTests) -> None:
    tests = v2.of(SELECTION)
    assert not tests.failed, tests.result.output
    assert set(tests.skipped.values()) <= {"this kernel has AppArmor"}
    assert len(tests.passed) >= 28
