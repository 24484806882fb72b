"""The condition by which a pod says that it does not end by itself, and why.

Source: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions
"""

from __future__ import annotations

import time

from windlass.kube.api import times
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient


async def mark(client: APIClient, pod: Object, reason: str, message: str, *, failed: bool = False) -> None:
    """Write the condition; `failed`: also that the pod is over. A pod that is gone is no error. Raises StatusError."""
    metadata = pod["metadata"]
    target = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastProbeTime": None,
        "lastTransitionTime": times.format_time(time.time()),
    }

    def change(live: Object) -> None:
        if live["metadata"]["uid"] != metadata["uid"]:
            return
        status = live.setdefault("status", {})
        if failed:
            status["phase"] = "Failed"
        kept = [each for each in status.get("conditions") or () if each["type"] != target["type"]]
        status["conditions"] = [*kept, target]

    try:
        await client.update("", "pods", metadata["namespace"], metadata["name"], change, subresource="status")
    except StatusError as error:
        if error.code != 404:
            raise
