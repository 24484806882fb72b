"""Nodes: what a kubelet may write, and that a new node is tainted until it is ready.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
"""

from __future__ import annotations

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Plugin
from windlass.kube.api import status
from windlass.kube.api.identity import User
from windlass.kube.api.reader import Reader

_NOT_READY = "node.kubernetes.io/not-ready"
_MIRROR = "kubernetes.io/config.mirror"
_PREFIX = "system:node:"
_FORBIDDEN_PREFIX = "node-restriction.kubernetes.io/"
_ALLOWED_PREFIXES = ("kubelet.kubernetes.io/", "node.kubernetes.io/")
_ALLOWED = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)


def node_of(user: User) -> str:
    """The node whose kubelet asks, "" for everybody else."""
    if "system:nodes" in user.groups and user.name.startswith(_PREFIX):
        return user.name.removeprefix(_PREFIX)
    return ""


class TaintNodesByCondition(Plugin):
    """A new node takes no pods before it is ready."""

    name = "TaintNodesByCondition"

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """New nodes."""
        return (group, resource, subresource, operation) == ("", "nodes", "", "CREATE")

    def mutate(self, request: AdmissionRequest) -> None:
        """Add the taint."""
        spec = request.target.setdefault("spec", {})
        taints = spec.setdefault("taints", [])
        if not any(each.get("key") == _NOT_READY and each.get("effect") == "NoSchedule" for each in taints):
            taints.append({"key": _NOT_READY, "effect": "NoSchedule"})


class NodeRestriction(Plugin):
    """A kubelet writes its own node, and pods that are on it."""

    name = "NodeRestriction"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Nodes, pods, leases and tokens."""
        return (group, resource) in (
            ("", "nodes"),
            ("", "pods"),
            ("", "serviceaccounts"),
            ("coordination.k8s.io", "leases"),
            ("storage.k8s.io", "csinodes"),
        )

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse a kubelet what is not its own."""
        node = node_of(request.user)
        if not node:
            return
        resource = request.resource.plural
        if resource == "nodes":
            self._check_node(request, node)
        elif resource == "pods":
            self._check_pod(request, node)
        elif resource == "leases":
            if request.namespace != "kube-node-lease":
                raise self._refused(request, 'can only access leases in the "kube-node-lease" system namespace')
            if request.name != node:
                raise self._refused(request, "can only access node lease with the same name as the requesting node")
        elif resource == "csinodes" and request.name != node:
            raise self._refused(request, "can only access CSINode with the same name as the requesting node")

    def _refused(self, request: AdmissionRequest, why: str) -> status.StatusError:
        resource = request.resource
        return status.forbidden(resource.plural, resource.group, request.name, f'node "{node_name(request)}" {why}')

    def _check_node(self, request: AdmissionRequest, node: str) -> None:
        if request.name != node:
            raise self._refused(request, f'is not allowed to modify node "{request.name}"')
        if request.obj is None:
            return
        new = request.obj["metadata"].get("labels") or {}
        old = (request.old or {"metadata": {}})["metadata"].get("labels") or {}
        changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
        forbidden = sorted(key for key in changed if _is_forbidden(key))
        if forbidden:
            raise self._refused(request, f"is not allowed to modify labels: {', '.join(forbidden)}")
        if request.old is not None:
            now, was = (each.get("spec") or {} for each in (request.obj, request.old))
            if (now.get("taints") or []) != (was.get("taints") or []):
                raise self._refused(request, "is not allowed to modify taints")
            if request.obj["metadata"].get("ownerReferences") != request.old["metadata"].get("ownerReferences"):
                raise self._refused(request, "is not allowed to modify ownerReferences")

    def _check_pod(self, request: AdmissionRequest, node: str) -> None:
        pod = request.target
        if request.operation == "CREATE" and not request.subresource:
            if _MIRROR not in (pod["metadata"].get("annotations") or {}):
                raise self._refused(request, 'pod does not have "kubernetes.io/config.mirror" annotation')
            if pod["spec"].get("nodeName") != node:
                raise self._refused(request, "can only create pods with spec.nodeName set to itself")
            return
        live = request.old or self._reader.get("", "pods", request.namespace, request.name)
        if live is not None and (live.get("spec") or {}).get("nodeName") != node:
            raise self._refused(request, "can only act on pods with spec.nodeName set to itself")
        if request.operation == "UPDATE" and request.subresource not in ("status", "eviction"):
            raise self._refused(request, "is not allowed to update pods but their status")


def node_name(request: AdmissionRequest) -> str:
    """The asking node's name."""
    return node_of(request.user)


def _is_forbidden(key: str) -> bool:
    if key.startswith(_FORBIDDEN_PREFIX):
        return True
    domain = key.partition("/")[0] if "/" in key else ""
    is_kubernetes = any(domain == each or domain.endswith(f".{each}") for each in ("kubernetes.io", "k8s.io"))
    return is_kubernetes and key not in _ALLOWED and not key.startswith(_ALLOWED_PREFIXES)
