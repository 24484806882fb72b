"""ttl-after-finished-controller: jobs that have ended go after the time that they say.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/
"""

from __future__ import annotations

import time

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.job.run import COMPLETE, FAILED
from windlass.kube.controllers.runner import Controller, Key


class TTLAfterFinishedController(Controller):
    """See the module. Keys are jobs."""

    name = "ttl-after-finished-controller"

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("batch", "jobs")

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        job = self.cache.get("batch", "jobs", *key)
        if job is None or job["metadata"].get("deletionTimestamp"):
            return None
        seconds, ended = job["spec"].get("ttlSecondsAfterFinished"), _ended_at(job)
        if seconds is None or ended is None:
            return None
        left = ended + int(seconds) - time.time()
        if left > 0:
            return left + 0.01
        await self.client.delete("batch", "jobs", *key, uid=job["metadata"]["uid"], propagation="Foreground")
        return None


def _ended_at(job: Object) -> int | None:
    for kind in (COMPLETE, FAILED):
        found = pod_state.condition(job, kind) or {}
        if found.get("status") == "True":
            return objects.seconds(found["lastTransitionTime"])
    return None
