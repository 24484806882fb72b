"""What an object counts towards quotas: itself, and what it asks for.

Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/#types-of-resource-quota
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.kube.api import quantity
from windlass.kube.api.quantity import ZERO, Quantity
from windlass.kube.api.reader import Object

_ONE = Quantity(10**9)
_COUNTED = frozenset(
    {"configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"}
)


def usage_of(obj: Object, group: str, plural: str) -> dict[str, Quantity]:
    """Name of a quota's resource → what the object counts."""
    found = {f"count/{plural}.{group}" if group else f"count/{plural}": _ONE}
    if group:
        return found
    if plural in _COUNTED:
        found[plural] = _ONE
    if plural == "pods":
        if (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return {"count/pods": _ONE}
        found["pods"] = _ONE
        _add_pod(obj, found)
    elif plural == "services":
        spec = obj.get("spec") or {}
        ports = len(spec.get("ports") or ())
        if spec.get("type") in ("NodePort", "LoadBalancer"):
            found["services.nodeports"] = Quantity(ports * 10**9)
        if spec.get("type") == "LoadBalancer":
            found["services.loadbalancers"] = _ONE
    elif plural == "persistentvolumeclaims":
        spec = obj.get("spec") or {}
        storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        if storage is not None:
            found["requests.storage"] = quantity.parse(storage)
        if name := spec.get("storageClassName"):
            prefix = f"{name}.storageclass.storage.k8s.io"
            found[f"{prefix}/persistentvolumeclaims"] = _ONE
            if storage is not None:
                found[f"{prefix}/requests.storage"] = quantity.parse(storage)
    return found


def pod_amounts(pod: Object, field: str) -> dict[str, Quantity]:
    """A pod's requests or limits: all containers together, or what an init container needs more; and overhead."""
    spec = pod.get("spec") or {}
    total: dict[str, Quantity] = {}
    sidecars: dict[str, Quantity] = {}
    peak: dict[str, Quantity] = {}
    for container in spec.get("containers") or ():
        _plus(total, (container.get("resources") or {}).get(field) or {})
    for container in spec.get("initContainers") or ():
        amounts = (container.get("resources") or {}).get(field) or {}
        if container.get("restartPolicy") == "Always":
            _plus(total, amounts)
            _plus(sidecars, amounts)
        else:
            for name, text in amounts.items():
                needed = quantity.parse(text).plus(sidecars.get(name, ZERO))
                if needed.nano > peak.get(name, ZERO).nano:
                    peak[name] = needed
    for name, amount in peak.items():
        if amount.nano > total.get(name, ZERO).nano:
            total[name] = amount
    if own := (spec.get("resources") or {}).get(field):
        for name, text in own.items():
            total[name] = quantity.parse(text)
    if total and spec.get("overhead"):
        _plus(total, spec["overhead"])
    return total


def _plus(total: dict[str, Quantity], amounts: Mapping[str, Any]) -> None:
    for name, text in amounts.items():
        total[name] = total.get(name, ZERO).plus(quantity.parse(text))


def _add_pod(pod: Object, found: dict[str, Quantity]) -> None:
    for name, amount in pod_amounts(pod, "requests").items():
        found[f"requests.{name}"] = amount
        if name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-"):
            found[name] = amount
    for name, amount in pod_amounts(pod, "limits").items():
        if name in ("cpu", "memory", "ephemeral-storage"):
            found[f"limits.{name}"] = amount


def meets_scopes(quota: Object, obj: Object, plural: str) -> bool:
    """Whether a quota counts an object: quotas with scopes count pods that meet all of them."""
    spec = quota.get("spec") or {}
    expressions = [{"scopeName": each, "operator": "Exists"} for each in spec.get("scopes") or ()]
    expressions += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if not expressions:
        return True
    return plural == "pods" and all(_meets(each, obj) for each in expressions)


def _meets(expression: Mapping[str, Any], pod: Object) -> bool:
    spec, name = pod.get("spec") or {}, expression.get("scopeName")
    if name in ("Terminating", "NotTerminating"):
        return bool((spec.get("activeDeadlineSeconds") is not None) == (name == "Terminating"))
    if name in ("BestEffort", "NotBestEffort"):
        from windlass.kube.api.strategies.pods import qos_class

        return bool((qos_class(spec) == "BestEffort") == (name == "BestEffort"))
    if name == "PriorityClass":
        value, values = spec.get("priorityClassName") or "", expression.get("values") or ()
        match expression.get("operator"):
            case "In":
                return value in values
            case "NotIn":
                return value not in values
            case "DoesNotExist":
                return not value
        return bool(value)
    if name == "CrossNamespacePodAffinity":
        return False
    return False
