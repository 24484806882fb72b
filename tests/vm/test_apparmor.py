"""AppArmor, on a kernel that enforces it: the tests of the label module run there without one of them skipped."""

from __future__ import annotations

import pytest
from harness import VmTests

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(500)]

SELECTION = "tests/unit/kernel/test_lsm.py"


def test_profiles_are_loaded_and_enforced(v2: VmTests) -> None:
    tests = v2.of(SELECTION)
    assert not tests.failed, tests.result.output
    # What is skipped there is what can only be seen without AppArmor.
    assert set(tests.skipped.values()) <= {"this kernel has AppArmor"}
    assert len(tests.passed) >= 70
