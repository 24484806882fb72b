"""The tmpfs that several containers have as /dev/shm. See shm_overview(7)."""

from __future__ import annotations

import os

from windlass.errors import SystemFailure
from windlass.kernel import mounts
from windlass.kernel.mounts import Mount


def mount_shared_memory(target: str, size: int) -> None:
    """Make `target` a tmpfs of `size` bytes. Blocking. Raises SystemFailure."""
    try:
        os.makedirs(target, mode=0o700, exist_ok=True)
        options = ("noexec", "nosuid", "nodev", "mode=1777", f"size={size}")
        mounts.mount_all([Mount("tmpfs", "shm", options)], target)
    except OSError as error:
        raise SystemFailure(f"mounting shm tmpfs: {error}") from error
