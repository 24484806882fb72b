"""Snapshots: layers unpacked once, and the writable roots of containers over them; one file a storage driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from windlass.images.snapshots.btrfs import BtrfsDriver
from windlass.images.snapshots.driver import Change, ChangeKind, Driver, Info, layer_name
from windlass.images.snapshots.fuse import FuseOverlayDriver
from windlass.images.snapshots.overlay import OverlayDriver
from windlass.images.snapshots.vfs import VfsDriver

__all__ = ["DRIVERS", "PREFERRED", "Change", "ChangeKind", "Driver", "Info", "layer_name"]

DRIVERS: Final[dict[str, Callable[[str], Driver]]] = {
    "overlay2": OverlayDriver,
    "btrfs": BtrfsDriver,
    "fuse-overlayfs": FuseOverlayDriver,
    "vfs": VfsDriver,
}
"""Docker's name of each driver, and what makes one for a directory."""

PREFERRED: Final = ("overlay2", "fuse-overlayfs", "vfs")
"""What is tried, in this order, where none is asked for."""
