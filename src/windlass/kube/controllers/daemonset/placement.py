"""Which nodes a DaemonSet's pod goes to.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#how-daemon-pods-are-scheduled
"""

from __future__ import annotations

from typing import Final

from windlass.kube.api.nodeselection import matches_terms, taints_of, tolerates
from windlass.kube.api.resource import Object
from windlass.kube.controllers.pod_control import pod_of

_NODE: Final = "node.kubernetes.io/"
_TOLERATED: Final = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)
GENERATION: Final = "pod-template-generation"


def pod_for(daemon_set: Object, node: str, revision: str) -> Object:
    """The pod of one node."""
    made = pod_of(daemon_set["spec"]["template"], daemon_set)
    labels = made["metadata"].setdefault("labels", {})
    labels["controller-revision-hash"] = revision
    labels[GENERATION] = str(daemon_set["metadata"].get("generation", 1))
    spec = made["spec"]
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity = spec.setdefault("affinity", {})
    wanted = affinity.setdefault("nodeAffinity", {})
    # Its other terms were looked at when the node was chosen.
    wanted["requiredDuringSchedulingIgnoredDuringExecution"] = required
    spec["tolerations"] = tolerations(spec)
    return made


def tolerations(spec: Object) -> list[Object]:
    """A pod's own tolerations and those that all daemons have."""
    found = list(spec.get("tolerations") or ())
    wanted = [*_TOLERATED, *([("network-unavailable", "NoSchedule")] if spec.get("hostNetwork") else [])]
    for name, effect in wanted:
        each = {"key": f"{_NODE}{name}", "operator": "Exists", "effect": effect}
        if each not in found:
            found.append(each)
    return found


def target_of(pod: Object) -> str:
    """The node for which a pod is, also before it is there."""
    if name := pod["spec"].get("nodeName"):
        return str(name)
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for each in term.get("matchFields") or ():
            if each["key"] == "metadata.name" and each["operator"] == "In" and len(each["values"]) == 1:
                return str(each["values"][0])
    return ""


def takes(node: Object, daemon_set: Object) -> tuple[bool, bool]:
    """Whether a node should get a pod, and whether one that is there may stay."""
    spec = daemon_set["spec"]["template"]["spec"]
    if spec.get("nodeName") and spec["nodeName"] != node["metadata"]["name"]:
        return False, False
    labels = node["metadata"].get("labels") or {}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not (spec.get("nodeSelector") or {}).items() <= labels.items() or (
        required is not None and not matches_terms(required["nodeSelectorTerms"], node)
    ):
        return False, False
    allowed = tolerations(spec)
    refused = [each for each in taints_of(node) if each[2] != "PreferNoSchedule" and not tolerates(allowed, each)]
    return not refused, not any(each[2] == "NoExecute" for each in refused)
