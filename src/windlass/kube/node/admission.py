"""Whether a node can take a pod that was given to it: the scheduler may not have known, or not have been asked. Pure.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/ ; the reasons are those of upstream's kubelet
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from windlass.kube.api import nodeselection, quantity
from windlass.kube.node import resources

Object = dict[str, Any]
_COUNTED = ("cpu", "memory", "ephemeral-storage")


def refusal(
    pod: Object, node: Object | None, active: Iterable[Object], allocatable: Mapping[str, str]
) -> tuple[str, str] | None:
    """Reason and message, None where the pod can run. `active` are the other pods of the node."""
    if node is not None and (problem := _placement(pod, node)) is not None:
        return problem
    return shortage(pod, active, allocatable)


def unit(resource: str) -> int:
    """What messages count a resource in, in billionths: thousandths of processors, bytes."""
    return 10**6 if resource == "cpu" else 10**9


def shortage(pod: Object, others: Iterable[Object], allocatable: Mapping[str, str]) -> tuple[str, str] | None:
    """What there is too little of for one more pod; reason and message, None where there is enough."""
    others = [each for each in others if each["metadata"]["uid"] != pod["metadata"]["uid"]]
    most = int(allocatable.get("pods") or 0)
    if most and len(others) >= most:
        return (
            "OutOfpods",
            f"Node didn't have enough resource: pods, requested: 1, used: {len(others)}, capacity: {most}",
        )
    for name in _COUNTED:
        wanted = resources.pod_total(pod["spec"], "requests", name)[0]
        if wanted.nano == 0 or name not in allocatable:
            continue
        used = sum(resources.pod_total(each["spec"], "requests", name)[0].nano for each in others)
        capacity = quantity.parse(allocatable[name])
        if wanted.nano + used > capacity.nano:
            per = unit(name)
            figures = f"requested: {wanted.nano // per}, used: {used // per}, capacity: {capacity.nano // per}"
            return f"OutOf{name}", f"Node didn't have enough resource: {name}, {figures}"
    return None


def _placement(pod: Object, node: Object) -> tuple[str, str] | None:
    """Node selector, and taints that forbid execution."""
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(name) != value for name, value in selector.items()):
        return "NodeAffinity", "Predicate NodeAffinity failed"
    for taint in nodeselection.taints_of(node):
        if taint[2] == "NoExecute" and not nodeselection.tolerates(pod["spec"].get("tolerations") or (), taint):
            return "TaintToleration", "Predicate TaintToleration failed"
    return None
