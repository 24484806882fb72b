"""Snapshots: layers unpacked once, and the writable roots of containers over them; one file a storage driver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from windlass.images.layering.driver import Driver
from windlass.images.layering.overlay import OverlayDriver

DRIVERS: Final[dict[str, Callable[[Path], Driver]]] = {"overlay2": OverlayDriver}
"""Docker's name of each driver, and what makes one for a directory."""
