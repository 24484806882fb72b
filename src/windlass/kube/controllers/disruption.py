"""disruption-controller: how many pods a PodDisruptionBudget lets go now.

    pods that the budget selects ─▶ healthy ones        currentHealthy
    their controllers' scale     ─▶ what is expected    expectedPods ─▶ desiredHealthy
                                                        disruptionsAllowed = currentHealthy - desiredHealthy

Source: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-budgets
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from windlass.kube.api import objects, selectors, times
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.deployment.scaling import resolve
from windlass.kube.controllers.events import NORMAL, WARNING, EventRecorder
from windlass.kube.controllers.ownership import controller_of
from windlass.kube.controllers.runner import Controller, Key

_GROUP, _PLURAL = "policy", "poddisruptionbudgets"
_ALLOWED: Final = "DisruptionAllowed"
# For so long an eviction counts that was granted and of which nothing was seen.
_GRANTED_SECONDS: Final = 120.0
_SCALED: Final = {
    "ReplicationController": ("", "replicationcontrollers"),
    "ReplicaSet": ("apps", "replicasets"),
    "StatefulSet": ("apps", "statefulsets"),
    "Deployment": ("apps", "deployments"),
}


class NoScale(Exception):
    """A pod has no controller whose size is known."""


class DisruptionController(Controller):
    """See the module. Keys are budgets."""

    name = "disruption-controller"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, "controllermanager")

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch(_GROUP, _PLURAL)
        self.watch("", "pods", self._budgets_of)
        for group, plural in _SCALED.values():
            self.watch(group, plural, self._budgets_in)

    def _budgets_of(self, pod: Object) -> Iterable[Key]:
        labels = pod["metadata"].get("labels") or {}
        return [
            (each["metadata"]["namespace"], each["metadata"]["name"])
            for each in self.cache.list(_GROUP, _PLURAL, pod["metadata"]["namespace"])
            if selectors.matches_label_selector((each.get("spec") or {}).get("selector"), labels)
        ]

    def _budgets_in(self, scaled: Object) -> Iterable[Key]:
        namespace = scaled["metadata"]["namespace"]
        return [(namespace, each["metadata"]["name"]) for each in self.cache.list(_GROUP, _PLURAL, namespace)]

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        budget = self.cache.get(_GROUP, _PLURAL, *key)
        if budget is None:
            return None
        spec = budget.get("spec") or {}
        pods = [
            each
            for each in self.cache.list("", "pods", key[0])
            if selectors.matches_label_selector(spec.get("selector"), each["metadata"].get("labels") or {})
        ]
        if not pods:
            self._recorder.event(budget, NORMAL, "NoPods", "No matching pods found")
        status: Object = {"observedGeneration": budget["metadata"].get("generation", 0)}
        granted, wait = self._granted(budget, pods)
        if granted:
            status["disruptedPods"] = granted
        try:
            expected, desired = self._wanted(spec, pods)
        except NoScale as error:
            message = f"Failed to calculate the number of expected pods: {error}"
            self._recorder.event(budget, WARNING, "CalculateExpectedPodCountFailed", message)
            before = budget.get("status") or {}
            kept = {name: before.get(name, 0) for name in ("currentHealthy", "desiredHealthy", "expectedPods")}
            status |= kept | {"disruptionsAllowed": 0}
            status["conditions"] = _conditions(budget, "False", "SyncFailed", str(error))
            await self._write(budget, status)
            return wait
        healthy = sum(
            pod_state.is_ready(each) and not pod_state.is_terminating(each) and each["metadata"]["name"] not in granted
            for each in pods
        )
        allowed = max(healthy - desired, 0) if expected > 0 else 0
        status |= {
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
            "disruptionsAllowed": allowed,
        }
        reason = "SufficientPods" if allowed else "InsufficientPods"
        status["conditions"] = _conditions(budget, "True" if allowed else "False", reason, "")
        await self._write(budget, status)
        return wait

    def _granted(self, budget: Object, pods: Sequence[Object]) -> tuple[dict[str, str], float | None]:
        """Evictions that were granted and have not been seen yet; seconds until the first of them counts no longer."""
        now = time.time()
        by_name = {each["metadata"]["name"]: each for each in pods}
        found: dict[str, str] = {}
        waits = []
        for name, since in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
            pod = by_name.get(name)
            left = times.parse_time(since) + _GRANTED_SECONDS - now
            if pod is None or pod_state.is_terminating(pod) or left <= 0:
                continue
            found[name] = since
            waits.append(left)
        return found, min(waits) if waits else None

    def _wanted(self, spec: Object, pods: Sequence[Object]) -> tuple[int, int]:
        """How many pods there should be, and how many of them healthy. Raises NoScale."""
        least = spec.get("minAvailable")
        if (most := spec.get("maxUnavailable")) is not None:
            expected = self._scale(pods)
            return expected, max(expected - resolve(most, expected, up=True), 0)
        if isinstance(least, str) and least.endswith("%"):
            expected = self._scale(pods)
            return expected, resolve(least, expected, up=True)
        return len(pods), int(least if least is not None else 1)

    def _scale(self, pods: Sequence[Object]) -> int:
        """The sum of the sizes of the pods' controllers, each counted once."""
        found: dict[str, int] = {}
        for pod in pods:
            owner = self._top(pod)
            if owner["metadata"]["uid"] not in found:
                found[owner["metadata"]["uid"]] = int(owner["spec"].get("replicas", 1))
        return sum(found.values())

    def _top(self, pod: Object) -> Object:
        namespace = pod["metadata"]["namespace"]
        found: Object | None = None
        reference = controller_of(pod)
        while reference is not None and reference["kind"] in _SCALED:
            above = self.cache.get(*_SCALED[reference["kind"]], namespace, reference["name"])
            if above is None or above["metadata"]["uid"] != reference["uid"]:
                break
            found, reference = above, controller_of(above)
        if found is None:
            raise NoScale(f'found no controller ref for pod "{pod["metadata"]["name"]}"')
        return found

    async def _write(self, budget: Object, status: Object) -> None:
        if objects.same(status, budget.get("status") or {}):
            return
        metadata = budget["metadata"]

        def change(live: Object) -> Object | None:
            granted_since = (live.get("status") or {}).get("disruptedPods") or {}
            known = (budget.get("status") or {}).get("disruptedPods") or {}
            if live["metadata"]["uid"] == metadata["uid"] and granted_since == known:
                live["status"] = status  # otherwise an eviction came in between: its event brings us here again
            return live

        try:
            await self.client.update(
                _GROUP, _PLURAL, metadata["namespace"], metadata["name"], change, subresource="status"
            )
        except StatusError as error:
            if error.code != 404:
                raise


def _conditions(budget: Object, status: str, reason: str, message: str) -> list[Object]:
    before = pod_state.condition(budget, _ALLOWED) or {}
    same = before.get("status") == status
    found = {
        "type": _ALLOWED,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": before["lastTransitionTime"] if same else times.format_time(time.time()),
        "observedGeneration": budget["metadata"].get("generation", 0),
    }
    others = [each for each in (budget.get("status") or {}).get("conditions") or () if each["type"] != _ALLOWED]
    return [*others, found]
