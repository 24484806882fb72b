"""What a pod needs next: which containers are to be killed, which to be started, and when to look again. Pure.

    init containers   one after the other; a sidecar (restartPolicy Always) only has to have started
    containers        at once, when all init containers are through
    an end            by its restart policy: done, or again after a back-off

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and
https://kubernetes.io/docs/concepts/workloads/pods/init-containers/
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from windlass.kube.node import containers as specs
from windlass.kube.node import resources
from windlass.kube.node.runtime import EPHEMERAL, INIT, REGULAR, Found

Object = dict[str, Any]
SUCCEEDED, FAILED = "Succeeded", "Failed"
_SECOND = 10**9


class Health(Protocol):
    """What the probes of a running container say."""

    started: bool
    ready: bool
    killed_by: tuple[str, int | None] | None


@dataclass(frozen=True)
class Start:
    """A container that is to be started, and how often its name has been before."""

    container: Object
    kind: str
    attempt: int


@dataclass(frozen=True)
class Kill:
    """A container that is to be ended. `grace` in seconds, None for the pod's."""

    found: Found
    message: str
    grace: int | None = None


@dataclass
class Plan:
    """Attributes:

    outcome: "Succeeded" or "Failed" when nothing is left to run, else "".
    waits: seconds that a container's restart is held back, by name.
    initialized: all init containers are through.
    """

    kills: list[Kill] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    stale: list[Found] = field(default_factory=list)
    waits: dict[str, float] = field(default_factory=dict)
    outcome: str = ""
    initialized: bool = False


def restarts(pod: Object, container: Object, exit_code: int, kind: str = REGULAR) -> bool:
    """Whether a container that ended with this code is started again."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        listed = exit_code in (codes.get("values") or ())
        if listed == (codes.get("operator") == "In"):
            return bool(rule.get("action") in ("Restart", "RestartAllContainers"))
    policy = container.get("restartPolicy") or pod["spec"].get("restartPolicy") or "Always"
    if kind == INIT and container.get("restartPolicy") is None and policy == "Always":
        policy = "OnFailure"
    return bool(policy == "Always" or (policy == "OnFailure" and exit_code != 0))


def latest(found: Sequence[Found]) -> dict[str, Found]:
    """The last attempt of each name."""
    return {each.name: each for each in found}


def decide(
    pod: Object,
    found: Sequence[Found],
    *,
    sandbox: str,
    health: Mapping[str, Health],
    now: int,
    delay: Callable[[str], float],
    resized: Collection[str] = (),
) -> Plan:
    """The next steps.

    Parameters:
        found: the pod's containers, the latest attempt of each name last.
        sandbox: the identity of its sandbox; init containers of another one count for nothing.
        health: by container id, of those that run.
        now: nanoseconds since the epoch.
        delay: seconds that the next start of a name has to wait after its last end.
        resized: ids of containers in whose place others are to be started for their new limits.
    """
    plan = Plan()
    last = latest(found)
    spec = pod["spec"]
    inits, regular = spec.get("initContainers") or [], spec["containers"]
    begun = any(
        (each := last.get(container["name"])) is not None and each.sandbox == sandbox and (each.running or each.ended)
        for container in regular
    )
    state = _State(pod, plan, last, sandbox, health, now, delay, resized)
    plan.initialized = begun or state.init_through(inits)
    if begun:
        for container in inits:
            if resources.is_sidecar(container):
                state.look_after(container, INIT)
    if plan.outcome:
        return plan
    if plan.initialized:
        unfinished = [each for each in regular if not state.look_after(each, REGULAR)]
        if not unfinished:
            codes = [last[each["name"]].exit_code for each in regular]
            plan.outcome = FAILED if any(codes) else SUCCEEDED
            plan.starts = []
            return plan
    if plan.initialized or inits:
        for container in spec.get("ephemeralContainers") or ():
            if container["name"] not in last:
                plan.starts.append(Start(container, EPHEMERAL, 0))
    return plan


@dataclass
class _State:
    pod: Object
    plan: Plan
    last: Mapping[str, Found]
    sandbox: str
    health: Mapping[str, Health]
    now: int
    delay: Callable[[str], float]
    resized: Collection[str]

    def init_through(self, inits: Sequence[Object]) -> bool:
        """Bring the init containers one step further; whether all are through."""
        for container in inits:
            found = self.last.get(container["name"])
            if found is not None and found.sandbox != self.sandbox:
                found = None
            if resources.is_sidecar(container):
                self.look_after(container, INIT)
                health = self.health.get(found.id) if found is not None and found.running else None
                if health is None or not health.started:
                    return False
                continue
            if found is None:
                known = self.last.get(container["name"])
                self._start(container, INIT, 0 if known is None else known.attempt + 1)
                return False
            if found.running:
                return False
            if not found.ended:
                self.plan.stale.append(found)
                self._start(container, INIT, found.attempt)
                return False
            if found.exit_code == 0 and not found.failure:
                continue
            if not restarts(self.pod, container, found.exit_code, INIT):
                self.plan.outcome = FAILED
                return False
            self._again(container, INIT, found)
            return False
        return True

    def look_after(self, container: Object, kind: str) -> bool:
        """See that a container runs as it should; whether it is done for good."""
        found = self.last.get(container["name"])
        if found is None:
            self._start(container, kind, 0)
            return False
        if found.running:
            if found.hash != specs.fingerprint(container):
                self.plan.kills.append(
                    Kill(found, f"Container {container['name']} definition changed, will be restarted")
                )
            elif found.id in self.resized:
                self.plan.kills.append(Kill(found, f"Container {container['name']} resize requires restart"))
            elif (health := self.health.get(found.id)) is not None and health.killed_by is not None:
                probe, grace = health.killed_by
                message = f"Container {container['name']} failed {probe} probe, will be restarted"
                self.plan.kills.append(Kill(found, message, grace))
            return False
        if not found.ended:
            self.plan.stale.append(found)
            self._start(container, kind, found.attempt)
            return False
        changed = found.hash != specs.fingerprint(container) or found.id in self.resized
        if changed or restarts(self.pod, container, found.exit_code, kind):
            self._again(container, kind, found)
            return False
        return True

    def _again(self, container: Object, kind: str, found: Found) -> None:
        ended = found.finished_at or found.created_at
        left = self.delay(container["name"]) - (self.now - ended) / _SECOND
        if left > 0:
            self.plan.waits[container["name"]] = left
        else:
            self._start(container, kind, found.attempt + 1)

    def _start(self, container: Object, kind: str, attempt: int) -> None:
        self.plan.starts.append(Start(container, kind, attempt))
