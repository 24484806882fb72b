"""Virtual machines need QEMU and Debian's packages: without them these tests say so and are skipped."""

from __future__ import annotations

import shutil

import pytest

_PROGRAMS = ("qemu-system-x86_64", "apt-get", "dpkg-deb", "busybox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not missing:
        return
    for item in items:
        if "vm" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=f"no {', '.join(missing)} here"))
