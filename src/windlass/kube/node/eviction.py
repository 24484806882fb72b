"""Which pod has to go first when a node is short of something, and what it is told. Pure.

    memory, disk     who uses more than it asked for; then the lower priority; then who uses most beyond its request
    inodes           the same, with requests of none        pids      the lower priority, then who has most processes

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from windlass.kube.api import quantity
from windlass.kube.api.nodeselection import tolerates
from windlass.kube.api.quantity import Quantity
from windlass.kube.node import mirrors, resources
from windlass.kube.node.resources import BEST_EFFORT
from windlass.kube.node.thresholds import MEMORY_PRESSURE, SIGNALS, Observation, Threshold

Object = dict[str, Any]

REASON: Final = "Evicted"
DISK: Final = "ephemeral-storage"
_CRITICAL_PRIORITY: Final = 2_000_000_000
_PRESSURE_TAINT: Final = ("node.kubernetes.io/memory-pressure", "", "NoSchedule")


@dataclass(frozen=True, kw_only=True)
class ContainerUse:
    """Bytes: `memory` without what can be given back, `disk` what it wrote and its log."""

    memory: int = 0
    disk: int = 0


@dataclass(frozen=True, kw_only=True)
class PodUse:
    """What a pod uses. `volumes` are the bytes of its emptyDirs by name, `in_memory` those that are no files."""

    memory: int = 0
    inodes: int = 0
    processes: int = 0
    containers: Mapping[str, ContainerUse] = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)
    in_memory: frozenset[str] = frozenset()

    @property
    def disk(self) -> int:
        """Bytes on the node's disks."""
        files = sum(size for name, size in self.volumes.items() if name not in self.in_memory)
        return files + sum(each.disk for each in self.containers.values())

    def of(self, resource: str) -> int:
        """By the resource's name."""
        known = {"memory": self.memory, DISK: self.disk, "inodes": self.inodes, "pids": self.processes}
        return known[resource]


def is_critical(pod: Object) -> bool:
    """Whether a pod is never evicted: the node's own, and those of the system's priorities."""
    return mirrors.is_static(pod) or (pod["spec"].get("priority") or 0) >= _CRITICAL_PRIORITY


def rank(pods: Iterable[Object], uses: Mapping[str, PodUse], resource: str) -> list[Object]:
    """The pods in the order in which they go; `uses` by UID."""

    def place(pod: Object) -> tuple[bool, int, int]:
        used = uses.get(pod["metadata"]["uid"], PodUse()).of(resource)
        asked = 0
        if resource in ("memory", DISK):
            asked = resources.pod_total(pod["spec"], "requests", resource)[0].value
        within = resource != "pids" and used <= asked
        return within, pod["spec"].get("priority") or 0, asked - used

    return sorted(pods, key=place)


def message(
    pod: Object, use: PodUse, resource: str, threshold: Threshold | None = None, observed: Observation | None = None
) -> str:
    """What an evicted pod is told."""
    found = f"The node was low on resource: {resource}. "
    if threshold is not None and observed is not None:
        quantities = (threshold.value(observed.capacity), observed.available)
        needed, left = (_amount(each, threshold.signal) for each in quantities)
        found += f"Threshold quantity: {needed}, available: {left}. "
    if resource not in ("memory", DISK):
        return found
    for container in resources.containers(pod["spec"]):
        its = use.containers.get(container["name"])
        if its is None:
            continue
        used = its.memory if resource == "memory" else its.disk
        asked = resources.amount(container.get("resources"), "requests", resource)
        if used > asked.value:
            shown = Quantity(used * 10**9, "binary")
            found += (
                f"Container {container['name']} was using {shown}, request is {asked}, "
                f"has larger consumption of {resource}. "
            )
    return found


def _amount(number: int, signal: str) -> Quantity:
    family = "decimal" if SIGNALS[signal].resource in ("inodes", "pids") else "binary"
    return Quantity(number * 10**9, family)


def beyond_limits(pod: Object, use: PodUse) -> str:
    """Why a pod has to go for the disk that it uses itself, "" where it keeps its limits."""
    for volume in pod["spec"].get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit is None or quantity.parse(limit).value <= 0:
            continue
        if use.volumes.get(volume["name"], 0) > quantity.parse(limit).value:
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{quantity.parse(limit)}". '
    total = resources.pod_total(pod["spec"], "limits", DISK)[0]
    if total.nano and use.disk > total.value:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
    for container in pod["spec"].get("containers") or ():
        limit = ((container.get("resources") or {}).get("limits") or {}).get(DISK)
        its = use.containers.get(container["name"])
        if limit is not None and its is not None and its.disk > quantity.parse(limit).value:
            return (
                f'Container {container["name"]} exceeded its local ephemeral storage limit "{quantity.parse(limit)}". '
            )
    return ""


def has_limits(pod: Object) -> bool:
    """Whether a pod's use of disk has to be measured for its own limits."""
    if any((each.get("emptyDir") or {}).get("sizeLimit") for each in pod["spec"].get("volumes") or ()):
        return True
    holders = (pod["spec"], *resources.containers(pod["spec"]))
    return any(DISK in ((each.get("resources") or {}).get("limits") or {}) for each in holders)


def refusal(pod: Object, qos: str, conditions: Sequence[str]) -> tuple[str, str] | None:
    """Why a node in these conditions takes no such pod, reason and message; None where it does."""
    if not conditions or is_critical(pod):
        return None
    tolerations = pod["spec"].get("tolerations") or ()
    if list(conditions) == [MEMORY_PRESSURE] and (qos != BEST_EFFORT or tolerates(tolerations, _PRESSURE_TAINT)):
        return None
    return REASON, f"The node had condition: [{' '.join(conditions)}]. "
