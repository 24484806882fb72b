"""The scheduler: a pod without a node gets the best one it fits on.

    API ─▶ queue ─▶ filter ─ score ─ assume ─┬─▶ bind, many at once
             ▲                               └─ fits nowhere: condition, event, preemption
             └── a node, a pod's end, a volume: whatever could help

A pod that is about to be bound counts as being on its node from that moment on (it is assumed), so the next pod need
not wait for the API.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from windlass.kube.api import times
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient
from windlass.kube.controllers import disruption_target
from windlass.kube.controllers.events import NORMAL, WARNING, EventRecorder
from windlass.kube.scheduler import filters, preemption, scores, volumes
from windlass.kube.scheduler.configuration import DEFAULT_NAME, Configuration
from windlass.kube.scheduler.counters import Counters
from windlass.kube.scheduler.podinfo import PodInfo
from windlass.kube.scheduler.queue import SchedulingQueue, Waiting
from windlass.kube.scheduler.spreading import DefaultSpreading
from windlass.kube.scheduler.table import Mask, NodeTable

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.scheduler")

_BINDINGS_AT_ONCE = 64
_OVER = ("Succeeded", "Failed")
_PAUSE_AFTER = 0.005
_CHANGES_THAT_HELP = ("NodeResourcesFit", "NodePorts", "InterPodAffinity", "PodTopologySpread")


class Scheduler:
    """One scheduler with one or more profiles, each for pods of its name. `start`, then `stop`."""

    def __init__(self, client: APIClient, configuration: Configuration | None = None) -> None:
        configuration = configuration or Configuration()
        self._client = client
        self._cache = client.cache
        self._profiles = {each.name: each for each in configuration.profiles}
        self._recorders = {each: EventRecorder(client, each) for each in self._profiles}
        self._spreading = {
            each.name: DefaultSpreading(client.cache, each.default_spread) for each in configuration.profiles
        }
        self.table = NodeTable()
        self.counters = Counters(self.table)
        self.queue = SchedulingQueue(first=configuration.first_backoff, longest=configuration.longest_backoff)
        self._placed: dict[str, tuple[int, bool]] = {}
        self._homeless: dict[str, list[PodInfo]] = {}
        self._namespace_labels: dict[str, Mapping[str, str]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._binding: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_BINDINGS_AT_ONCE)
        self._subscriptions: list[tuple[str, str, Any]] = []
        self._told: dict[str, str] = {}
        self._nominated: dict[str, tuple[str, PodInfo]] = {}

    def start(self) -> None:
        """Begin."""
        for group, resource, changed in (
            ("", "namespaces", self._namespace_changed),
            ("", "nodes", self._node_changed),
            ("", "pods", self._pod_changed),
            ("", "persistentvolumeclaims", self._volume_changed),
            ("", "persistentvolumes", self._volume_changed),
            ("storage.k8s.io", "storageclasses", self._volume_changed),
            ("", "services", self._owner_changed),
            ("", "replicationcontrollers", self._owner_changed),
            ("apps", "replicasets", self._owner_changed),
            ("apps", "statefulsets", self._owner_changed),
        ):
            self._cache.subscribe(group, resource, changed)
            self._subscriptions.append((group, resource, changed))
            for obj in self._cache.list(group, resource):
                changed("ADDED", obj)
        self._tasks = [asyncio.get_running_loop().create_task(self._run(), name="scheduler")]

    async def stop(self) -> None:
        """End it; bindings that are under way are finished."""
        for group, resource, changed in self._subscriptions:
            self._cache.unsubscribe(group, resource, changed)
        self._subscriptions.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._binding, return_exceptions=True)
        self.queue.close()

    # What happens --------------------------------------------------------------------------------------------------

    def _namespace_changed(self, event: str, namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        if event == "DELETED":
            self._namespace_labels.pop(name, None)
        else:
            self._namespace_labels[name] = namespace["metadata"].get("labels") or {}

    def _node_changed(self, event: str, node: Object) -> None:
        name = node["metadata"]["name"]
        if event == "DELETED":
            row = self.table.rows.get(name)
            if row is not None:
                for info in list(self.table.pods[row].values()):
                    self._take(info.uid)
                    self._homeless.setdefault(name, []).append(info)
                self.table.remove_node(name)
            return
        is_new = name not in self.table.rows
        before = None if is_new else self.table.nodes[self.table.rows[name]]
        row = self.table.set_node(node)
        if is_new:
            for info in self._homeless.pop(name, ()):
                self._place(row, info, assumed=False)
        if is_new or before is None or _node_matters(before, node):
            self.queue.wake()

    def _pod_changed(self, event: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        node = pod["spec"].get("nodeName") or ""
        over = event == "DELETED" or (pod.get("status") or {}).get("phase") in _OVER
        if over:
            self.queue.remove(uid)
            self._told.pop(uid, None)
            self._nominated.pop(uid, None)
            if self._take(uid):
                self.queue.wake(*_CHANGES_THAT_HELP)
            for homeless in self._homeless.values():
                homeless[:] = [each for each in homeless if each.uid != uid]
            return
        if node:
            self.queue.remove(uid)
            self._told.pop(uid, None)
            self._nominated.pop(uid, None)
            placed = self._placed.get(uid)
            row = self.table.rows.get(node)
            if placed is not None and placed[0] == row and row is not None:
                known = self.table.pods[row][uid]
                if known.labels == (pod["metadata"].get("labels") or {}) and _same_requests(known.pod, pod):
                    known.pod = pod
                    self._placed[uid] = (row, False)
                    return
            self._take(uid)
            info = PodInfo(pod, self._namespace_labels)
            if row is None:
                self._homeless.setdefault(node, []).append(info)
            else:
                self._place(row, info, assumed=False)
                self.queue.wake("InterPodAffinity", "PodTopologySpread")
            return
        profile = self._profiles.get(pod["spec"].get("schedulerName") or DEFAULT_NAME)
        if profile is None:
            return
        if pod["metadata"].get("deletionTimestamp"):
            self.queue.remove(uid)
            return
        known_wait = self.queue.get(uid)
        if known_wait is not None:
            if not _spec_changed(known_wait.info.pod, pod):
                known_wait.info.pod = pod
                return
        elif uid in self._placed:
            return  # it is being bound
        info = PodInfo(pod, self._namespace_labels, profile.added_affinity)
        if info.gates:
            self._spawn(self._tell_gated(info))
            return
        self.queue.add(info)

    def _volume_changed(self, event: str, obj: Object) -> None:
        del event, obj
        self.queue.wake("VolumeBinding")

    def _owner_changed(self, event: str, obj: Object) -> None:
        del obj
        if event != "MODIFIED":  # a changed selector of a service is rare, and a preference may be late
            for each in self._spreading.values():
                each.forget()

    def _place(self, row: int, info: PodInfo, *, assumed: bool) -> None:
        self.table.add_pod(row, info)
        self.counters.add(row, info)
        self._placed[info.uid] = (row, assumed)

    def _take(self, uid: str) -> bool:
        placed = self._placed.pop(uid, None)
        if placed is None:
            return False
        info = self.table.remove_pod(placed[0], uid)
        if info is not None:
            self.counters.add(placed[0], info, -1)
        return True

    # One pod after the other ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        begun = time.monotonic()
        while True:
            waiting = await self.queue.pop()
            try:
                self._schedule(waiting)
            except Exception:
                log.exception("pod %s/%s cannot be scheduled", *waiting.info.key)
                self.queue.retry(waiting)
            # Others use this loop too.
            if time.monotonic() - begun > _PAUSE_AFTER:
                await asyncio.sleep(0)
                begun = time.monotonic()

    def _schedule(self, waiting: Waiting) -> None:
        info, seen = waiting.info, self.queue.cycle
        reasons: Counter[str] = Counter()
        plugins: set[str] = set()
        feasible, resolvable = self.table.valid.copy(), self.table.valid.copy()
        info.default_spread = () if info.spread else self._spreading[info.scheduler].of(info)
        self._assume_nominated(info, 1)
        try:
            for refusal in self._refusals(info):
                mask = refusal.mask & feasible
                if mask.any():
                    reasons[refusal.reason] += int(mask.sum())
                    plugins.add(refusal.plugin)
                    feasible &= ~mask
                if not refusal.resolvable:
                    resolvable &= ~refusal.mask
        finally:
            self._assume_nominated(info, -1)
        missing = volumes.missing_claim(self._cache, info)
        if missing:
            self._cannot(waiting, f"{missing}. ", Counter(), {"VolumeBinding"}, resolvable & False, seen)
            return
        if not feasible.any():
            self._cannot(waiting, "", reasons, plugins, resolvable & ~feasible, seen)
            return
        row = self._best(info, feasible)
        self._place(row, info, assumed=True)
        self._spawn(self._bind(waiting, row, self.table.names[row]))

    def _refusals(self, info: PodInfo) -> Sequence[filters.Refusal]:
        found = list(filters.run(self.table, self.counters, info))
        if info.claims:
            found += volumes.run(self.table, self._cache, info)
        wanted = self._profiles[info.scheduler].filters
        return [each for each in found if each.plugin in wanted]

    def _assume_nominated(self, info: PodInfo, sign: int) -> None:
        """Pods as important as this one keep the place that was made free for them."""
        for node, other in self._nominated.values():
            row = self.table.rows.get(node)
            if row is None or other.uid == info.uid or other.priority < info.priority or other.uid in self._placed:
                continue
            if sign > 0:
                self.table.add_pod(row, other)
            else:
                self.table.remove_pod(row, other.uid)

    def _best(self, info: PodInfo, feasible: Mask) -> int:
        rows = np.flatnonzero(feasible)
        if len(rows) == 1:
            return int(rows[0])
        if info.nominated and (row := self.table.rows.get(info.nominated)) is not None and feasible[row]:
            return row
        profile = self._profiles[info.scheduler]
        points = scores.total(
            self.table,
            self.counters,
            info,
            feasible,
            profile.weights,
            profile.strategy,
            profile.hard_affinity_weight,
        )
        best = np.flatnonzero(points >= points.max() - 1e-9)
        return int(best[random.randrange(len(best))])  # noqa: S311 - no secret

    # It goes -------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._binding.add(task)
        task.add_done_callback(self._binding.discard)

    async def _bind(self, waiting: Waiting, row: int, node: str) -> None:
        info = waiting.info
        async with self._room:
            try:
                if info.claims:
                    await volumes.reserve(self._client, info, self.table.nodes[row])
                body = {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": info.name, "namespace": info.namespace, "uid": info.uid},
                    "target": {"kind": "Node", "name": node},
                }
                await self._client.create_subresource("", "pods", info.namespace, info.name, "binding", body)
            except (StatusError, volumes.NotBound) as error:
                placed = self._placed.get(info.uid)
                if placed is not None and placed[1]:
                    self._take(info.uid)
                if isinstance(error, StatusError) and error.code == 404:
                    self.queue.remove(info.uid)
                    return
                log.info("pod %s/%s cannot be bound to %s: %s", info.namespace, info.name, node, error)
                self.queue.retry(waiting)
                return
            except BaseException:
                self._take(info.uid)
                self.queue.retry(waiting)
                raise
        message = f"Successfully assigned {info.namespace}/{info.name} to {node}"
        self._recorders[info.scheduler].event(info.pod, NORMAL, "Scheduled", message)

    # It does not go ------------------------------------------------------------------------------------------------

    def _cannot(
        self,
        waiting: Waiting,
        before: str,
        reasons: Counter[str],
        plugins: set[str],
        resolvable: Mask,
        seen: int,
    ) -> None:
        info = waiting.info
        size = self.table.size
        candidate = self._preempt(info, resolvable)
        words = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
        if not size:
            message = "no nodes available to schedule pods"
        elif before and not reasons:
            message = f"0/{size} nodes are available: {before.rstrip()}"
        else:
            message = f"0/{size} nodes are available: {words}."
        if size and candidate is None:
            helpless = int((~resolvable & self.table.valid).sum())
            parts = []
            if helpless:
                parts.append(f"{helpless} Preemption is not helpful for scheduling")
            if size - helpless:
                parts.append(f"{size - helpless} No preemption victims found for incoming pod")
            message += f" preemption: 0/{size} nodes are available: {', '.join(sorted(parts))}."
        self.queue.park(waiting, frozenset(plugins), seen)
        self._recorders[info.scheduler].event(info.pod, WARNING, "FailedScheduling", message)
        node = ""
        if candidate is not None:
            node = self.table.names[candidate.row]
            self._nominated[info.uid] = (node, info)
            info.nominated = node
            for victim in candidate.victims:
                self._spawn(self._evict(victim, info, node))
        if self._told.get(info.uid) != message or node:
            self._told[info.uid] = message
            self._spawn(self._tell(info, "Unschedulable", message, node))

    def _preempt(self, info: PodInfo, resolvable: Mask) -> preemption.Candidate | None:
        if not info.preempts or not self._profiles[info.scheduler].preempts or not resolvable.any():
            return None
        known = self._nominated.get(info.uid)
        if known is not None and (row := self.table.rows.get(known[0])) is not None:
            leaving = (each.pod["metadata"].get("deletionTimestamp") for each in self.table.pods[row].values())
            if any(leaving):
                return None  # its place is being made free
        budgets = self._cache.list("policy", "poddisruptionbudgets")
        return preemption.find(self.table, self.counters, info, resolvable, budgets)

    async def _evict(self, victim: PodInfo, info: PodInfo, node: str) -> None:
        message = f"{info.scheduler}: preempting to accommodate a higher priority pod"
        with contextlib.suppress(StatusError):
            await disruption_target.mark(self._client, victim.pod, "PreemptionByScheduler", message)
            await self._client.delete("", "pods", victim.namespace, victim.name, uid=victim.uid)
            by = f"Preempted by pod {info.uid} on node {node}"
            self._recorders[info.scheduler].event(victim.pod, NORMAL, "Preempted", by)

    async def _tell(self, info: PodInfo, reason: str, message: str, node: str = "") -> None:
        def change(live: Object) -> None:
            if live["metadata"]["uid"] != info.uid or live["spec"].get("nodeName"):
                return
            _set_unscheduled(live, reason, message)
            if node:
                live["status"]["nominatedNodeName"] = node

        with contextlib.suppress(StatusError):
            await self._client.update("", "pods", info.namespace, info.name, change, subresource="status")

    async def _tell_gated(self, info: PodInfo) -> None:
        message = "Scheduling is blocked due to non-empty scheduling gates"
        conditions = (info.pod.get("status") or {}).get("conditions") or ()
        if not any(each["type"] == "PodScheduled" and each.get("reason") == "SchedulingGated" for each in conditions):
            await self._tell(info, "SchedulingGated", message)


def _set_unscheduled(pod: Object, reason: str, message: str) -> None:
    """Say in a pod's condition PodScheduled why it has no node."""
    conditions = pod.setdefault("status", {}).setdefault("conditions", [])
    before = next((each for each in conditions if each["type"] == "PodScheduled"), None)
    now = times.format_time(time.time())
    found = {
        "type": "PodScheduled",
        "status": "False",
        "lastProbeTime": None,
        "lastTransitionTime": before["lastTransitionTime"] if before and before["status"] == "False" else now,
        "reason": reason,
        "message": message,
    }
    pod["status"]["conditions"] = [each for each in conditions if each["type"] != "PodScheduled"] + [found]


def _spec_changed(before: Object, after: Object) -> bool:
    return before["spec"] != after["spec"] or (before["metadata"].get("labels") or {}) != (
        after["metadata"].get("labels") or {}
    )


def _same_requests(before: Object, after: Object) -> bool:
    return before is after or before["spec"].get("containers") == after["spec"].get("containers")


def _node_matters(before: Object, after: Object) -> bool:
    """Whether a change of a node could let a pod in: a heartbeat cannot."""
    spec, old = after.get("spec") or {}, before.get("spec") or {}
    status, old_status = after.get("status") or {}, before.get("status") or {}
    return (
        spec.get("unschedulable") != old.get("unschedulable")
        or spec.get("taints") != old.get("taints")
        or (after["metadata"].get("labels") or {}) != (before["metadata"].get("labels") or {})
        or status.get("allocatable") != old_status.get("allocatable")
    )
