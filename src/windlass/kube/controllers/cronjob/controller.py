"""Jobs that are due, and those that are too many."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from windlass.kube.api import cron as schedule
from windlass.kube.api import objects, times
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.events import NORMAL, WARNING, EventRecorder
from windlass.kube.controllers.job.run import COMPLETE, FAILED, is_over
from windlass.kube.controllers.ownership import OwnedIndex, owner_reference
from windlass.kube.controllers.pod_control import is_namespace_ending
from windlass.kube.controllers.runner import Controller, Key

_GROUP: Final = "batch"
_SCHEDULED: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_MANY: Final = 100


class CronJobController(Controller):
    """See the package. Keys are CronJobs."""

    name = "cronjob-controller"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, self.name)
        self._jobs = OwnedIndex(self._touched)

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch(_GROUP, "cronjobs")
        self.listen(_GROUP, "jobs", self._jobs.changed)

    def _touched(self, owner: Object | None, job: Object) -> None:
        if owner is not None and owner["kind"] == "CronJob":
            self.queue.add((job["metadata"]["namespace"], owner["name"]))

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        cron = self.cache.get(_GROUP, "cronjobs", *key)
        if cron is None or cron["metadata"].get("deletionTimestamp"):
            return None
        jobs = self._jobs.owned(cron["metadata"]["uid"])
        status: Object = objects.copy(cron.get("status") or {})
        self._look(cron, status, jobs)
        try:
            wait = await self._run(cron, status, jobs)
        except StatusError as error:
            if is_namespace_ending(error):
                return None
            raise
        finally:
            await self.write_status(_GROUP, "cronjobs", cron, status)
        await self._forget(cron, jobs)
        return wait

    def _look(self, cron: Object, status: Object, jobs: Sequence[Object]) -> None:
        """Which jobs still run, and what has ended since the last look."""
        before = {each["uid"]: each for each in status.get("active") or ()}
        running = {each["metadata"]["uid"]: each for each in jobs if not is_over(each)}
        for job in jobs:
            metadata = job["metadata"]
            if metadata["uid"] not in before or metadata["uid"] in running:
                continue
            ending = COMPLETE if pod_state.is_true(job, COMPLETE) else "Failed"
            message = f"Saw completed job: {metadata['name']}, condition: {ending}"
            self._recorder.event(cron, NORMAL, "SawCompletedJob", message)
            done = job["status"].get("completionTime")
            if done and done > status.get("lastSuccessfulTime", ""):
                status["lastSuccessfulTime"] = done
        found = [_reference(each) for each in running.values()]
        status["active"] = sorted(found, key=lambda each: str(each["name"]))
        if not found:
            del status["active"]

    async def _run(self, cron: Object, status: Object, jobs: Sequence[Object]) -> float | None:
        """Make the job that is due; seconds until the next one. Raises StatusError."""
        spec, now = cron["spec"], time.time()
        if spec.get("suspend"):
            return None
        try:
            clock = schedule.parse(spec["schedule"], spec.get("timeZone") or "")
        except schedule.BadSchedule as error:
            if "time zone" in str(error):
                self._recorder.event(cron, WARNING, "UnknownTimeZone", f"invalid timeZone: {spec.get('timeZone')}")
            else:
                self._recorder.event(cron, WARNING, "UnparseableSchedule", f"unparseable: {error}")
            return None
        due = self._due(cron, clock, now)
        upcoming = clock.next(now)
        wait = None if upcoming is None else max(upcoming - now, 0.0) + 0.05
        if due is None:
            return wait
        deadline = spec.get("startingDeadlineSeconds")
        if deadline is not None and due + int(deadline) < now:
            message = f"Missed scheduled time to start a job: {times.format_time(due)}"
            self._recorder.event(cron, WARNING, "MissSchedule", message)
            return wait
        active = [each for each in jobs if not is_over(each)]
        policy = spec.get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and active:
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._recorder.event(cron, NORMAL, "JobAlreadyActive", message)
            return wait
        if policy == "Replace":
            for job in active:
                await self._delete(cron, job)
        made = await self._create(cron, due)
        status["lastScheduleTime"] = times.format_time(due)
        if made is not None:
            gone = {each["metadata"]["uid"] for each in active} if policy == "Replace" else set()
            left = [each for each in status.get("active") or () if each["uid"] not in gone]
            status["active"] = [*left, _reference(made)]
        return wait

    def _due(self, cron: Object, clock: schedule.Schedule, now: float) -> float | None:
        """The latest moment that has come and had no job yet."""
        spec = cron["spec"]
        last = (cron.get("status") or {}).get("lastScheduleTime") or cron["metadata"]["creationTimestamp"]
        begin = float(objects.seconds(last))
        if (deadline := spec.get("startingDeadlineSeconds")) is not None:
            begin = max(begin, now - int(deadline))
        latest, count, moment = None, 0, clock.next(begin)
        while moment is not None and moment <= now:
            latest, count = moment, count + 1
            if count > _MANY:
                message = (
                    "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
                )
                self._recorder.event(cron, WARNING, "TooManyMissedTimes", message)
                # The latest one, without a walk over all the others.
                begin = now - max((moment - begin) / count * 2, 120.0)
                return _latest(clock, begin, now) or latest
            moment = clock.next(moment)
        return latest

    async def _create(self, cron: Object, due: float) -> Object | None:
        template = objects.copy(cron["spec"]["jobTemplate"])
        metadata = template.get("metadata") or {}
        name = f"{cron['metadata']['name']}-{int(due) // 60}"
        job: Object = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": cron["metadata"]["namespace"],
                "labels": dict(metadata.get("labels") or {}),
                "annotations": {**(metadata.get("annotations") or {}), _SCHEDULED: times.format_time(due)},
                "ownerReferences": [owner_reference(cron)],
            },
            "spec": template["spec"],
        }
        try:
            made = await self.client.create(_GROUP, "jobs", job)
        except StatusError as error:
            if error.reason == "AlreadyExists":
                return None  # made before a crash
            if not is_namespace_ending(error):
                self._recorder.event(cron, WARNING, "FailedCreate", f"Error creating job: {error.message}")
            raise
        self._recorder.event(cron, NORMAL, "SuccessfulCreate", f"Created job {name}")
        return made

    async def _forget(self, cron: Object, jobs: Sequence[Object]) -> None:
        """Delete the oldest jobs beyond what is to be kept."""
        spec = cron["spec"]
        for kind, limit in (
            (COMPLETE, spec.get("successfulJobsHistoryLimit")),
            (FAILED, spec.get("failedJobsHistoryLimit")),
        ):
            if limit is None:
                continue
            ended = [each for each in jobs if pod_state.is_true(each, kind)]
            ended.sort(key=lambda each: str(each["status"].get("startTime") or ""))
            for job in ended[: max(len(ended) - int(limit), 0)]:
                await self._delete(cron, job)

    async def _delete(self, cron: Object, job: Object) -> None:
        metadata = job["metadata"]
        await self.client.delete(
            _GROUP, "jobs", metadata["namespace"], metadata["name"], uid=metadata["uid"], propagation="Background"
        )
        self._recorder.event(cron, NORMAL, "SuccessfulDelete", f"Deleted job {metadata['name']}")


def _latest(clock: schedule.Schedule, begin: float, now: float) -> float | None:
    found, moment = None, clock.next(begin)
    while moment is not None and moment <= now:
        found, moment = moment, clock.next(moment)
    return found


def _reference(job: Object) -> Object:
    metadata = job["metadata"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": metadata["uid"],
        "resourceVersion": metadata.get("resourceVersion", ""),
    }
