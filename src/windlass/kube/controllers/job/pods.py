"""What a job has to know of its pods."""

from __future__ import annotations

from typing import Final

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.job import policies

FINALIZER: Final = "batch.kubernetes.io/job-tracking"
INDEX: Final = "batch.kubernetes.io/job-completion-index"
FAILURES: Final = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES: Final = "batch.kubernetes.io/job-index-ignored-failure-count"


def is_terminating(pod: Object) -> bool:
    """Whether a pod is on its way out, and not there yet."""
    return pod_state.is_terminating(pod) and not pod_state.is_over(pod)


def is_tracked(pod: Object) -> bool:
    """Whether a pod's end is still to be counted."""
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def replaces_failed_alone(spec: Object) -> bool:
    """Whether a pod that is on its way out is no failure before it is over."""
    return spec.get("podReplacementPolicy") == "Failed" or spec.get("podFailurePolicy") is not None


def is_failed(pod: Object, spec: Object) -> bool:
    """Whether a job takes a pod as failed: also one that somebody deletes, which may never get that far."""
    if pod_state.phase(pod) == "Failed":
        return True
    return not replaces_failed_alone(spec) and is_terminating(pod)


def index_of(pod: Object) -> int | None:
    """The pod's index in an Indexed job."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdigit() else None


def failures_of(pod: Object) -> tuple[int, int]:
    """How often the pod's index had failed when the pod was made: failures that count, and ignored ones."""
    annotations = pod["metadata"].get("annotations") or {}
    counted, ignored = (annotations.get(name, "") for name in (FAILURES, IGNORED_FAILURES))
    return int(counted) if counted.isdigit() else 0, int(ignored) if ignored.isdigit() else 0


def has_failed_index(pod: Object, spec: Object) -> bool:
    """Whether with this pod's failure its index has failed for good."""
    verdict = policies.judge(spec.get("podFailurePolicy"), pod)
    if verdict.action == policies.FAIL_INDEX:
        return True
    return verdict.counts and failures_of(pod)[0] >= spec["backoffLimitPerIndex"]


def finished_at(pod: Object) -> int:
    """When a pod ended, as well as can be told (seconds since 1970)."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    sidecars = {
        each["name"]
        for each in (pod.get("spec") or {}).get("initContainers") or ()
        if each.get("restartPolicy") == "Always"
    }
    of_sidecars = [each for each in status.get("initContainerStatuses") or () if each["name"] in sidecars]
    states = [each.get("state") or {} for each in (*(status.get("containerStatuses") or ()), *of_sidecars)]
    ends = [(each.get("terminated") or {}).get("finishedAt") for each in states]
    if ends and all(ends):
        return max(objects.seconds(each) for each in ends if each)
    ready = pod_state.condition(pod, "Ready")
    if ready is not None and ready["status"] == "False" and ready.get("lastTransitionTime"):
        return objects.seconds(ready["lastTransitionTime"])
    if metadata.get("deletionTimestamp"):
        return objects.seconds(metadata["deletionTimestamp"]) - int(metadata.get("deletionGracePeriodSeconds") or 0)
    return objects.seconds(metadata["creationTimestamp"])
