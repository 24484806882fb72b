"""The pods of a job.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
"""

from __future__ import annotations

from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.controllers.job import pods
from windlass.kube.controllers.pod_control import pod_of

_VARIABLE: Final = "JOB_COMPLETION_INDEX"


def make(job: Object, index: int | None, failures: tuple[int, int] = (0, 0)) -> Object:
    """A pod of a job, with its index and how often that has failed, where the job counts this."""
    spec = job["spec"]
    made = pod_of(spec["template"], job)
    metadata = made["metadata"]
    metadata["finalizers"] = [*metadata.get("finalizers", ()), pods.FINALIZER]
    if index is None:
        return made
    metadata["generateName"] = f"{job['metadata']['name']}-{index}-"
    metadata.setdefault("annotations", {})[pods.INDEX] = str(index)
    metadata.setdefault("labels", {})[pods.INDEX] = str(index)
    if spec.get("backoffLimitPerIndex") is not None:
        metadata["annotations"][pods.FAILURES] = str(failures[0])
        if failures[1]:
            metadata["annotations"][pods.IGNORED_FAILURES] = str(failures[1])
    made["spec"].setdefault("hostname", f"{job['metadata']['name']}-{index}"[:63])
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{pods.INDEX}']"}}
    for container in (*made["spec"]["containers"], *made["spec"].get("initContainers", ())):
        environment = container.setdefault("env", [])
        if not any(each["name"] == _VARIABLE for each in environment):
            environment.append({"name": _VARIABLE, "valueFrom": source})
    return made
