"""What controllers ask of a pod: does it count, is it ready, has it been for long enough.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

from windlass.kube.api import objects
from windlass.kube.api.resource import Object


def phase(pod: Object) -> str:
    """Where in its life a pod is."""
    return str((pod.get("status") or {}).get("phase") or "")


def is_over(pod: Object) -> bool:
    """Whether a pod has ended for good."""
    return phase(pod) in ("Succeeded", "Failed")


def is_terminating(pod: Object) -> bool:
    """Whether a pod is on its way out."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_active(pod: Object) -> bool:
    """Whether a pod runs, or will."""
    return not is_over(pod) and not is_terminating(pod)


def condition(obj: Object, kind: str) -> Object | None:
    """A condition of an object's status."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), None)


def is_true(obj: Object, kind: str) -> bool:
    """Whether a condition of an object's status is true."""
    found = condition(obj, kind)
    return found is not None and bool(found["status"] == "True")


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready to serve."""
    return is_true(pod, "Ready")


def claims_of(pod: Object) -> list[str]:
    """The names of the persistent volume claims that a pod uses, its ephemeral ones included."""
    return [
        (each.get("persistentVolumeClaim") or {}).get("claimName") or f"{pod['metadata']['name']}-{each['name']}"
        for each in pod["spec"].get("volumes") or ()
        if each.get("persistentVolumeClaim") or each.get("ephemeral")
    ]


def ready_since(pod: Object) -> int:
    """When a pod became ready (seconds since 1970), 0 if it is not."""
    found = condition(pod, "Ready")
    if found is None or found["status"] != "True":
        return 0
    return objects.seconds(found.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def available_in(pod: Object, min_ready_seconds: int, now: float) -> float | None:
    """Seconds until a pod is available: 0 if it is, None while it is not even ready."""
    if not is_ready(pod):
        return None
    return max(ready_since(pod) + min_ready_seconds - now, 0.0) if min_ready_seconds else 0.0


def restarts(pod: Object) -> int:
    """How often the container that restarted most did so."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return max((int(each.get("restartCount") or 0) for each in statuses), default=0)
