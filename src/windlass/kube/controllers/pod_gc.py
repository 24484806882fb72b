"""pod-garbage-collector: pods that nobody looks after any longer.

    ended pods beyond a number       the oldest go
    pods of a node that is gone      go after a while in which the node might come back
    pods that end and have no node   there is nobody who would end them

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection
"""

from __future__ import annotations

import time
from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.client import Client
from windlass.kube.controllers import disruption_target, pod_state
from windlass.kube.controllers.runner import Controller, Key

_PERIOD: Final = 20.0
_QUARANTINE: Final = 40.0
_MOST_ENDED: Final = 12_500
_ALL: Final = ("all",)


class PodGarbageCollector(Controller):
    """See the module. There is one key: all pods."""

    name = "pod-garbage-collector"
    workers = 1

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._missing: dict[str, float] = {}

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", "nodes", lambda _: ())
        self.watch("", "pods", lambda pod: [_ALL] if _has_nobody(pod) else ())
        self.queue.add(_ALL)

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        found = self.cache.list("", "pods")
        ended = [each for each in found if pod_state.is_over(each)]
        ended.sort(key=lambda each: str(each["metadata"]["creationTimestamp"]))
        for pod in ended[: max(len(ended) - _MOST_ENDED, 0)]:
            await self._delete(pod)
        nodes = {each["metadata"]["name"] for each in self.cache.list("", "nodes")}
        now = time.monotonic()
        gone = {name for each in found if (name := each["spec"].get("nodeName")) and name not in nodes}
        self._missing = {name: self._missing.get(name, now) for name in gone}
        for pod in found:
            since = self._missing.get(pod["spec"].get("nodeName") or "")
            if since is not None and now - since >= _QUARANTINE:
                await self._mark(pod)
                await self._delete(pod)
            elif _has_nobody(pod):
                await self._delete(pod)
        return _PERIOD

    async def _mark(self, pod: Object) -> None:
        """Say why a pod that had not ended is gone."""
        if pod_state.is_over(pod):
            return
        message = "PodGC: node no longer exists"
        await disruption_target.mark(self.client, pod, "DeletionByPodGC", message, failed=True)

    async def _delete(self, pod: Object) -> None:
        metadata = pod["metadata"]
        await self.client.delete(
            "", "pods", metadata["namespace"], metadata["name"], uid=metadata["uid"], grace_period=0
        )


def _has_nobody(pod: Object) -> bool:
    return pod_state.is_terminating(pod) and not pod["spec"].get("nodeName")
