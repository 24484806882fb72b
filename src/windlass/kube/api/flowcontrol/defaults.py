"""The priority levels and flow schemas that every cluster has.

Source: https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#defaults
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from windlass.kube.api.reader import Object

GROUP = "flowcontrol.apiserver.k8s.io"
AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"

LEVELS = {
    # name: shares, percent that may be lent, queues, hand
    "leader-election": (10, 0, 16, 4),
    "node-high": (40, 25, 64, 6),
    "system": (30, 33, 64, 6),
    "workload-high": (40, 50, 128, 6),
    "workload-low": (100, 90, 128, 6),
    "global-default": (20, 50, 128, 6),
}
_QUEUE_LENGTH = 50
_EVERY = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
_PATHS = {"verbs": ["*"], "nonResourceURLs": ["*"]}
_LEASES = {
    "verbs": ["get", "create", "update"],
    "apiGroups": ["coordination.k8s.io"],
    "resources": ["leases"],
    "namespaces": ["*"],
}
_NODE_HIGH = (
    {"verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "clusterScope": True},
    {"verbs": ["*"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"]},
)
_ENDPOINTS = {
    "verbs": ["get", "create", "update"],
    "apiGroups": [""],
    "resources": ["endpoints"],
    "namespaces": ["*"],
}
_PROBES = {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}


def objects() -> list[tuple[str, Object]]:
    """Every default object beside its resource, levels first."""
    found = [("prioritylevelconfigurations", _object("PriorityLevelConfiguration", *level)) for level in _levels()]
    return found + [("flowschemas", _object("FlowSchema", *schema)) for schema in _schemas()]


def _levels() -> list[tuple[str, dict[str, Any]]]:
    exempt = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
    found: list[tuple[str, dict[str, Any]]] = [("exempt", exempt)]
    for name, (shares, lendable, queues, hand) in LEVELS.items():
        queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": _QUEUE_LENGTH}
        found.append((name, _limited(shares, lendable, {"type": "Queue", "queuing": queuing})))
    found.append(("catch-all", _limited(5, 0, {"type": "Reject"})))
    return found


def _limited(shares: int, lendable: int, response: dict[str, Any]) -> dict[str, Any]:
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return {"type": "Limited", "limited": limited}


def _schemas() -> list[tuple[str, dict[str, Any]]]:
    manager, scheduler = _user("system:kube-controller-manager"), _user("system:kube-scheduler")
    system, nodes = _account("*"), _group("system:nodes")
    everybody = [_group("system:unauthenticated"), _group("system:authenticated")]
    all_accounts = [_group("system:serviceaccounts")]
    return [
        _schema("exempt", "exempt", 1, "", [_group("system:masters")], [_EVERY], [_PATHS]),
        _schema("probes", "exempt", 2, "", everybody, [], [_PROBES]),
        _schema("system-leader-election", "leader-election", 100, "ByUser", [manager, scheduler, system], [_LEASES]),
        _schema("endpoint-controller", "workload-high", 150, "ByUser",
                [manager, _account("endpoint-controller"), _account("endpointslicemirroring-controller")],
                [_ENDPOINTS]),
        _schema("workload-leader-election", "leader-election", 200, "ByUser", [system], [_LEASES]),
        _schema("system-node-high", "node-high", 400, "ByUser", [nodes], _NODE_HIGH),
        _schema("system-nodes", "system", 500, "ByUser", [nodes], [_EVERY], [_PATHS]),
        _schema("kube-controller-manager", "workload-high", 800, "ByNamespace", [manager], [_EVERY], [_PATHS]),
        _schema("kube-scheduler", "workload-high", 800, "ByNamespace", [scheduler], [_EVERY], [_PATHS]),
        _schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", [system], [_EVERY], [_PATHS]),
        _schema("service-accounts", "workload-low", 9000, "ByUser", all_accounts, [_EVERY], [_PATHS]),
        _schema("global-default", "global-default", 9900, "ByUser", everybody, [_EVERY], [_PATHS]),
        _schema("catch-all", "catch-all", 10000, "ByUser", everybody, [_EVERY], [_PATHS]),
    ]  # fmt: skip


def _schema(
    name: str,
    level: str,
    precedence: int,
    method: str,
    subjects: Sequence[Object],
    resources: Sequence[Object],
    paths: Sequence[Object] = (),
) -> tuple[str, dict[str, Any]]:
    rule: dict[str, Any] = {"subjects": list(subjects)}
    if resources:
        rule["resourceRules"] = list(resources)
    if paths:
        rule["nonResourceRules"] = list(paths)
    spec: dict[str, Any] = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [rule],
    }
    if method:
        spec["distinguisherMethod"] = {"type": method}
    return name, spec


def _user(name: str) -> Object:
    return {"kind": "User", "user": {"name": name}}


def _group(name: str) -> Object:
    return {"kind": "Group", "group": {"name": name}}


def _account(name: str) -> Object:
    return {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}


def _object(kind: str, name: str, spec: dict[str, Any]) -> Object:
    metadata = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, "spec": spec}
