"""AppArmor, on a kernel that enforces it: the tests of the label module run there without one of them skipped."""

from __future__ import annotations

import pytest
from harness import pytest_in_vm

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(300)]


def test_profiles_are_loaded_and_enforced() -> None:
    tests = pytest_in_vm(["tests/unit/kernel/test_lsm.py"])
    assert not tests.failed, tests.result.output
    assert tests.result.exit_code == 0, tests.result.output
    # What is skipped there is what can only be seen without AppArmor.
    assert set(tests.skipped.values()) <= {"this kernel has AppArmor"}
    assert len(tests.passed) >= 70
