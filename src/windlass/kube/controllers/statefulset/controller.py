"""The order in which the pods of a StatefulSet come, go and change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers import history, pod_state
from windlass.kube.controllers.deployment.scaling import resolve
from windlass.kube.controllers.events import NORMAL, WARNING, EventRecorder
from windlass.kube.controllers.ownership import OwnedIndex, claim, selector_of, takers
from windlass.kube.controllers.pod_control import is_namespace_ending
from windlass.kube.controllers.runner import Controller, Key
from windlass.kube.controllers.statefulset import identity

_GROUP: Final = "apps"
_CLAIMS: Final = "persistentvolumeclaims"


class StatefulSetController(Controller):
    """See the package. Keys are StatefulSets."""

    name = "statefulset-controller"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.recorder = EventRecorder(self.client, self.name)
        self._pods = OwnedIndex(self._touched)
        self._revisions = OwnedIndex(self._touched)

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch(_GROUP, "statefulsets")
        self.listen("", "pods", self._pods.changed)
        self.listen(_GROUP, "controllerrevisions", self._revisions.changed)

    def _touched(self, owner: Object | None, obj: Object) -> None:
        namespace = obj["metadata"]["namespace"]
        if owner is not None:
            if owner["kind"] == "StatefulSet":
                self.queue.add((namespace, owner["name"]))
            return
        for key in takers(self.cache, _GROUP, "statefulsets", obj):
            self.queue.add(key)

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        stateful_set = self.cache.get(_GROUP, "statefulsets", *key)
        if stateful_set is None:
            return None
        own = await claim(self.client, "", "pods", stateful_set, "statefulsets", selector_of(stateful_set), self._pods)
        if stateful_set["metadata"].get("deletionTimestamp"):
            return None
        revisions = self._revisions.owned(stateful_set["metadata"]["uid"])
        status = stateful_set.get("status") or {}
        revision, taken = await history.present(self.client, stateful_set, revisions, status.get("collisionCount"))
        if taken:
            await self.write_status(
                _GROUP,
                "statefulsets",
                stateful_set,
                {**status, "collisionCount": int(status.get("collisionCount") or 0) + 1},
            )
            return 0.0
        try:
            found = _Pass(self, stateful_set, own, revision, revisions)
            wait = await found.run()
        except StatusError as error:
            if is_namespace_ending(error):
                return None
            raise
        own = self._pods.owned(stateful_set["metadata"]["uid"])
        wanted = found.status(own)
        await self.write_status(_GROUP, "statefulsets", stateful_set, wanted)
        used = {wanted["currentRevision"], wanted["updateRevision"]}
        used |= {(each["metadata"].get("labels") or {}).get(history.HASH, "") for each in own}
        await history.forget(self.client, stateful_set, revisions, used)
        return wait


class _Pass:
    """One reconciliation."""

    def __init__(
        self,
        controller: StatefulSetController,
        stateful_set: Object,
        own: Sequence[Object],
        revision: Object,
        revisions: Sequence[Object],
    ) -> None:
        self._client, self._recorder = controller.client, controller.recorder
        self._set = stateful_set
        self._spec = stateful_set["spec"]
        self._now = time.time()
        self._update_revision = history.name_of(revision)
        known = {history.name_of(each): each for each in (*revisions, revision)}
        told = (stateful_set.get("status") or {}).get("currentRevision", "")
        self._current_revision = told if told in known else self._update_revision
        self._current = history.restored(stateful_set, known[self._current_revision])
        self._is_ordered = self._spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        start, count = identity.first_ordinal(stateful_set), int(self._spec.get("replicas", 1))
        self._wanted = range(start, start + count)
        self._pods: dict[int, Object] = {}
        for pod in own:
            ordinal = identity.ordinal_of(stateful_set, pod)
            if ordinal is not None:
                self._pods[ordinal] = pod

    # Which template --------------------------------------------------------------------------------------------------

    def _partition(self) -> int:
        rolling = (self._spec.get("updateStrategy") or {}).get("rollingUpdate") or {}
        return int(rolling.get("partition") or 0)

    def _is_rolling(self) -> bool:
        return bool((self._spec.get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")

    def _revision_for(self, ordinal: int) -> tuple[Object, str]:
        """The set with the template that a new pod of an ordinal gets, and its revision."""
        place = ordinal - self._wanted.start
        keeps = place < self._partition()
        if self._is_rolling() and not self._partition():
            # Those that the update has not reached yet.
            keeps = place < int((self._set.get("status") or {}).get("currentReplicas") or 0)
        if not self._is_rolling():
            keeps = False
        if keeps and self._current_revision != self._update_revision:
            return self._current, self._current_revision
        return self._set, self._update_revision

    # The order -------------------------------------------------------------------------------------------------------

    async def run(self) -> float | None:
        """Do what comes next; seconds until a pod is available. Raises StatusError."""
        await self._retain()
        waits: list[float] = []
        for ordinal in self._wanted:
            if not await self._have(ordinal, waits) and self._is_ordered:
                return min(waits) if waits else None
        for ordinal in sorted((each for each in self._pods if each not in self._wanted), reverse=True):
            if not await self._remove(ordinal) and self._is_ordered:
                return None
        if self._is_rolling():
            await self._roll(waits)
        return min(waits) if waits else None

    async def _have(self, ordinal: int, waits: list[float]) -> bool:
        """Have a pod; whether it is available, so that the next one may come."""
        pod = self._pods.get(ordinal)
        if pod is not None and pod_state.is_over(pod) and not pod_state.is_terminating(pod):
            has_failed = pod_state.phase(pod) == "Failed"
            word = "failed" if has_failed else "terminated"
            message = f"StatefulSet {self._path()} is recreating {word} Pod {pod['metadata']['name']}"
            kind, reason = (WARNING, "RecreatingFailedPod") if has_failed else (NORMAL, "RecreatingTerminatedPod")
            self._recorder.event(self._set, kind, reason, message)
            await self._delete(pod)
            return False
        if pod is None:
            await self._create(ordinal)
            return False
        if pod_state.is_terminating(pod):
            return False
        wait = pod_state.available_in(pod, int(self._spec.get("minReadySeconds") or 0), self._now)
        if wait:
            waits.append(wait)
        return wait == 0.0

    async def _remove(self, ordinal: int) -> bool:
        """Have no pod; whether it has gone."""
        pod = self._pods[ordinal]
        if pod_state.is_terminating(pod):
            return False
        await self._delete(pod)
        return False

    async def _roll(self, waits: list[float]) -> None:
        """Replace pods of other revisions, the last one first, as long as few enough are missing."""
        rolling = (self._spec.get("updateStrategy") or {}).get("rollingUpdate") or {}
        most = max(resolve(rolling.get("maxUnavailable", 1), len(self._wanted), up=True), 1)
        minimum = int(self._spec.get("minReadySeconds") or 0)
        missing = 0
        for ordinal in reversed(self._wanted):
            pod = self._pods.get(ordinal)
            if (
                pod is None
                or pod_state.is_terminating(pod)
                or (pod_state.available_in(pod, minimum, self._now) != 0.0 and _revision(pod) == self._update_revision)
            ):
                missing += 1
            if missing >= most:
                return
            if ordinal - self._wanted.start < self._partition() or pod is None:
                continue
            if _revision(pod) != self._update_revision and not pod_state.is_terminating(pod):
                await self._delete(pod)
                missing += 1
                if missing >= most:
                    return

    # Pods and claims -------------------------------------------------------------------------------------------------

    async def _create(self, ordinal: int) -> None:
        template, revision = self._revision_for(ordinal)
        await self._create_claims(ordinal)
        pod = identity.pod_for(template, ordinal, revision)
        name = pod["metadata"]["name"]
        try:
            self._pods[ordinal] = await self._client.create("", "pods", pod)
        except StatusError as error:
            if error.reason == "AlreadyExists":
                return  # the former one is still on its way out, or somebody else's
            if not is_namespace_ending(error):
                own = self._set["metadata"]["name"]
                message = f"create Pod {name} in StatefulSet {own} failed error: {error.message}"
                self._recorder.event(self._set, WARNING, "FailedCreate", message)
            raise
        message = f"create Pod {name} in StatefulSet {self._set['metadata']['name']} successful"
        self._recorder.event(self._set, NORMAL, "SuccessfulCreate", message)

    async def _create_claims(self, ordinal: int) -> None:
        namespace = self._set["metadata"]["namespace"]
        for template in identity.templates(self._set):
            wanted = identity.claim_for(self._set, template, ordinal)
            name = wanted["metadata"]["name"]
            if await self._client.find("", _CLAIMS, namespace, name) is not None:
                continue
            wanted["metadata"]["ownerReferences"] = identity.owners(self._set, [], None, scaled_away=False)
            await self._client.create("", _CLAIMS, wanted)
            pod = f"{self._set['metadata']['name']}-{ordinal}"
            message = f"create Claim {name} Pod {pod} in StatefulSet {self._set['metadata']['name']} success"
            self._recorder.event(self._set, NORMAL, "SuccessfulCreate", message)

    async def _retain(self) -> None:
        """Let claims go with whom the retention policy says."""
        if not self._spec.get("persistentVolumeClaimRetentionPolicy"):
            return
        namespace = self._set["metadata"]["namespace"]
        for ordinal, pod in self._pods.items():
            for template in identity.templates(self._set):
                name = identity.claim_name(self._set, template, ordinal)
                claim_ = await self._client.find("", _CLAIMS, namespace, name)
                if claim_ is None:
                    continue
                now = claim_["metadata"].get("ownerReferences") or []
                away = ordinal not in self._wanted
                wanted = identity.owners(self._set, now, pod, scaled_away=away)
                if wanted == now:
                    continue

                def change(live: Object, wanted: list[Object] = wanted) -> None:
                    live["metadata"]["ownerReferences"] = wanted

                await self._client.update("", _CLAIMS, namespace, name, change)

    async def _delete(self, pod: Object) -> None:
        metadata, own = pod["metadata"], self._set["metadata"]["name"]
        try:
            await self._client.delete("", "pods", metadata["namespace"], metadata["name"], uid=metadata["uid"])
        except StatusError as error:
            if error.code == 409:
                return
            message = f"delete Pod {metadata['name']} in StatefulSet {own} failed error: {error.message}"
            self._recorder.event(self._set, WARNING, "FailedDelete", message)
            raise
        message = f"delete Pod {metadata['name']} in StatefulSet {own} successful"
        self._recorder.event(self._set, NORMAL, "SuccessfulDelete", message)

    def _path(self) -> str:
        return f"{self._set['metadata']['namespace']}/{self._set['metadata']['name']}"

    # Status ----------------------------------------------------------------------------------------------------------

    def status(self, own: Sequence[Object]) -> Object:
        """The status with these pods."""
        before = self._set.get("status") or {}
        minimum = int(self._spec.get("minReadySeconds") or 0)
        named = [each for each in own if identity.ordinal_of(self._set, each) is not None]
        created = [each for each in named if pod_state.phase(each)]
        ready = [each for each in created if pod_state.phase(each) == "Running" and pod_state.is_ready(each)]
        available = [each for each in ready if pod_state.available_in(each, minimum, self._now) == 0.0]
        live = [each for each in created if not pod_state.is_terminating(each)]
        current = [each for each in live if _revision(each) == self._current_revision]
        updated = [each for each in live if _revision(each) == self._update_revision]
        found: Object = {
            "observedGeneration": self._set["metadata"].get("generation", 0),
            "replicas": len(created),
            "availableReplicas": len(available),
            "currentRevision": self._current_revision,
            "updateRevision": self._update_revision,
            "collisionCount": int(before.get("collisionCount") or 0),
        }
        is_done = self._is_rolling() and len(updated) == len(created) and len(ready) == len(created)
        if is_done and len(created) == len(self._wanted):
            found["currentRevision"] = self._update_revision
            current = updated
        counts = {
            "readyReplicas": len(ready),
            "currentReplicas": len(current),
            "updatedReplicas": len(updated),
        }
        found |= {name: count for name, count in counts.items() if count}
        return found


def _revision(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(history.HASH) or "")
