"""Containers on Debian's kernel with cgroup v2: the tests of the live runtime run there unchanged."""

from __future__ import annotations

import pytest
from harness import VmTests

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(500)]

SELECTION = "tests/unit/runtime/test_container_live.py"


def test_the_runtime_suite_passes_on_debian_s_kernel(v2: VmTests) -> None:
    tests = v2.of(SELECTION)
    assert not tests.failed, tests.result.output
    assert len(tests.passed) >= 55
