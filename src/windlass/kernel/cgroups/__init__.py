"""Control groups, v1, v2 and hybrid, behind one interface.

with detect() as hierarchy:
    group = open_cgroup("/windlass/x", hierarchy)
    group.create()
    group.apply({"memory": {"limit": 67108864}, "pids": {"limit": 50}})
    group.add(pid)              # or, in the process itself: group.enter()
    group.stats().memory.usage
    group.kill()
    group.remove()

hierarchy   which hierarchies are mounted where
resources   OCI linux.resources → control files and values, pure
devices     OCI device rules → v1's files or v2's program, pure
values      parsers and conversions, pure
group       what the versions have in common        v1, v2   what they have not
freezer     stopping, killing, waiting              features  what this host's controllers can do
"""

from __future__ import annotations

from windlass.kernel.cgroups.devices import container_resources
from windlass.kernel.cgroups.errors import CgroupError
from windlass.kernel.cgroups.features import Features, features
from windlass.kernel.cgroups.group import Cgroup
from windlass.kernel.cgroups.hierarchy import Hierarchy, clean_path, detect
from windlass.kernel.cgroups.stats import BlkioStats, CgroupStats, CpuStats, MemoryStats, PidsStats
from windlass.kernel.cgroups.v1 import CgroupV1
from windlass.kernel.cgroups.v2 import CgroupV2, make_room
from windlass.kernel.cgroups.values import Operation

__all__ = [
    "BlkioStats",
    "Cgroup",
    "CgroupError",
    "CgroupStats",
    "CpuStats",
    "Features",
    "Hierarchy",
    "MemoryStats",
    "Operation",
    "PidsStats",
    "container_resources",
    "detect",
    "features",
    "make_room",
    "open_cgroup",
]


def open_cgroup(path: str, hierarchy: Hierarchy | None = None) -> Cgroup:
    """The group at `path`, absolute (below the mount points) or relative (below our own group). Nothing is made yet.

    Without a `hierarchy` one is detected, whose descriptors live as long as the group; give one where there are many.
    Raises `CgroupError` (EINVAL) on a path with `..` or an impossible name.
    """
    cleaned = clean_path(path)
    hierarchy = hierarchy or detect()
    kind = CgroupV2 if hierarchy.version == "v2" else CgroupV1
    return kind(hierarchy, cleaned, relative=not path.startswith("/"))
