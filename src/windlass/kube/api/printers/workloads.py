"""apps, batch, autoscaling and policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.kube.api import times
from windlass.kube.api.printers.cells import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    age,
    column,
    condition,
    containers,
    get,
    name,
    number,
    pairs,
    printer,
    selector,
    since,
)
from windlass.kube.api.resource import Column, Object, Printer

_WIDE = (column("Containers", wide=True), column("Images", wide=True), column("Selector", wide=True))


def _template(obj: Object) -> tuple[str, str, str]:
    names, images = containers(get(obj, "spec", "template", "spec"))
    return names, images, selector(get(obj, "spec", "selector"))


def _replicas(obj: Object) -> int:
    found = get(obj, "spec", "replicas")
    return 1 if found is None else int(found)


def _deployment(obj: Object, now: float) -> list[Any]:
    return [
        name(obj),
        f"{number(obj, 'status', 'readyReplicas')}/{_replicas(obj)}",
        number(obj, "status", "updatedReplicas"),
        number(obj, "status", "availableReplicas"),
        age(obj, now),
        *_template(obj),
    ]


def _replica_set(obj: Object, now: float) -> list[Any]:
    return [
        name(obj),
        _replicas(obj),
        number(obj, "status", "replicas"),
        number(obj, "status", "readyReplicas"),
        age(obj, now),
        *_template(obj),
    ]


def _stateful_set(obj: Object, now: float) -> list[Any]:
    return [
        name(obj),
        f"{number(obj, 'status', 'readyReplicas')}/{_replicas(obj)}",
        age(obj, now),
        *_template(obj)[:2],
    ]


def _daemon_set(obj: Object, now: float) -> list[Any]:
    return [
        name(obj),
        number(obj, "status", "desiredNumberScheduled"),
        number(obj, "status", "currentNumberScheduled"),
        number(obj, "status", "numberReady"),
        number(obj, "status", "updatedNumberScheduled"),
        number(obj, "status", "numberAvailable"),
        pairs(get(obj, "spec", "template", "spec", "nodeSelector")),
        age(obj, now),
        *_template(obj),
    ]


def _controller_revision(obj: Object, now: float) -> list[Any]:
    owner = next((each for each in obj["metadata"].get("ownerReferences") or () if each.get("controller")), None)
    shown = NONE
    if owner is not None:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        shown = f"{owner['kind'].lower()}{'.' + group if group else ''}/{owner['name']}"
    return [name(obj), shown, obj.get("revision", 0), age(obj, now)]


def _job_status(obj: Object) -> str:
    if condition(obj, "Complete") == "True":
        return "Complete"
    if condition(obj, "Failed") == "True":
        return "Failed"
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if condition(obj, "Suspended") == "True":
        return "Suspended"
    if condition(obj, "FailureTarget") == "True":
        return "FailureTarget"
    return "SuccessCriteriaMet" if condition(obj, "SuccessCriteriaMet") == "True" else "Running"


def _job(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    succeeded = status.get("succeeded") or 0
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    if completions is not None:
        shown = f"{succeeded}/{completions}"
    else:
        shown = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    duration = ""
    if begun := status.get("startTime"):
        end = times.parse_time(status["completionTime"]) if status.get("completionTime") else now
        duration = times.human_duration(end - times.parse_time(begun))
    names, images = containers(get(spec, "template", "spec"))
    return [name(obj), _job_status(obj), shown, duration, age(obj, now), names, images, selector(spec.get("selector"))]


def _cron_job(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    last = get(obj, "status", "lastScheduleTime")
    names, images = containers(get(spec, "jobTemplate", "spec", "template", "spec"))
    return [
        name(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        "True" if spec.get("suspend") else "False",
        len(get(obj, "status", "active") or ()),
        since(last, now) if last else NONE,
        age(obj, now),
        names,
        images,
        selector(get(spec, "jobTemplate", "spec", "selector")),
    ]


def _metric(spec: Mapping[str, Any], current: Mapping[str, Any] | None) -> str:
    kind = spec.get("type", "")
    part = spec.get(kind[:1].lower() + kind[1:]) or {}
    target = part.get("target") or {}
    found = get(current, kind[:1].lower() + kind[1:], "current") or {}
    prefix = f"{part['name']}: " if kind == "Resource" and part.get("name") else ""
    if target.get("averageUtilization") is not None:
        shown = found.get("averageUtilization")
        return f"{prefix}{UNKNOWN if shown is None else f'{shown}%'}/{target['averageUtilization']}%"
    for key in ("averageValue", "value"):
        if target.get(key) is not None:
            suffix = " (avg)" if key == "averageValue" and kind != "Pods" and kind != "Resource" else ""
            return f"{prefix}{found.get(key) or UNKNOWN}/{target[key]}{suffix}"
    return f"{prefix}{UNKNOWN}/{UNKNOWN}"


def _autoscaler(obj: Object, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    reference = spec.get("scaleTargetRef") or {}
    if "targetCPUUtilizationPercentage" in spec:
        found = status.get("currentCPUUtilizationPercentage")
        shown = f"cpu: {UNKNOWN if found is None else f'{found}%'}/{spec['targetCPUUtilizationPercentage']}%"
    else:
        current = status.get("currentMetrics") or []
        specs = spec.get("metrics") or ()
        parts = [_metric(each, current[i] if i < len(current) else None) for i, each in enumerate(specs)]
        shown = ", ".join(parts[:2]) + (f" + {len(parts) - 2} more..." if len(parts) > 2 else "") if parts else NONE
    least = spec.get("minReplicas")
    return [
        name(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        shown,
        "<unset>" if least is None else str(least),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas") or 0,
        age(obj, now),
    ]


def _disruption_budget(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        name(obj),
        "N/A" if least is None else str(least),
        "N/A" if most is None else str(most),
        number(obj, "status", "disruptionsAllowed"),
        age(obj, now),
    ]


def _integers(*names: str) -> list[Column]:
    return [column(each, "integer") for each in names]


_AUTOSCALER = printer([NAME, "Reference", "Targets", "MinPods", *_integers("MaxPods", "Replicas"), AGE], _autoscaler)

PRINTERS: Mapping[str, Printer] = {
    "Deployment": printer([NAME, "Ready", *_integers("Up-to-date", "Available"), AGE, *_WIDE], _deployment),
    "ReplicaSet": printer([NAME, *_integers("Desired", "Current", "Ready"), AGE, *_WIDE], _replica_set),
    "StatefulSet": printer([NAME, "Ready", AGE, *_WIDE[:2]], _stateful_set),
    "DaemonSet": printer(
        [
            NAME,
            *_integers("Desired", "Current", "Ready", "Up-to-date", "Available"),
            "Node Selector",
            AGE,
            *_WIDE,
        ],
        _daemon_set,
    ),
    "ControllerRevision": printer([NAME, "Controller", *_integers("Revision"), AGE], _controller_revision),
    "Job": printer([NAME, "Status", "Completions", "Duration", AGE, *_WIDE], _job),
    "CronJob": printer(
        [NAME, "Schedule", "Timezone", "Suspend", *_integers("Active"), "Last Schedule", AGE, *_WIDE], _cron_job
    ),
    "HorizontalPodAutoscaler": _AUTOSCALER,
    "PodDisruptionBudget": printer(
        [NAME, "Min Available", "Max Unavailable", *_integers("Allowed Disruptions"), AGE], _disruption_budget
    ),
}
