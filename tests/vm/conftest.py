"""Virtual machines need QEMU and Debian's packages: without them these tests say so and are skipped.

A boot takes longer than most tests, so those that ask for the same kind of machine share one: a module says with
`SELECTION` which file of tests is to be run with cgroup v2 and AppArmor, and finds the outcome in the fixture `v2`.
"""

from __future__ import annotations

import shutil

import harness  # not its function by name: pytest takes what begins with its own name in a conftest for a hook
import pytest

_PROGRAMS = ("qemu-system-x86_64", "apt-get", "dpkg-deb", "busybox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not missing:
        return
    for item in items:
        if "vm" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=f"no {', '.join(missing)} here"))


@pytest.fixture(scope="session")
def v2(request: pytest.FixtureRequest) -> harness.VmTests:
    """All selections of this run, in one machine."""
    modules = {item.module for item in request.session.items if isinstance(item, pytest.Function)}
    selections = sorted({module.SELECTION for module in modules if hasattr(module, "SELECTION")})
    return harness.pytest_in_vm(selections, 400)
