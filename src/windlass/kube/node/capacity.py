"""What the machine has: processors, memory, disk, and how it describes itself.

Source: https://kubernetes.io/docs/reference/node/node-status/
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass import __version__
from windlass.kernel import capabilities
from windlass.kube.node.thresholds import MEMORY, NODE_DISK, Threshold

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Sizes in bytes.

    `kept_memory` and `kept_disk` are not for pods: below them, pods are evicted.
    `lowest_oom_score` is what processes may be given: a host's own container, say, lowers none below its own.
    """

    cpus: int
    memory: int
    disk: int
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    kept_memory: int = 0
    kept_disk: int = 0
    lowest_oom_score: int = -1000

    def capacity(self, max_pods: int) -> dict[str, str]:
        """`status.capacity` of the Node."""
        return {
            "cpu": str(self.cpus),
            "ephemeral-storage": f"{self.disk >> 10}Ki",
            "hugepages-1Gi": "0",
            "hugepages-2Mi": "0",
            "memory": f"{self.memory >> 10}Ki",
            "pods": str(max_pods),
        }

    def allocatable(self, max_pods: int) -> dict[str, str]:
        """`status.allocatable`: what is left for pods when what keeps the node going is kept free."""
        return {
            **self.capacity(max_pods),
            "ephemeral-storage": str(max(self.disk - self.kept_disk, 0)),
            "memory": f"{max(self.memory - self.kept_memory, 0) >> 10}Ki",
        }

    def node_info(self) -> Object:
        """`status.nodeInfo`."""
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        return {
            "architecture": machine,
            "bootID": self.boot_id,
            "containerRuntimeVersion": f"windlass://{__version__}",
            "kernelVersion": self.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": f"v1.37.0+windlass{__version__}",
            "machineID": self.machine_id,
            "operatingSystem": "linux",
            "osImage": self.os_image,
            "systemUUID": self.system_uuid,
        }


def look(directory: Path, eviction: Sequence[Threshold] = ()) -> Machine:
    """Look at this machine; the disk is the one below `directory`. Blocking."""
    space = os.statvfs(directory)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = space.f_blocks * space.f_frsize
    kept = {each.signal: each for each in eviction}
    machine_id = _read("/etc/machine-id")
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory=memory,
        disk=disk,
        kept_memory=kept[MEMORY].value(memory) if MEMORY in kept else 0,
        kept_disk=kept[NODE_DISK].value(disk) if NODE_DISK in kept else 0,
        machine_id=machine_id,
        system_uuid=_read("/sys/class/dmi/id/product_uuid") or machine_id,
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        kernel=platform.release(),
        os_image=_pretty_name(),
        lowest_oom_score=_lowest_oom_score(),
    )


def _lowest_oom_score() -> int:
    if "CAP_SYS_RESOURCE" in capabilities.names_of(capabilities.get_sets().effective):
        return -1000
    return int(_read("/proc/self/oom_score_adj") or 0)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _pretty_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
