"""Documents as clients send them, decoded and checked, for the tables of this room's tests."""

from __future__ import annotations

from typing import Any

import pytest

from windlass.engine.host import HostFacts
from windlass.engine.runtimes import Runtime
from windlass.engine.security import DEFAULT_CAPABILITIES
from windlass.engine.shapes import decode_create
from windlass.engine.validate import check_create
from windlass.errors import InvalidParameter

KERNEL_CAPABILITIES = [*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE"]
AVAILABLE_CAPABILITIES = KERNEL_CAPABILITIES[:-1]

HOST = HostFacts(cgroup_version="1", cpus="0-3", mems="0", cpu_count=4)


class Checked:
    """A create request after the checks."""

    def __init__(self, body: dict[str, Any], host: HostFacts = HOST) -> None:
        self.config, self.host_config, self.endpoints = decode_create({"Image": "busybox", "Cmd": ["true"]} | body)
        self.warnings = check_create(
            self.config,
            self.host_config,
            self.endpoints,
            host=host,
            capabilities=(KERNEL_CAPABILITIES, AVAILABLE_CAPABILITIES),
            runtimes=find_runtime,
        )


def find_runtime(name: str) -> Runtime:
    """Only one runtime exists here."""
    if name != "windlass":
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")
    return Runtime(name)


@pytest.fixture
def host() -> HostFacts:
    """A host that can do everything that v1 control groups can."""
    return HOST


@pytest.fixture
def checked() -> type[Checked]:
    """Makes checked requests."""
    return Checked
