"""One pass over one job."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from windlass.kube.api import objects, times
from windlass.kube.api.resource import Object
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.job import backoff, indexes, making, pods, policies, tracking
from windlass.kube.controllers.job.backoff import Failures

COMPLETE, FAILED, SUSPENDED = "Complete", "Failed", "Suspended"
CRITERIA_MET, FAILURE_TARGET = "SuccessCriteriaMet", "FailureTarget"
_MOST_PODS: Final = 500


class Ending(NamedTuple):
    """Why a job is over, or about to be."""

    kind: str
    reason: str
    message: str


class Hands(Protocol):
    """What a pass does to the world; `controller` is it."""

    async def create(self, job: Object, wanted: Sequence[Object]) -> None:
        """Make pods. Raises StatusError."""

    async def delete(self, job: Object, unwanted: Sequence[Object]) -> None:
        """Delete pods. Raises StatusError."""

    async def untrack(self, ended: Sequence[Object]) -> None:
        """Take the finalizer of pods away. Raises StatusError."""

    async def write(self, job: Object, status: Object) -> Object:
        """Write a job's status; the job then. Raises StatusError."""
        ...

    def tell(self, job: Object, type: str, reason: str, message: str) -> None:
        """An event."""

    def failures(self, job: Object) -> Failures:
        """How often pods have failed since one succeeded."""
        ...

    def set_failures(self, job: Object, failures: Failures) -> None:
        """Remember that."""


def is_over(job: Object) -> bool:
    """Whether a job is complete or has failed."""
    return pod_state.is_true(job, COMPLETE) or pod_state.is_true(job, FAILED)


