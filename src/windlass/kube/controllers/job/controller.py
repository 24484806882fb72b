"""Follows jobs and their pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers.events import EventRecorder
from windlass.kube.controllers.job import pods, run
from windlass.kube.controllers.job.backoff import Failures
from windlass.kube.controllers.ownership import OwnedIndex, claim, controller_of, selector_of, takers
from windlass.kube.controllers.pod_control import PodControl, at_once, is_namespace_ending, slow_start
from windlass.kube.controllers.runner import Controller, Key

_GROUP: Final = "batch"
_MANAGER: Final = "kubernetes.io/job-controller"


class JobController(Controller):
    """See the package. Keys are jobs, and pods whose job is gone (of three parts)."""

    name = "job-controller"
    workers = 10

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, self.name)
        self._control = PodControl(self.client, self._recorder)
        self._index = OwnedIndex(self._pod_touched)
        self._failures: dict[str, Failures] = {}

    def subscribe(self) -> None:
        """See `Controller`."""
        self.listen(_GROUP, "jobs", self._job_changed)
        self.listen("", "pods", self._index.changed)

    def _job_changed(self, event: str, job: Object) -> None:
        metadata = job["metadata"]
        if event == "DELETED":
            self._failures.pop(metadata["uid"], None)
            for pod in self._index.owned(metadata["uid"]):
                self._orphaned(pod)
        self.queue.add((metadata["namespace"], metadata["name"]))

    def _pod_touched(self, owner: Object | None, pod: Object) -> None:
        namespace = pod["metadata"]["namespace"]
        if owner is not None:
            if owner["kind"] == "Job":
                job = self.cache.get(_GROUP, "jobs", namespace, owner["name"])
                if job is None or job["metadata"]["uid"] != owner["uid"]:
                    self._orphaned(pod)
                else:
                    self.queue.add((namespace, owner["name"]))
            return
        self._orphaned(pod)
        if pod["metadata"].get("deletionTimestamp"):
            return
        for key in takers(self.cache, _GROUP, "jobs", pod):
            self.queue.add(key)

    def _orphaned(self, pod: Object) -> None:
        """A pod whose job is gone must not wait for it."""
        if pods.is_tracked(pod):
            self.queue.add((pod["metadata"]["namespace"], pod["metadata"]["name"], "pod"))

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        if len(key) == 3:
            pod = self.cache.get("", "pods", key[0], key[1])
            if pod is not None and pods.is_tracked(pod) and not self._has_job(pod):
                await self.untrack([pod])
            return None
        job = self.cache.get(_GROUP, "jobs", *key)
        if job is None or job["spec"].get("managedBy") not in (None, "", _MANAGER):
            return None
        if job["metadata"].get("deletionTimestamp"):
            owned = self._index.owned(job["metadata"]["uid"])
            await self.untrack([each for each in owned if pods.is_tracked(each)])
            return None
        await claim(self.client, "", "pods", job, "jobs", selector_of(job), self._index)
        try:
            return await run.Pass(self, job, self._index.owned(job["metadata"]["uid"])).run()
        except StatusError as error:
            if is_namespace_ending(error):
                return None
            raise

    def _has_job(self, pod: Object) -> bool:
        owner = controller_of(pod)
        if owner is None or owner["kind"] != "Job":
            return False
        job = self.cache.get(_GROUP, "jobs", pod["metadata"]["namespace"], owner["name"])
        return job is not None and job["metadata"]["uid"] == owner["uid"]

    # What a pass does ------------------------------------------------------------------------------------------------

    async def create(self, job: Object, wanted: Sequence[Object]) -> None:
        """See `Hands`."""
        await slow_start(len(wanted), lambda number: self._control.create(wanted[number], job))

    async def delete(self, job: Object, unwanted: Sequence[Object]) -> None:
        """See `Hands`."""
        await at_once([self._control.delete(each, job) for each in unwanted])

    async def untrack(self, ended: Sequence[Object]) -> None:
        """See `Hands`."""
        await at_once([self._untrack(each) for each in ended])

    async def _untrack(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]

        def change(live: Object) -> Object:
            if live["metadata"]["uid"] == uid:
                left = [each for each in live["metadata"].get("finalizers") or () if each != pods.FINALIZER]
                live["metadata"]["finalizers"] = left
            return live

        try:
            await self.client.update("", "pods", pod["metadata"]["namespace"], pod["metadata"]["name"], change)
        except StatusError as error:
            if error.code != 404:
                raise

    async def write(self, job: Object, status: Object) -> Object:
        """See `Hands`."""
        return await self.write_status(_GROUP, "jobs", job, status)

    def tell(self, job: Object, type: str, reason: str, message: str) -> None:
        """See `Hands`."""
        self._recorder.event(job, type, reason, message)

    def failures(self, job: Object) -> Failures:
        """See `Hands`."""
        return self._failures.get(job["metadata"]["uid"], Failures())

    def set_failures(self, job: Object, failures: Failures) -> None:
        """See `Hands`."""
        self._failures[job["metadata"]["uid"]] = failures
