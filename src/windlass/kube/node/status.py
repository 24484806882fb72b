"""A pod's status as people read it: phases, conditions, states and reasons in upstream's words. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from windlass.kube.api import times
from windlass.kube.node import resources
from windlass.kube.node.plan import FAILED, SUCCEEDED, Health
from windlass.kube.node.resize import Progress
from windlass.kube.node.runtime import INIT, RUNTIME, Found

Object = dict[str, Any]
_SECOND = 10**9
_COULD_NOT_START = 128
PENDING, RUNNING = "Pending", "Running"
RESIZE_PENDING, RESIZE_IN_PROGRESS = _OF_RESIZE = ("PodResizePending", "PodResizeInProgress")
_DISRUPTION = "DisruptionTarget"
_OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


class Waiting(NamedTuple):
    """Why a container does not run yet."""

    reason: str
    message: str = ""


class Verdict(NamedTuple):
    """Why a pod was ended by the node; `disruption` if for the sake of others."""

    reason: str
    message: str
    disruption: bool = False


@dataclass(kw_only=True)
class View:
    """What is known about a pod on this node.

    Attributes:
        found: its containers, the latest attempt of each name last.
        waiting: by container name.
        held_back: seconds of back-off between restarts, by container name.
        health: by container id, of those that run.
        messages: what containers said at their end, by id.
        images: what people call an image, and its id, by container id.
        outcome: "Succeeded" or "Failed" once nothing will run any more.
        verdict: why the node has ended it.
        allocation: what containers were given, by name; `actual` is what they are held to.
        resize: PodResizePending and PodResizeInProgress, where there is such a thing.
    """

    found: Sequence[Found]
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    held_back: Mapping[str, float] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    outcome: str = ""
    verdict: Verdict | None = None
    initialized: bool = False
    has_sandbox: bool = False
    addresses: Sequence[str] = ()
    host_address: str = ""
    started_at: str = ""
    allocation: Mapping[str, Object] = field(default_factory=dict)
    actual: Mapping[str, Object] = field(default_factory=dict)
    resize: Mapping[str, Progress] = field(default_factory=dict)
    now: float = 0.0


def make(pod: Object, view: View) -> Object:
    """The status, with the conditions that others have set kept as they are."""
    spec, before = pod["spec"], pod.get("status") or {}
    by_name: dict[str, list[Found]] = {}
    for each in view.found:
        by_name.setdefault(each.name, []).append(each)
    maker = _Maker(pod, view, by_name)
    inits = [maker.container(each, INIT) for each in spec.get("initContainers") or ()]
    regular = [maker.container(each, "") for each in spec["containers"]]
    ephemeral = [maker.container(each, "") for each in spec.get("ephemeralContainers") or ()]
    phase = _phase(pod, view, inits, regular)
    status: Object = dict(before)
    status["phase"] = phase
    for name in ("reason", "message"):
        status.pop(name, None)
    if view.verdict is not None:
        status |= {"reason": view.verdict.reason, "message": view.verdict.message}
    status["hostIP"] = view.host_address
    status["hostIPs"] = [{"ip": view.host_address}]
    if view.addresses:
        status["podIP"] = view.addresses[0]
        status["podIPs"] = [{"ip": each} for each in view.addresses]
    if view.started_at:
        status["startTime"] = view.started_at
    _put(status, "initContainerStatuses", inits)
    _put(status, "containerStatuses", regular)
    _put(status, "ephemeralContainerStatuses", ephemeral)
    if generation := pod["metadata"].get("generation"):
        status["observedGeneration"] = generation
    status["conditions"] = _conditions(pod, view, phase, inits, regular)
    return status


def _put(status: Object, name: str, value: list[Object]) -> None:
    if value:
        status[name] = value
    else:
        status.pop(name, None)


class _Maker:
    def __init__(self, pod: Object, view: View, by_name: Mapping[str, Sequence[Found]]) -> None:
        self._pod, self._view, self._by_name = pod, view, by_name

    def container(self, container: Object, kind: str) -> Object:
        name = container["name"]
        attempts = self._by_name.get(name, ())
        last = attempts[-1] if attempts else None
        if last is not None and not last.running and not last.ended:
            last = attempts[-2] if len(attempts) > 1 else None
        state = self._state(container, last)
        previous = self._previous(attempts, last, state)
        health = self._view.health.get(last.id) if last is not None and last.running else None
        image, image_id = self._view.images.get(last.id, ("", "")) if last is not None else ("", "")
        found: Object = {
            "name": name,
            "state": state,
            "lastState": previous,
            "ready": self._is_ready(container, kind, last, health),
            "restartCount": last.attempt if last is not None else 0,
            "image": image or container.get("image", ""),
            "imageID": image_id,
            "started": health is not None and health.started,
        }
        if last is not None:
            found["containerID"] = f"{RUNTIME}://{last.id}"
            if last.stop_signal:
                found["stopSignal"] = last.stop_signal
            allocated = self._view.allocation.get(name) or container.get("resources") or {}
            found["resources"] = dict(self._view.actual.get(name) or allocated)
            if requests := allocated.get("requests"):
                found["allocatedResources"] = dict(requests)
        return found

    def _state(self, container: Object, last: Found | None) -> Object:
        name = container["name"]
        if last is not None and last.running:
            return {"running": {"startedAt": _time(last.started_at)}}
        if (waiting := self._view.waiting.get(name)) is not None:
            return _waiting(waiting)
        if last is None:
            starting = bool(self._pod["spec"].get("initContainers")) and not self._view.initialized
            return _waiting(Waiting("PodInitializing" if starting else "ContainerCreating"))
        if name in self._view.held_back:
            metadata = self._pod["metadata"]
            about = f"pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})"
            seconds = self._view.held_back[name]
            shown = times.format_duration(seconds)
            return _waiting(Waiting("CrashLoopBackOff", f"back-off {shown} restarting failed container={name} {about}"))
        return {"terminated": self._ended(last)}

    def _previous(self, attempts: Sequence[Found], last: Found | None, state: Object) -> Object:
        if last is None:
            return {}
        if "waiting" in state and last.ended:
            return {"terminated": self._ended(last)}
        ended = [each for each in attempts if each.ended and each is not last]
        return {"terminated": self._ended(ended[-1])} if ended else {}

    def _ended(self, found: Found) -> Object:
        code = found.exit_code
        reason = "Completed" if code == 0 else "Error"
        if found.oom_killed:
            reason = "OOMKilled"
        terminated: Object = {"exitCode": code, "reason": reason}
        if found.failure and not found.was_started:
            terminated = {"exitCode": _COULD_NOT_START, "reason": "StartError", "message": found.failure}
        elif message := self._view.messages.get(found.id):
            terminated["message"] = message
        terminated["startedAt"] = _time(found.started_at)
        terminated["finishedAt"] = _time(found.finished_at or found.created_at)
        terminated["containerID"] = f"{RUNTIME}://{found.id}"
        return terminated

    def _is_ready(self, container: Object, kind: str, last: Found | None, health: Health | None) -> bool:
        if kind == INIT and not resources.is_sidecar(container):
            return last is not None and last.ended and last.exit_code == 0 and not last.failure
        return health is not None and health.ready


def _time(nanoseconds: int) -> str | None:
    return times.format_time(nanoseconds / _SECOND)


def _waiting(waiting: Waiting) -> Object:
    found = {"reason": waiting.reason}
    if waiting.message:
        found["message"] = waiting.message
    return {"waiting": found}


def _phase(pod: Object, view: View, inits: Sequence[Object], regular: Sequence[Object]) -> str:
    if view.outcome:
        return view.outcome
    if view.verdict is not None:
        return FAILED
    if inits and not view.initialized:
        return PENDING
    running = stopped = waiting = 0
    for each in regular:
        if "running" in each["state"]:
            running += 1
        elif "terminated" in each["state"] or each["lastState"]:
            stopped += 1
        else:
            waiting += 1
    if waiting:
        return PENDING
    return RUNNING if running or stopped else PENDING


def _conditions(
    pod: Object, view: View, phase: str, inits: Sequence[Object], regular: Sequence[Object]
) -> list[Object]:
    before = {each["type"]: each for each in (pod.get("status") or {}).get("conditions") or ()}
    unready = [each["name"] for each in regular if not each["ready"]]
    sidecars = {each["name"] for each in pod["spec"].get("initContainers") or () if resources.is_sidecar(each)}
    unready += [each["name"] for each in inits if each["name"] in sidecars and not each["ready"]]
    incomplete = [
        each["name"]
        for each in inits
        if not (each["ready"] if each["name"] not in sidecars else each["started"] or view.initialized)
    ]
    ended = phase in (SUCCEEDED, FAILED)
    ready = _of_containers(unready, phase)
    gates = [
        each["conditionType"]
        for each in pod["spec"].get("readinessGates") or ()
        if before.get(each["conditionType"], {}).get("status") != "True"
    ]
    own: dict[str, tuple[bool, str, str]] = {
        "PodReadyToStartContainers": (view.has_sandbox, "", ""),
        "Initialized": _initialized(view, phase, incomplete, ended=ended),
        "ContainersReady": ready,
        "Ready": _gated(ready, gates, before),
    }
    found = []
    for kind in _OWN_CONDITIONS:
        is_true, reason, message = own[kind]
        found.append(_condition(kind, before.get(kind), is_true, reason, message, view.now, pod))
    if "PodScheduled" not in before:
        # A pod that was given to the node without a scheduler.
        found.append(_condition("PodScheduled", None, True, "", "", view.now, pod))
    if view.verdict is not None and view.verdict.disruption:
        message, old = view.verdict.message, before.pop(_DISRUPTION, None)
        found.append(_condition(_DISRUPTION, old, True, "TerminationByKubelet", message, view.now, pod))
    found += [each for kind, each in before.items() if kind not in own and kind not in _OF_RESIZE]
    return found + [_of_resize(kind, before.get(kind), each, view.now) for kind, each in view.resize.items()]


def _of_resize(kind: str, before: Object | None, progress: Progress, now: float) -> Object:
    same = before is not None and before.get("reason", "") == progress.reason
    found: Object = {"type": kind, "status": "True", "lastProbeTime": None}
    found["lastTransitionTime"] = before["lastTransitionTime"] if before and same else times.format_time(now)
    if progress.reason:
        found["reason"] = progress.reason
    if progress.message:
        found["message"] = progress.message
    if progress.generation:
        found["observedGeneration"] = progress.generation
    return found


def _initialized(view: View, phase: str, incomplete: Sequence[str], *, ended: bool) -> tuple[bool, str, str]:
    if phase == SUCCEEDED:
        return True, "PodCompleted", ""
    if view.initialized or not incomplete:
        return True, "", ""
    return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]"


def _of_containers(unready: Sequence[str], phase: str) -> tuple[bool, str, str]:
    if phase == SUCCEEDED:
        return False, "PodCompleted", ""
    if phase == FAILED:
        return False, "PodFailed", ""
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _gated(ready: tuple[bool, str, str], gates: Sequence[str], before: Mapping[str, Object]) -> tuple[bool, str, str]:
    if not ready[0] or not gates:
        return ready
    problems = [
        f'the status of pod readiness gate "{gate}" is not "True", but {before[gate]["status"]}'
        if gate in before
        else f'corresponding condition of pod readiness gate "{gate}" does not exist.'
        for gate in gates
    ]
    return False, "ReadinessGatesNotReady", ", ".join(problems)


def _condition(
    kind: str, before: Object | None, is_true: bool, reason: str, message: str, now: float, pod: Object
) -> Object:
    status = "True" if is_true else "False"
    found: Object = {"type": kind, "status": status, "lastProbeTime": None}
    same = before is not None and before.get("status") == status
    found["lastTransitionTime"] = (before or {}).get("lastTransitionTime") if same else times.format_time(now)
    if reason:
        found["reason"] = reason
    if message:
        found["message"] = message
    if generation := pod["metadata"].get("generation"):
        found["observedGeneration"] = generation
    return found
