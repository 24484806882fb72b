"""Resizing pods in place: what was asked, what the node has granted, and what the kernel holds containers to. Pure.

    spec          what is wanted                        ─ fits? ─▶  allocation      PodResizePending until it does
    allocation    what the pod counts with on the node  ─ apply ─▶  control groups  PodResizeInProgress until it is so

Source: https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from windlass.kube.api import quantity
from windlass.kube.node import admission, resources
from windlass.kube.node.resources import Limits

Object = dict[str, Any]
Allocation = Mapping[str, Object]
"""A container's `resources`, by its name."""

DEFERRED, INFEASIBLE, ERROR = "Deferred", "Infeasible", "Error"
_RESIZABLE: Final = ("cpu", "memory")


class Progress(NamedTuple):
    """Why a resize is not done: a condition's reason and message, and since which generation of the pod."""

    reason: str
    message: str
    generation: int


def resizable(pod: Object) -> Iterator[Object]:
    """The containers that can be resized: those that run side by side."""
    spec = pod["spec"]
    yield from (each for each in spec.get("initContainers") or () if resources.is_sidecar(each))
    yield from spec["containers"]


def wanted(pod: Object) -> dict[str, Object]:
    """What the spec asks for."""
    return {each["name"]: each.get("resources") or {} for each in resizable(pod)}


def granted(pod: Object) -> dict[str, Object]:
    """What the status says that an earlier agent has given; the spec's where it says nothing."""
    found, status = wanted(pod), pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for each in status.get(kind) or ():
            if each["name"] in found and "resources" in each:
                found[each["name"]] = each["resources"]
    return found


def same(one: Object, other: Object) -> bool:
    """Whether two `resources` ask for the same."""
    return all(
        {name: quantity.parse(value).nano for name, value in (one.get(side) or {}).items()}
        == {name: quantity.parse(value).nano for name, value in (other.get(side) or {}).items()}
        for side in ("requests", "limits")
    )


def is_granted(pod: Object, allocation: Allocation) -> bool:
    """Whether the pod has what it asks for."""
    return all(same(given, allocation.get(name) or {}) for name, given in wanted(pod).items())


def allocated(pod: Object, allocation: Allocation) -> Object:
    """The pod with what it was given in the place of what it asks for."""
    if all(each.get("resources", {}) is allocation.get(each["name"]) for each in resizable(pod)):
        return pod

    def given(container: Object) -> Object:
        name = container["name"]
        return {**container, "resources": allocation[name]} if name in allocation else container

    spec = dict(pod["spec"])
    for kind in ("initContainers", "containers"):
        if kind in spec:
            spec[kind] = [given(each) for each in spec[kind]]
    return {**pod, "spec": spec}


def refusal(
    pod: Object, others: Iterable[Object], allocatable: Mapping[str, str], *, is_static: bool
) -> tuple[str, str] | None:
    """Why a pod cannot have what it asks for, reason and message; None if it can."""
    if is_static:
        return INFEASIBLE, "In-place resize of static-pods is not supported"
    for name in _RESIZABLE:
        asked = resources.pod_total(pod["spec"], "requests", name)[0]
        if name not in allocatable:
            continue
        capacity = quantity.parse(allocatable[name])
        if asked.nano > capacity.nano:
            unit = admission.unit(name)
            figures = f"requested: {asked.nano // unit}, capacity: {capacity.nano // unit}"
            return INFEASIBLE, f"Node didn't have enough capacity: {name}, {figures}"
    refused = admission.shortage(pod, others, allocatable)
    return None if refused is None else (DEFERRED, refused[1])


def restarts(container: Object, now: Limits, then: Limits) -> bool:
    """Whether a container has to be restarted to get other limits."""
    policies = {each["resourceName"]: each["restartPolicy"] for each in container.get("resizePolicy") or ()}
    cpu = (now.shares, now.quota) != (then.shares, then.quota)
    memory = now.memory != then.memory
    return (cpu and policies.get("cpu") == "RestartContainer") or (
        memory and policies.get("memory") == "RestartContainer"
    )


def update(limits: Limits) -> Object:
    """The engine's update request for limits."""
    found: Object = {"CpuShares": limits.shares}
    if limits.quota > 0:
        found |= {"CpuQuota": limits.quota, "CpuPeriod": resources.PERIOD_MICROSECONDS}
    if limits.memory:
        found |= {"Memory": limits.memory, "MemorySwap": limits.memory}
    return found


def widest(one: Limits, other: Limits) -> Limits:
    """Limits that hold for neither more than it needs: for the group around containers that are about to change."""
    return Limits(
        max(one.shares, other.shares),
        -1 if -1 in (one.quota, other.quota) else max(one.quota, other.quota),
        0 if 0 in (one.memory, other.memory) else max(one.memory, other.memory),
    )


def report(pod: Object, error: str = "") -> str:
    """What the events on a resize tell, as JSON."""
    told: Object = {
        "containers": [{"name": each["name"], "resources": each.get("resources") or {}} for each in resizable(pod)],
        "generation": pod["metadata"].get("generation", 0),
    }
    if error:
        told["error"] = error
    return orjson.dumps(told).decode()
