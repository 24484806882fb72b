"""The known escapes, tried on Debian's kernel with cgroup v2."""

from __future__ import annotations

import pytest
from harness import VmTests

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(500)]

SELECTION = "tests/acceptance/test_escapes.py"


def test_no_escape_succeeds_on_debian_s_kernel(v2: VmTests) -> None:
    tests = v2.of(SELECTION)
    assert not tests.failed, tests.result.output
    assert len(tests.passed) >= 70
