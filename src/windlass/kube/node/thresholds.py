"""When a node is short of something: signals, the thresholds below which pods are evicted, and the node's conditions.

    memory.available       100Mi     memory              MemoryPressure
    nodefs.available       10%       ephemeral-storage   DiskPressure
    nodefs.inodesFree      5%        inodes              DiskPressure
    imagefs.available      15%       ephemeral-storage   DiskPressure
    imagefs.inodesFree     5%        inodes              DiskPressure
    pid.available          -         pids                PIDPressure

Pure. Source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from windlass.kube.api import quantity

MEMORY, NODE_DISK, NODE_INODES = "memory.available", "nodefs.available", "nodefs.inodesFree"
IMAGE_DISK, IMAGE_INODES, PIDS = "imagefs.available", "imagefs.inodesFree", "pid.available"
MEMORY_PRESSURE, DISK_PRESSURE, PID_PRESSURE = "MemoryPressure", "DiskPressure", "PIDPressure"


class Signal(NamedTuple):
    """What a signal is about: the resource that messages name, and the node's condition."""

    resource: str
    condition: str


SIGNALS: Final[Mapping[str, Signal]] = {
    MEMORY: Signal("memory", MEMORY_PRESSURE),
    NODE_DISK: Signal("ephemeral-storage", DISK_PRESSURE),
    NODE_INODES: Signal("inodes", DISK_PRESSURE),
    IMAGE_DISK: Signal("ephemeral-storage", DISK_PRESSURE),
    IMAGE_INODES: Signal("inodes", DISK_PRESSURE),
    PIDS: Signal("pids", PID_PRESSURE),
}


class Observation(NamedTuple):
    """How much there is of something, and how much of it is left."""

    capacity: int
    available: int


@dataclass(frozen=True)
class Threshold:
    """`amount` of a resource, or this share of its capacity where `amount` is None."""

    signal: str
    amount: int | None
    share: float = 0.0

    def value(self, capacity: int) -> int:
        """In units of the signal."""
        return self.amount if self.amount is not None else int(capacity * self.share)


DEFAULTS: Final = (
    Threshold(MEMORY, 100 << 20),
    Threshold(NODE_DISK, None, 0.10),
    Threshold(NODE_INODES, None, 0.05),
    Threshold(IMAGE_DISK, None, 0.15),
    Threshold(IMAGE_INODES, None, 0.05),
)


def parse(text: str) -> tuple[Threshold, ...]:
    """kubelet's --eviction-hard: `memory.available<100Mi,nodefs.available<10%`. Raises ValueError."""
    found: list[Threshold] = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        signal, operator, value = part.partition("<")
        if not operator:
            raise ValueError(f"invalid eviction threshold syntax {part}, expected <signal><operator><value>")
        if signal not in SIGNALS:
            raise ValueError(f"unsupported eviction signal {signal}")
        if any(each.signal == signal for each in found):
            raise ValueError(f"found duplicate eviction threshold for signal {signal}")
        if value.endswith("%"):
            share = float(value[:-1]) / 100
            if not 0 <= share <= 1:
                raise ValueError(f"eviction percentage threshold {signal} must be >= 0% and <= 100%: {value}")
            if share:
                found.append(Threshold(signal, None, share))
        else:
            amount = quantity.parse(value).value
            if amount < 0:
                raise ValueError(f"eviction threshold {signal} must be positive: {value}")
            found.append(Threshold(signal, amount))
    return tuple(found)


def met(thresholds: Sequence[Threshold], observed: Mapping[str, Observation]) -> list[Threshold]:
    """Those that are crossed now, the most urgent first: memory, then the others as they were given."""
    found = [
        each
        for each in thresholds
        if (seen := observed.get(each.signal)) is not None and seen.available < each.value(seen.capacity)
    ]
    return sorted(found, key=lambda each: each.signal != MEMORY)


class Conditions:
    """The node's conditions, which stay for a while after what caused them is over."""

    def __init__(self, transition_seconds: float = 300.0) -> None:
        self._seconds = transition_seconds
        self._seen: dict[str, float] = {}

    def update(self, crossed: Sequence[Threshold], now: float) -> list[str]:
        """The conditions that hold now."""
        for each in crossed:
            self._seen[SIGNALS[each.signal].condition] = now
        self._seen = {kind: at for kind, at in self._seen.items() if now - at < self._seconds or at == now}
        return sorted(self._seen)
