"""A control plane for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.controlplane import ControlPlane


@pytest.fixture
async def plane() -> AsyncIterator[ControlPlane]:
    """Nothing in it yet, no controller running."""
    made = ControlPlane()
    await made.start()
    yield made
    await made.stop()
