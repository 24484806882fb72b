"""A Deployment's status: numbers, conditions, and whether it gets on.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from windlass.kube.api import times
from windlass.kube.api.resource import Object
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.deployment import scaling
from windlass.kube.controllers.deployment.scaling import reported

PROGRESSING: Final = "Progressing"
AVAILABLE: Final = "Available"
FAILURE: Final = "ReplicaFailure"
COMPLETE: Final = "NewReplicaSetAvailable"
TIMED_OUT: Final = "ProgressDeadlineExceeded"
PAUSED: Final = "DeploymentPaused"
_NO_DEADLINE: Final = 2**31 - 1


def has_deadline(deployment: Object) -> bool:
    """Whether a lack of progress is told."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return seconds is not None and int(seconds) != _NO_DEADLINE


def condition(kind: str, status: str, reason: str, message: str) -> Object:
    """A condition as of now."""
    now = times.format_time(time.time())
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }


def set_condition(status: Object, wanted: Object) -> None:
    """Replace a condition. One of the same status and reason stays as it is."""
    found = [each for each in status.get("conditions") or () if each["type"] != wanted["type"]]
    before = pod_state.condition({"status": status}, wanted["type"])
    if before is not None:
        if before["status"] == wanted["status"] and before.get("reason") == wanted["reason"]:
            return
        if before["status"] == wanted["status"]:
            wanted = wanted | {"lastTransitionTime": before.get("lastTransitionTime")}
    status["conditions"] = [*found, wanted]


def drop_condition(status: Object, kind: str) -> None:
    """Take a condition away."""
    status["conditions"] = [each for each in status.get("conditions") or () if each["type"] != kind]


def numbers(deployment: Object, sets: Sequence[Object], new: Object | None) -> Object:
    """The status without its judgement of the progress; the conditions are a list of its own."""
    before = deployment.get("status") or {}
    available = reported(sets, "availableReplicas")
    total = reported(sets, "replicas")
    found: Object = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": total,
        "updatedReplicas": reported([new] if new is not None else [], "replicas"),
        "readyReplicas": reported(sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(sum(map(scaling.replicas_of, sets)) - available, 0),
    }
    found = {name: value for name, value in found.items() if value}
    found["terminatingReplicas"] = reported(sets, "terminatingReplicas")
    if before.get("collisionCount") is not None:
        found["collisionCount"] = before["collisionCount"]
    found["conditions"] = [dict(each) for each in before.get("conditions") or ()]
    if available >= scaling.replicas_of(deployment) - scaling.limits(deployment)[1]:
        wanted = condition(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        message = "Deployment does not have minimum availability."
        wanted = condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message)
    set_condition(found, wanted)
    return found


def is_complete(deployment: Object, status: Object) -> bool:
    """Whether all replicas are of the new revision, available, and no old one is left."""
    wanted = scaling.replicas_of(deployment)
    counts = ("updatedReplicas", "replicas", "availableReplicas")
    return all(status.get(name, 0) == wanted for name in counts) and bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )


def _has_moved(deployment: Object, status: Object) -> bool:
    before = deployment.get("status") or {}

    def old_of(found: Object) -> int:
        return int(found.get("replicas", 0)) - int(found.get("updatedReplicas", 0))

    return any(
        status.get(name, 0) > before.get(name, 0) for name in ("updatedReplicas", "readyReplicas", "availableReplicas")
    ) or old_of(status) < old_of(before)


def deadline_in(deployment: Object, status: Object) -> float | None:
    """Seconds until the deadline of the progress, None where there is none or it is over."""
    found = pod_state.condition({"status": status}, PROGRESSING)
    if found is None or not has_deadline(deployment) or found.get("reason") in (TIMED_OUT, COMPLETE, PAUSED):
        return None
    since = times.parse_time(found.get("lastUpdateTime") or found["lastTransitionTime"])
    return since + int(deployment["spec"]["progressDeadlineSeconds"]) - time.time()


def judge(deployment: Object, sets: Sequence[Object], new: Object | None) -> Object:
    """The whole status."""
    status = numbers(deployment, sets, new)
    if not has_deadline(deployment):
        drop_condition(status, PROGRESSING)
    before = pod_state.condition(deployment, PROGRESSING)
    was_complete = (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and before is not None
        and before.get("reason") == COMPLETE
    )
    if has_deadline(deployment) and not was_complete:
        subject = (
            f'ReplicaSet "{new["metadata"]["name"]}"'
            if new is not None
            else f'Deployment "{deployment["metadata"]["name"]}"'
        )
        if is_complete(deployment, status):
            message = f"{subject} has successfully progressed."
            set_condition(status, condition(PROGRESSING, "True", COMPLETE, message))
        elif _has_moved(deployment, status):
            wanted = condition(PROGRESSING, "True", "ReplicaSetUpdated", f"{subject} is progressing.")
            if before is not None and before["status"] == "True":
                wanted["lastTransitionTime"] = before.get("lastTransitionTime")
            # Also where it says so already: each step forward starts the deadline again.
            drop_condition(status, PROGRESSING)
            set_condition(status, wanted)
        elif (left := deadline_in(deployment, status)) is not None and left <= 0:
            message = f"{subject} has timed out progressing."
            set_condition(status, condition(PROGRESSING, "False", TIMED_OUT, message))
    ordered = [*([new] if new is not None else []), *sets]
    failures = (found for each in ordered if (found := pod_state.condition(each, FAILURE)) is not None)
    if (first := next(failures, None)) is not None:
        set_condition(status, condition(FAILURE, first["status"], first.get("reason", ""), first.get("message", "")))
    else:
        drop_condition(status, FAILURE)
    return status
