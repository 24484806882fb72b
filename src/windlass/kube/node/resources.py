"""Requests and limits as the kernel counts them: shares, quotas, bytes, and who goes first when memory is short. Pure.

Source: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/ and
https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from windlass.kube.api import quantity
from windlass.kube.api.quantity import ZERO, Quantity

Object = dict[str, Any]

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"
PERIOD_MICROSECONDS: Final = 100_000
_LEAST_SHARES, _MOST_SHARES = 2, 262_144
_LEAST_QUOTA = 1000
_CRITICAL_PRIORITY = 2_000_000_000


class Limits(NamedTuple):
    """What a control group gets; None is no limit.

    Attributes:
        shares: cgroup v1's cpu.shares.
        quota: microseconds of processor time in each period, -1 for no limit.
        memory: bytes, 0 for no limit.
    """

    shares: int
    quota: int
    memory: int


def amount(resources: Mapping[str, Any] | None, side: str, name: str) -> Quantity:
    """A request or limit, zero where there is none. `side` is "requests" or "limits"."""
    value = ((resources or {}).get(side) or {}).get(name)
    return ZERO if value is None else quantity.parse(value)


def has(resources: Mapping[str, Any] | None, side: str, name: str) -> bool:
    """Whether it is said at all."""
    return name in ((resources or {}).get(side) or {})


def containers(spec: Mapping[str, Any]) -> Iterator[Object]:
    """All containers but the ephemeral ones."""
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Whether an init container goes on beside the others."""
    return container.get("restartPolicy") == "Always"


def shares(milli: int) -> int:
    """cpu.shares for thousandths of a processor."""
    return min(max(milli * 1024 // 1000, _LEAST_SHARES), _MOST_SHARES)


def quota(milli: int) -> int:
    """Microseconds in each period for thousandths of a processor; -1 for none."""
    return max(milli * PERIOD_MICROSECONDS // 1000, _LEAST_QUOTA) if milli > 0 else -1


def container_limits(container: Mapping[str, Any]) -> Limits:
    """Of one container."""
    wanted = container.get("resources")
    cpu = amount(wanted, "requests", "cpu")
    if not has(wanted, "requests", "cpu"):
        cpu = amount(wanted, "limits", "cpu")
    return Limits(
        shares(cpu.milli),
        quota(amount(wanted, "limits", "cpu").milli),
        amount(wanted, "limits", "memory").value,
    )


def _sum(spec: Mapping[str, Any], side: str, name: str) -> tuple[Quantity, bool]:
    """What the pod's containers need together, and whether each of them says so.

    Containers that run at once are added up; an init container runs with the sidecars that were started before it.
    """
    running, complete = ZERO, True
    for each in spec.get("containers") or ():
        running = running.plus(amount(each.get("resources"), side, name))
        complete = complete and has(each.get("resources"), side, name)
    sidecars, peak = ZERO, ZERO
    for each in spec.get("initContainers") or ():
        own = amount(each.get("resources"), side, name)
        complete = complete and has(each.get("resources"), side, name)
        if is_sidecar(each):
            sidecars = sidecars.plus(own)
            peak = max(peak, sidecars, key=lambda found: found.nano)
        else:
            peak = max(peak, sidecars.plus(own), key=lambda found: found.nano)
    total = max(running.plus(sidecars), peak, key=lambda found: found.nano)
    return total, complete


def pod_total(spec: Mapping[str, Any], side: str, name: str) -> tuple[Quantity, bool]:
    """A pod's request or limit with its overhead, and whether it is one that can be held the pod to."""
    own = spec.get("resources")
    found, complete = (amount(own, side, name), True) if has(own, side, name) else _sum(spec, side, name)
    overhead = (spec.get("overhead") or {}).get(name)
    # It makes no limit where there was none.
    if overhead is None or (side == "limits" and not found.nano):
        return found, complete
    return found.plus(quantity.parse(overhead)), complete


def pod_limits(spec: Mapping[str, Any]) -> Limits:
    """Of the control group around all containers."""
    cpu, _ = pod_total(spec, "requests", "cpu")
    cpu_limit, cpu_limited = pod_total(spec, "limits", "cpu")
    memory, memory_limited = pod_total(spec, "limits", "memory")
    return Limits(
        shares(cpu.milli),
        quota(cpu_limit.milli) if cpu_limited else -1,
        memory.value if memory_limited else 0,
    )


def oom_score(pod: Mapping[str, Any], container: Mapping[str, Any], qos: str, capacity: int) -> int:
    """How soon a container's processes go when memory is short: -997 last, 1000 first. `capacity` in bytes."""
    if (pod["spec"].get("priority") or 0) >= _CRITICAL_PRIORITY or qos == GUARANTEED:
        return -997
    if qos == BEST_EFFORT:
        return 1000
    request = amount(container.get("resources"), "requests", "memory").value
    return min(max(1000 - 1000 * request // max(capacity, 1), 3), 999)
