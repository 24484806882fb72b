"""Carries out resizes of one pod: grants what fits, changes control groups in an order in which nothing is too small.

Growing, the pod's group goes first and its containers follow; shrinking, the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from windlass.errors import SystemFailure, WindlassError
from windlass.kube.node import plan, resize, resources
from windlass.kube.node.events import NORMAL, WARNING
from windlass.kube.node.resize import ERROR, INFEASIBLE, Progress
from windlass.kube.node.resources import Limits
from windlass.kube.node.rooms import Rooms
from windlass.kube.node.runtime import Found
from windlass.kube.node.status import RESIZE_IN_PROGRESS, RESIZE_PENDING

Object = dict[str, Any]

_RETRY_SECONDS: Final = 30.0


class Resizer:
    """One pod's.

    Attributes:
        allocation: what its containers were given, by name; `actual` is what they are held to.
        progress: the conditions on a resize, by type.
        replaced: ids of containers that are to be restarted for their new limits.
    """

    def __init__(self, rooms: Rooms, tell: Callable[[str, str, str], None], *, is_static: bool) -> None:
        self._rooms = rooms
        self._tell = tell
        self._is_static = is_static
        self._pod_limits: Limits | None = None
        self.allocation: dict[str, Object] = {}
        self.actual: dict[str, Object] = {}
        self.progress: dict[str, Progress] = {}
        self.replaced: set[str] = set()

    def begin(self, pod: Object, *, runs: bool) -> None:
        """The pod is new here, or `runs` since an earlier agent was here."""
        self.allocation = resize.granted(pod) if runs else resize.wanted(pod)
        self.actual = dict(self.allocation)
        self._pod_limits = resources.pod_limits(self.allocated(pod)["spec"])

    def allocated(self, pod: Object) -> Object:
        """The pod with what it was given in the place of what it asks for."""
        return resize.allocated(pod, self.allocation)

    @property
    def waits(self) -> bool:
        """Whether the pod has asked for more than there is."""
        return RESIZE_PENDING in self.progress

    async def advance(self, pod: Object, found: list[Found], cgroup: str) -> float | None:
        """Grant what can be granted now, and apply it; seconds until it is worth another look."""
        self._grant(pod)
        if RESIZE_IN_PROGRESS in self.progress:
            generation = self.progress[RESIZE_IN_PROGRESS].generation
            try:
                done = await self._apply(self.allocated(pod), found, cgroup)
            except (WindlassError, OSError) as error:
                problem = Progress(ERROR, str(error), generation)
                if self.progress[RESIZE_IN_PROGRESS] != problem:
                    self.progress[RESIZE_IN_PROGRESS] = problem
                    self._tell(WARNING, "ResizeError", f"Pod resize error: {resize.report(pod, str(error))}")
                return _RETRY_SECONDS
            if done:
                del self.progress[RESIZE_IN_PROGRESS]
                self._tell(NORMAL, "ResizeCompleted", f"Pod resize completed: {resize.report(self.allocated(pod))}")
        return _RETRY_SECONDS if self.waits else None

    def _grant(self, pod: Object) -> None:
        if resize.is_granted(pod, self.allocation):
            self.progress.pop(RESIZE_PENDING, None)
            return
        rooms, generation = self._rooms, pod["metadata"].get("generation", 0)
        refused = resize.refusal(pod, rooms.active(), rooms.allocatable(), is_static=self._is_static)
        if refused is None:
            self.allocation = resize.wanted(pod)
            self.progress = {RESIZE_IN_PROGRESS: Progress("", "", generation)}
            self._tell(NORMAL, "ResizeStarted", f"Pod resize started: {resize.report(pod)}")
            return
        reason, message = refused
        pending = Progress(reason, message, generation)
        if self.progress.get(RESIZE_PENDING) != pending:
            self.progress[RESIZE_PENDING] = pending
            event = "ResizeInfeasible" if reason == INFEASIBLE else "ResizeDeferred"
            self._tell(WARNING, event, f"Pod resize {reason}: {resize.report(pod, message)}")

    async def _apply(self, pod: Object, found: list[Found], cgroup: str) -> bool:
        """Bring the groups nearer to what was granted; whether they are there. Raises WindlassError, OSError."""
        rooms, last = self._rooms, plan.latest(found)
        self.replaced &= {each.id for each in found}
        target = resources.pod_limits(pod["spec"])
        changes: list[tuple[Found, Limits]] = []
        for container in resize.resizable(pod):
            name = container["name"]
            limits = resources.container_limits(container)
            running = last.get(name)
            if running is None or not running.running or running.limits == limits:
                self.actual[name] = self.allocation[name]
            elif resize.restarts(container, running.limits, limits):
                self.replaced.add(running.id)
            else:
                changes.append((running, limits))
        if any(each.id in self.replaced and each.running for each in found):
            await rooms.cgroups.apply(cgroup, self._until_then(target))
            return False
        self._check_usage(changes)
        await rooms.cgroups.apply(cgroup, self._until_then(target))
        for running, limits in changes:
            await rooms.runtime.update(running.id, resize.update(limits))
            self.actual[running.name] = self.allocation[running.name]
        await rooms.cgroups.apply(cgroup, target)
        self._pod_limits = target
        return True

    def _until_then(self, target: Limits) -> Limits:
        """What the pod's group may have while containers change."""
        return target if self._pod_limits is None else resize.widest(self._pod_limits, target)

    def _check_usage(self, changes: list[tuple[Found, Limits]]) -> None:
        """The kernel would end processes at once. Raises SystemFailure."""
        problems = []
        for running, limits in changes:
            if not limits.memory or (running.limits.memory and running.limits.memory <= limits.memory):
                continue
            usage = self._rooms.runtime.stats(running.id).memory.usage
            if usage > limits.memory:
                problems.append(
                    f'attempting to set container "{running.name}" memory limit ({limits.memory}) '
                    f"below current usage ({usage})"
                )
        if problems:
            raise SystemFailure(f"cannot decrease memory limits: {', '.join(problems)}")
