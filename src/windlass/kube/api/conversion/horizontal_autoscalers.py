"""HorizontalPodAutoscaler: v2 is stored; v1 knows one metric, CPU utilisation, and keeps the others in annotations.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v1/
"""

from __future__ import annotations

import contextlib
from typing import Any

import orjson

from windlass.kube.api.resource import Object, Resource

_V1, _V2 = "autoscaling/v1", "autoscaling/v2"
_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS, _BEHAVIOR = f"{_PREFIX}metrics", f"{_PREFIX}behavior"
_CURRENT, _CONDITIONS = f"{_PREFIX}current-metrics", f"{_PREFIX}conditions"


def convert(items: list[Object], resource: Resource) -> list[Object]:
    """Autoscalers in the version of `resource`."""
    return [_convert(obj, resource.api_version) for obj in items]


def _convert(obj: Object, version: str) -> Object:
    if obj.get("apiVersion") == version:
        return obj
    return _to_v1(obj) if version == _V1 else _to_v2(obj)


def _is_cpu(metric: dict[str, Any], part: str) -> bool:
    found = metric.get("resource") or {}
    return (
        metric.get("type") == "Resource"
        and found.get("name") == "cpu"
        and (found.get(part) or {}).get("averageUtilization") is not None
    )


def _to_v1(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict(obj["metadata"].get("annotations") or {})
    others = []
    for metric in spec.pop("metrics", None) or ():
        if _is_cpu(metric, "target") and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
        else:
            others.append(metric)
    behavior = spec.pop("behavior", None)
    current = []
    for metric in status.pop("currentMetrics", None) or ():
        if _is_cpu(metric, "current"):
            status["currentCPUUtilizationPercentage"] = metric["resource"]["current"]["averageUtilization"]
        current.append(metric)
    for name, value in (
        (_METRICS, others),
        (_BEHAVIOR, behavior),
        (_CURRENT, current),
        (_CONDITIONS, status.pop("conditions", None)),
    ):
        if value:
            annotations[name] = orjson.dumps(value).decode()
    return _built(obj, _V1, spec, status, annotations)


def _to_v2(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict(obj["metadata"].get("annotations") or {})
    metrics = _taken(annotations, _METRICS) or []
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if metrics:
        spec["metrics"] = metrics
    if behavior := _taken(annotations, _BEHAVIOR):
        spec["behavior"] = behavior
    status.pop("currentCPUUtilizationPercentage", None)
    if current := _taken(annotations, _CURRENT):
        status["currentMetrics"] = current
    if conditions := _taken(annotations, _CONDITIONS):
        status["conditions"] = conditions
    return _built(obj, _V2, spec, status, annotations)


def _taken(annotations: dict[str, str], name: str) -> Any:
    text = annotations.pop(name, None)
    if text is None:
        return None
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    return None


def _built(
    obj: Object, version: str, spec: dict[str, Any], status: dict[str, Any], annotations: dict[str, str]
) -> Object:
    metadata = {name: value for name, value in obj["metadata"].items() if name != "annotations"}
    if annotations:
        metadata["annotations"] = annotations
    result = {"apiVersion": version, "kind": obj["kind"], "metadata": metadata, "spec": spec}
    if "status" in obj:
        result["status"] = status
    return result
