"""What is done for one DaemonSet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers import history, pod_state
from windlass.kube.controllers.daemonset import placement
from windlass.kube.controllers.deployment.scaling import resolve
from windlass.kube.controllers.events import WARNING, EventRecorder
from windlass.kube.controllers.ownership import OwnedIndex, claim, selector_of, takers
from windlass.kube.controllers.pod_control import PodControl, at_once, is_namespace_ending, slow_start
from windlass.kube.controllers.runner import Controller, Key

_GROUP: Final = "apps"
_FIRST_BACKOFF, _LONGEST_BACKOFF = 1.0, 900.0
_BURST: Final = 250


class _Place(NamedTuple):
    """A node and the DaemonSet's pods for it."""

    should_run: bool
    may_stay: bool
    pods: list[Object]


class DaemonSetController(Controller):
    """See the package. Keys are DaemonSets."""

    name = "daemon-set-controller"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, "daemonset-controller")
        self._control = PodControl(self.client, self._recorder)
        self._pods = OwnedIndex(self._touched)
        self._revisions = OwnedIndex(self._touched)
        self._backoff: dict[tuple[str, str], tuple[float, float]] = {}
        self._nodes: dict[str, object] = {}

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch(_GROUP, "daemonsets")
        self.listen("", "pods", self._pods.changed)
        self.listen(_GROUP, "controllerrevisions", self._revisions.changed)
        self.listen("", "nodes", self._node_changed)

    def _touched(self, owner: Object | None, obj: Object) -> None:
        namespace = obj["metadata"]["namespace"]
        if owner is not None:
            if owner["kind"] == "DaemonSet":
                self.queue.add((namespace, owner["name"]))
            return
        for key in takers(self.cache, _GROUP, "daemonsets", obj):
            self.queue.add(key)

    def _node_changed(self, event: str, node: Object) -> None:
        name = node["metadata"]["name"]
        state = (node["metadata"].get("labels"), (node.get("spec") or {}).get("taints"))
        if event == "DELETED":
            self._nodes.pop(name, None)
        elif self._nodes.get(name) == state:
            return  # a heartbeat
        else:
            self._nodes[name] = state
        for each in self.cache.list(_GROUP, "daemonsets"):
            self.queue.add((each["metadata"]["namespace"], each["metadata"]["name"]))

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        daemon_set = self.cache.get(_GROUP, "daemonsets", *key)
        if daemon_set is None:
            known = {each["metadata"]["uid"] for each in self.cache.list(_GROUP, "daemonsets")}
            self._backoff = {place: wait for place, wait in self._backoff.items() if place[0] in known}
            return None
        own = await claim(self.client, "", "pods", daemon_set, "daemonsets", selector_of(daemon_set), self._pods)
        if daemon_set["metadata"].get("deletionTimestamp"):
            return None
        revisions = self._revisions.owned(daemon_set["metadata"]["uid"])
        collisions = (daemon_set.get("status") or {}).get("collisionCount")
        revision, taken = await history.present(self.client, daemon_set, revisions, collisions)
        if taken:
            await self._collide(daemon_set)
            return 0.0
        current = history.name_of(revision)
        waits: list[float] = []
        try:
            await self._manage(daemon_set, self._places(daemon_set, own), current, waits)
            own = self._pods.owned(daemon_set["metadata"]["uid"])
            if (daemon_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate":
                await self._update(daemon_set, self._places(daemon_set, own), current)
        except StatusError as error:
            if is_namespace_ending(error):
                return None
            raise
        own = self._pods.owned(daemon_set["metadata"]["uid"])
        used = {current, *((each["metadata"].get("labels") or {}).get(history.HASH, "") for each in own)}
        await history.forget(self.client, daemon_set, revisions, used)
        await self._write(daemon_set, self._places(daemon_set, own), current, waits)
        return min(waits) if waits else None

    def _places(self, daemon_set: Object, own: Sequence[Object]) -> dict[str, _Place]:
        found: dict[str, _Place] = {}
        for node in self.cache.list("", "nodes"):
            found[node["metadata"]["name"]] = _Place(*placement.takes(node, daemon_set), [])
        for pod in own:
            name = placement.target_of(pod)
            found.setdefault(name, _Place(False, False, [])).pods.append(pod)
        return found

    # Pods that are missing, or too many ------------------------------------------------------------------------------

    async def _manage(self, daemon_set: Object, places: dict[str, _Place], current: str, waits: list[float]) -> None:
        missing: list[str] = []
        unwanted: list[Object] = []
        for name, place in places.items():
            left = [each for each in place.pods if not pod_state.is_terminating(each)]
            if not place.may_stay:
                unwanted += left
                continue
            running = []
            for pod in left:
                if not pod_state.is_over(pod):
                    running.append(pod)
                elif (wait := self._back_off(daemon_set, name)) > 0:
                    waits.append(wait)
                    running.append(pod)
                else:
                    word = "failed" if pod_state.phase(pod) == "Failed" else "succeeded"
                    message = f"Found {word} daemon pod {_path(pod)} on node {name}, will try to kill it"
                    reason = "FailedDaemonPod" if word == "failed" else "SucceededDaemonPod"
                    self._recorder.event(daemon_set, WARNING, reason, message)
                    unwanted.append(pod)
            if not running and place.should_run and len(left) == len(place.pods):
                missing.append(name)
            elif len(running) > 1:
                unwanted += self._too_many(daemon_set, running, current)
        await at_once([self._control.delete(each, daemon_set) for each in unwanted])
        wanted = [placement.pod_for(daemon_set, each, current) for each in missing[:_BURST]]
        await slow_start(len(wanted), lambda number: self._control.create(wanted[number], daemon_set))

    def _too_many(self, daemon_set: Object, running: list[Object], current: str) -> list[Object]:
        """Pods of one node that need not be: all but the oldest one, and during a surge the newest one."""
        ordered = sorted(running, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))
        old = [each for each in ordered if not _is_of(each, current)]
        new = [each for each in ordered if _is_of(each, current)]
        if self._surge(daemon_set) and old and new:
            return [*old[1:], *new[1:]]
        return ordered[1:]

    def _back_off(self, daemon_set: Object, node: str) -> float:
        """Seconds until a pod that ended on a node is replaced, longer each time."""
        key, now = (daemon_set["metadata"]["uid"], node), time.monotonic()
        until, delay = self._backoff.get(key, (0.0, 0.0))
        if now < until:
            return until - now
        if now - until > 2 * _LONGEST_BACKOFF:
            delay = 0.0
        delay = min(delay * 2 or _FIRST_BACKOFF, _LONGEST_BACKOFF)
        self._backoff[key] = (now + delay, delay)
        return 0.0

    # Updates ---------------------------------------------------------------------------------------------------------

    def _limits(self, daemon_set: Object, total: int) -> tuple[int, int]:
        rolling = (daemon_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
        surge = resolve(rolling.get("maxSurge", 0), total, up=True)
        unavailable = resolve(rolling.get("maxUnavailable", 1), total, up=True)
        return surge, unavailable if surge or unavailable else 1

    def _surge(self, daemon_set: Object) -> int:
        return self._limits(daemon_set, len(self.cache.list("", "nodes")))[0]

    async def _update(self, daemon_set: Object, places: dict[str, _Place], current: str) -> None:
        wanted = {name: place for name, place in places.items() if place.should_run}
        surge, unavailable = self._limits(daemon_set, len(wanted))
        minimum, now = int(daemon_set["spec"].get("minReadySeconds") or 0), time.time()

        def is_available(pod: Object) -> bool:
            return not pod_state.is_terminating(pod) and pod_state.available_in(pod, minimum, now) == 0.0

        broken: list[Object] = []
        working: list[tuple[str, Object]] = []
        replaced: list[Object] = []
        out = surging = 0
        for name, place in wanted.items():
            live = [each for each in place.pods if not pod_state.is_terminating(each)]
            old = [each for each in live if not _is_of(each, current)]
            new = [each for each in live if _is_of(each, current)]
            if surge:
                surging += bool(new and old)
                if old and (any(map(is_available, new)) or not any(map(is_available, old))) and new:
                    replaced += old
                elif old and not new and not any(map(is_available, old)):
                    broken += old
                elif old and not new:
                    working += [(name, each) for each in old]
                continue
            if not any(map(is_available, live)):
                out += 1
                broken += old
            else:
                working += [(name, each) for each in old]
        if surge:
            names = [name for name, _ in working][: max(surge - surging, 0)]
            made = [placement.pod_for(daemon_set, each, current) for each in names]
            await slow_start(len(made), lambda number: self._control.create(made[number], daemon_set))
            await at_once([self._control.delete(each, daemon_set) for each in (*replaced, *broken)])
            return
        chosen = [pod for _, pod in working][: max(unavailable - out, 0)]
        await at_once([self._control.delete(each, daemon_set) for each in (*broken, *chosen)])

    # Status ----------------------------------------------------------------------------------------------------------

    async def _write(self, daemon_set: Object, places: dict[str, _Place], current: str, waits: list[float]) -> None:
        minimum, now = int(daemon_set["spec"].get("minReadySeconds") or 0), time.time()
        desired = scheduled = misplaced = ready = available = updated = 0
        for place in places.values():
            running = [each for each in place.pods if not pod_state.is_over(each)]
            if not place.should_run:
                misplaced += bool(running)
                continue
            desired += 1
            if not running:
                continue
            scheduled += 1
            # During a surge, the newest one that is ready counts.
            best = max(running, key=lambda each: (pod_state.is_ready(each), each["metadata"]["creationTimestamp"]))
            wait = pod_state.available_in(best, minimum, now)
            ready += wait is not None
            available += wait == 0.0
            if wait:
                waits.append(wait)
            updated += any(_is_of(each, current) for each in running)
        status: Object = {
            "currentNumberScheduled": scheduled,
            "numberMisscheduled": misplaced,
            "desiredNumberScheduled": desired,
            "numberReady": ready,
            "observedGeneration": daemon_set["metadata"].get("generation", 0),
        }
        more = {
            "updatedNumberScheduled": updated,
            "numberAvailable": available,
            "numberUnavailable": desired - available,
        }
        status |= {name: value for name, value in more.items() if value}
        for name in ("collisionCount", "conditions"):
            if (daemon_set.get("status") or {}).get(name) is not None:
                status[name] = daemon_set["status"][name]
        await self.write_status(_GROUP, "daemonsets", daemon_set, status)

    async def _collide(self, daemon_set: Object) -> None:
        status = objects.copy(daemon_set.get("status") or {})
        status["collisionCount"] = int(status.get("collisionCount") or 0) + 1
        await self.write_status(_GROUP, "daemonsets", daemon_set, status)


def _is_of(pod: Object, revision: str) -> bool:
    return (pod["metadata"].get("labels") or {}).get(history.HASH) == revision


def _path(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