class Pass:
    """What is known of a job now, and what follows."""

    def __init__(self, hands: Hands, job: Object, own: Sequence[Object]) -> None:
        self._hands = hands
        self._job = job
        self._spec = job["spec"]
        self._own = own
        self._now = time.time()
        self._status: Object = objects.copy(job.get("status") or {})
        tracking.settle(self._status, {each["metadata"]["uid"]: each for each in own})
        self._is_indexed = self._spec.get("completionMode") == "Indexed"
        listed = tracking.uncounted(self._status)
        known = listed["succeeded"] | listed["failed"]
        new = [each for each in own if pods.is_tracked(each) and each["metadata"]["uid"] not in known]
        self._new_succeeded = [each for each in new if pod_state.phase(each) == "Succeeded"]
        self._new_failed = [
            each for each in new if pod_state.phase(each) != "Succeeded" and pods.is_failed(each, self._spec)
        ]
        counted = [each for each in self._new_failed if self._verdict(each).counts]
        self._ended = {each["metadata"]["uid"] for each in (*self._new_succeeded, *self._new_failed)}
        self._running = [each for each in own if pod_state.is_active(each)]
        self._terminating = [each for each in own if pods.is_terminating(each)]
        self._succeeded = int(self._status.get("succeeded") or 0) + len(listed["succeeded"]) + len(self._new_succeeded)
        self._failed = int(self._status.get("failed") or 0) + len(listed["failed"]) + len(counted)
        self._counted_failed = counted
        self._done: indexes.Indexes = frozenset()
        self._lost: indexes.Indexes = frozenset()
        if self._is_indexed:
            ended = [each for each in own if pod_state.phase(each) == "Succeeded"]
            self._done = tracking.completed(self._status, self._spec, ended)
            self._succeeded = len(self._done)
            self._lost = self._failed_indexes()

    def _verdict(self, pod: Object) -> policies.Verdict:
        return policies.judge(self._spec.get("podFailurePolicy"), pod)

    def _failed_indexes(self) -> indexes.Indexes:
        if self._spec.get("backoffLimitPerIndex") is None:
            return frozenset()
        before = indexes.parse(self._status.get("failedIndexes"), int(self._spec["completions"]))
        found = {
            index
            for each in self._new_failed
            if (index := pods.index_of(each)) is not None and pods.has_failed_index(each, self._spec)
        }
        return (before | found) - self._done

    # The verdict -----------------------------------------------------------------------------------------------------

    async def run(self) -> float | None:
        """Do what follows; seconds after which to look again.

        Raises:
            StatusError: it comes again.
        """
        if is_over(self._job):
            await self._hands.untrack([each for each in self._own if pods.is_tracked(each)])
            return None
        failures = self._hands.failures(self._job).after(self._new_succeeded, self._counted_failed)
        is_suspended = bool(self._spec.get("suspend"))
        if not is_suspended and not self._status.get("startTime"):
            self._status["startTime"] = times.format_time(self._now)
        ending = self._ending()
        wait = None
        if ending is not None or is_suspended:
            await self._hands.delete(self._job, self._running)
            if is_suspended and ending is None:
                self._tell_suspended(True)
        else:
            self._tell_suspended(False)
            wait = await self._manage(failures)
        await self._record(ending)
        self._hands.set_failures(self._job, failures)
        return self._soonest(wait)

    def _ending(self) -> Ending | None:
        told = pod_state.condition(self._job, FAILURE_TARGET)
        if told is not None and told["status"] == "True":
            return Ending(FAILED, told.get("reason", ""), told.get("message", ""))
        told = pod_state.condition(self._job, CRITERIA_MET)
        if told is not None and told["status"] == "True":
            return Ending(COMPLETE, told.get("reason", ""), told.get("message", ""))
        return self._failure() or self._success()

    def _failure(self) -> Ending | None:
        spec = self._spec
        for each in self._new_failed:
            verdict = self._verdict(each)
            if verdict.action == policies.FAIL_JOB:
                return Ending(FAILED, "PodFailurePolicy", verdict.message)
        per_index = spec.get("backoffLimitPerIndex") is not None
        limit = int(spec.get("backoffLimit", 6))
        restarts = (
            sum(map(_restarts, self._running)) if spec["template"]["spec"].get("restartPolicy") == "OnFailure" else 0
        )
        if (self._counted_failed and self._failed > limit) or (restarts and restarts > limit):
            return Ending(FAILED, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        deadline = spec.get("activeDeadlineSeconds")
        start = None if spec.get("suspend") else self._status.get("startTime")
        if deadline is not None and start and self._now - objects.seconds(start) >= int(deadline):
            return Ending(FAILED, "DeadlineExceeded", "Job was active longer than specified deadline")
        if per_index:
            most = spec.get("maxFailedIndexes")
            if most is not None and len(self._lost) > int(most):
                message = "Job has exceeded the specified maximal number of failed indexes"
                return Ending(FAILED, "MaxFailedIndexesExceeded", message)
            if self._lost and len(self._lost) + len(self._done) >= int(spec["completions"]):
                return Ending(FAILED, "FailedIndexes", "Job has failed indexes")
        return None

    def _restarts_in_place(self) -> bool:
        return bool(self._spec["template"]["spec"].get("restartPolicy") == "OnFailure")

    def _success(self) -> Ending | None:
        spec = self._spec
        if self._is_indexed:
            met = policies.met_criteria(spec.get("successPolicy"), self._done, int(spec["completions"]))
            if met:
                return Ending(COMPLETE, "SuccessPolicy", met)
        wanted = spec.get("completions")
        if bool(self._succeeded) and not self._running if wanted is None else self._succeeded >= int(wanted):
            return Ending(COMPLETE, "CompletionsReached", "Reached expected number of succeeded pods")
        return None

    # Pods ------------------------------------------------------------------------------------------------------------

    async def _manage(self, failures: Failures) -> float | None:
        """Have as many pods as the job wants now; seconds until more may come."""
        spec, job = self._spec, self._job
        active = self._running
        parallel = int(spec.get("parallelism", 1))
        if spec.get("completions") is None:
            wanted = len(active) if self._succeeded else parallel
            wanted = min(wanted, parallel)
        else:
            left = int(spec["completions"]) - self._succeeded - len(self._lost)
            wanted = max(min(left, parallel), 0)
        if len(active) > wanted:
            unwanted = sorted(
                active, key=lambda each: (pod_state.is_ready(each), each["metadata"]["creationTimestamp"])
            )
            unwanted = unwanted[: len(active) - wanted]
            await self._hands.delete(job, unwanted)
            gone = {each["metadata"]["uid"] for each in unwanted}
            self._running = [each for each in active if each["metadata"]["uid"] not in gone]
            return None
        occupied = len(active)
        if pods.replaces_failed_alone(spec):
            occupied += len(self._terminating)
        missing = min(wanted - occupied, _MOST_PODS)
        if missing <= 0:
            return None
        if spec.get("backoffLimitPerIndex") is None:
            remaining = backoff.remaining(failures, self._now)
            if remaining > 0:
                return remaining
        made, wait = self._next(active, missing)
        await self._hands.create(job, made)
        return wait

    def _next(self, active: Sequence[Object], count: int) -> tuple[list[Object], float | None]:
        job, spec = self._job, self._spec
        if not self._is_indexed:
            return [making.make(job, None) for _ in range(count)], None
        running = [*active, *(self._terminating if pods.replaces_failed_alone(spec) else ())]
        taken = {index for each in running if (index := pods.index_of(each)) is not None}
        waits: list[float] = []
        made: list[Object] = []
        for index in indexes.pending(
            taken | self._done | self._lost, int(spec["completions"]), int(spec["completions"])
        ):
            if len(made) >= count:
                break
            former = [each for each in self._own if pods.index_of(each) == index and pods.is_failed(each, spec)]
            counted, ignored = self._failures_of_index(former)
            if spec.get("backoffLimitPerIndex") is not None and former:
                last = max(map(pods.finished_at, former))
                if (wait := backoff.remaining(Failures(counted + ignored, last), self._now)) > 0:
                    waits.append(wait)
                    continue
            made.append(making.make(job, index, (counted, ignored)))
        return made, min(waits) if waits else None

    def _failures_of_index(self, former: Sequence[Object]) -> tuple[int, int]:
        counted = ignored = 0
        for each in former:
            before = pods.failures_of(each)
            counts = self._verdict(each).counts
            counted = max(counted, before[0] + counts)
            ignored = max(ignored, before[1] + (not counts))
        return counted, ignored

    # Status ----------------------------------------------------------------------------------------------------------

    async def _record(self, ending: Ending | None) -> None:
        status = self._status
        tracking.enlist(status, self._new_succeeded, self._counted_failed)
        if self._is_indexed:
            _set(status, "completedIndexes", indexes.format(self._done))
            if self._spec.get("backoffLimitPerIndex") is not None:
                status["failedIndexes"] = indexes.format(self._lost)
        if ending is not None:
            self._set_condition(CRITERIA_MET if ending.kind == COMPLETE else FAILURE_TARGET, ending)
        self._count()
        self._job = await self._hands.write(self._job, status)
        listed = tracking.uncounted(status)
        counted = self._ended | listed["succeeded"] | listed["failed"]
        await self._hands.untrack(
            [each for each in self._own if pods.is_tracked(each) and each["metadata"]["uid"] in counted]
        )
        if ending is None:
            return
        # The job is over when none of its pods is left that could still do something.
        if self._running or any(each["metadata"]["uid"] not in self._ended for each in self._terminating):
            return
        status = self._status = objects.copy(self._job.get("status") or {})
        tracking.settle(status, {})
        self._set_condition(ending.kind, ending)
        if ending.kind == COMPLETE:
            status["completionTime"] = times.format_time(self._now)
        for name in ("active", "ready", "terminating"):
            status[name] = 0
        self._tidy(status)
        self._job = await self._hands.write(self._job, status)
        if ending.kind == COMPLETE:
            self._hands.tell(self._job, "Normal", "Completed", "Job completed")
        else:
            self._hands.tell(self._job, "Warning", ending.reason, ending.message)

    def _count(self) -> None:
        status = self._status
        status["active"] = len(self._running)
        status["ready"] = sum(map(pod_state.is_ready, self._running))
        status["terminating"] = len(self._terminating)
        self._tidy(status)

    @staticmethod
    def _tidy(status: Object) -> None:
        for name in ("active", "succeeded", "failed"):
            if not status.get(name):
                status.pop(name, None)

    def _set_condition(self, kind: str, ending: Ending) -> None:
        now = times.format_time(self._now)
        self._put({"type": kind, "status": "True", "reason": ending.reason, "message": ending.message}, now)

    def _tell_suspended(self, is_suspended: bool) -> None:
        before = pod_state.condition(self._job, SUSPENDED)
        now = times.format_time(self._now)
        if is_suspended:
            if before is None or before["status"] != "True":
                found = {"type": SUSPENDED, "status": "True", "reason": "JobSuspended", "message": "Job suspended"}
                self._put(found, now)
                self._hands.tell(self._job, "Normal", "Suspended", "Job suspended")
            self._status.pop("startTime", None)
        elif before is not None and before["status"] == "True":
            self._put({"type": SUSPENDED, "status": "False", "reason": "JobResumed", "message": "Job resumed"}, now)
            self._status["startTime"] = now
            self._hands.tell(self._job, "Normal", "Resumed", "Job resumed")

    def _put(self, wanted: Object, now: str) -> None:
        conditions = self._status.get("conditions") or []
        if any(each["type"] == wanted["type"] and each["status"] == wanted["status"] for each in conditions):
            return
        kept = [each for each in conditions if each["type"] != wanted["type"]]
        self._status["conditions"] = [*kept, wanted | {"lastProbeTime": now, "lastTransitionTime": now}]

    def _soonest(self, wait: float | None) -> float | None:
        found = [] if wait is None else [wait]
        deadline, start = self._spec.get("activeDeadlineSeconds"), self._status.get("startTime")
        if deadline is not None and start and not is_over(self._job):
            found.append(max(objects.seconds(start) + int(deadline) - time.time(), 0.01))
        return min(found) if found else None


def _set(status: Object, name: str, value: str) -> None:
    if value:
        status[name] = value
    else:
        status.pop(name, None)


def _restarts(pod: Object) -> int:
    status = pod.get("status") or {}
    listed = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    return sum(int(each.get("restartCount") or 0) for each in listed)
