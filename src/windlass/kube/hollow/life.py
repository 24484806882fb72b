"""What the status of a pod says that nothing runs: it starts, is ready, and ends as if something did.

Annotations of a pod choose another life than the usual one:

    windlass.dev/hollow-start     how long it takes to start ("2s")
    windlass.dev/hollow-run       how long it runs before it ends by itself; pods that restart for ever do not end
    windlass.dev/hollow-exit      the exit code with which it ends

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from windlass.kube.api import times

Object = dict[str, Any]

_PREFIX: Final = "windlass.dev/hollow-"
_LONGEST: Final = 24 * 3600.0


@dataclass(frozen=True)
class Life:
    """Seconds until a pod is ready, seconds that it then runs (None: for ever), and how it ends."""

    start: float
    run: float | None
    exit_code: int = 0


def life_of(pod: Object, start: float, run: float) -> Life:
    """How a pod will live; `start` and `run` (of pods that end) are what is usual here."""
    annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}
    ends = pod["spec"].get("restartPolicy", "Always") != "Always"
    exit_code = annotations.get(f"{_PREFIX}exit", "")
    return Life(
        _seconds(annotations, "start", start),
        _seconds(annotations, "run", run) if ends else None,
        int(exit_code) if exit_code.isdigit() else 0,
    )


def _seconds(annotations: Mapping[str, str], name: str, usual: float) -> float:
    try:
        return min(max(times.parse_duration(annotations[_PREFIX + name]), 0.0), _LONGEST)
    except (KeyError, ValueError):
        return usual


def running(pod: Object, host: str, address: str) -> Object:
    """The status of a pod that is ready."""
    now = times.format_time(time.time())
    spec, status = pod["spec"], dict(pod.get("status") or {})
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    first = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") != "Always"]
    done = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
    runs = {"running": {"startedAt": now}}
    status |= {
        "phase": "Running",
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "podIP": host if spec.get("hostNetwork") else address,
        "podIPs": [{"ip": host if spec.get("hostNetwork") else address}],
        "startTime": status.get("startTime") or now,
        "containerStatuses": [_container(each, runs, ready=True) for each in spec["containers"]],
        "conditions": _conditions(status, now, ready="True", spec=spec),
    }
    if first or sidecars:
        status["initContainerStatuses"] = [
            _container(each, runs if each in sidecars else done, ready=True) for each in spec["initContainers"]
        ]
    return status


def ended(pod: Object, exit_code: int) -> Object:
    """The status of a pod that has ended by itself."""
    now = times.format_time(time.time())
    status = dict(pod.get("status") or {})
    state = {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed"}
    found = []
    for each in status.get("containerStatuses") or ():
        begun = ((each.get("state") or {}).get("running") or {}).get("startedAt") or now
        terminated = {"terminated": state | {"startedAt": begun, "finishedAt": now}}
        found.append({**each, "ready": False, "started": False, "state": terminated})
    status |= {
        "phase": "Failed" if exit_code else "Succeeded",
        "containerStatuses": found,
        "conditions": _conditions(status, now, ready="False", spec=pod["spec"]),
    }
    return status


def _container(container: Object, state: Object, *, ready: bool) -> Object:
    name = container["name"]
    return {
        "name": name,
        "image": container.get("image", ""),
        "imageID": f"hollow://{container.get('image', '')}",
        "containerID": f"hollow://{name}",
        "ready": ready,
        "started": "running" in state,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }


def _conditions(status: Object, now: str, *, ready: str, spec: Object) -> list[Object]:
    before = {each["type"]: each for each in status.get("conditions") or ()}
    gates = [each["conditionType"] for each in spec.get("readinessGates") or ()]
    if any((before.get(each) or {}).get("status") != "True" for each in gates):
        ready_too = "False"
    else:
        ready_too = ready
    wanted = {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": ready_too,
        "ContainersReady": ready,
    }
    if ready == "False":
        wanted["PodReadyToStartContainers"] = "False"
    found = []
    for kind, value in wanted.items():
        old = before.pop(kind, {})
        same = old.get("status") == value
        made: Object = {
            "type": kind,
            "status": value,
            "lastProbeTime": None,
            "lastTransitionTime": old.get("lastTransitionTime", now) if same else now,
        }
        if value == "False":
            made["reason"] = "PodCompleted"
        found.append(made)
    return [*found, *before.values()]
