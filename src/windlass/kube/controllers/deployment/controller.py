"""What is done for one Deployment, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.deployment import progress, revisions, scaling, strategies
from windlass.kube.controllers.deployment.scaling import replicas_of
from windlass.kube.controllers.events import NORMAL, WARNING, EventRecorder
from windlass.kube.controllers.ownership import OwnedIndex, claim, controller_of, selector_of, takers
from windlass.kube.controllers.pod_control import is_namespace_ending
from windlass.kube.controllers.runner import Controller, Key

_GROUP: Final = "apps"
_SETS: Final = "replicasets"
_RECREATE: Final = "Recreate"


class DeploymentController(Controller):
    """See the package. Keys are Deployments."""

    name = "deployment-controller"
    workers = 5

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, self.name)
        self._sets = OwnedIndex(self._set_touched)
        self._pods = OwnedIndex(self._pod_touched)

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch(_GROUP, "deployments")
        self.listen(_GROUP, _SETS, self._sets.changed)
        self.listen("", "pods", self._pods.changed)

    def _set_touched(self, owner: Object | None, replica_set: Object) -> None:
        namespace = replica_set["metadata"]["namespace"]
        if owner is not None:
            if owner["kind"] == "Deployment":
                self.queue.add((namespace, owner["name"]))
            return
        for key in takers(self.cache, _GROUP, "deployments", replica_set):
            self.queue.add(key)

    def _pod_touched(self, owner: Object | None, pod: Object) -> None:
        """Recreate waits for the end of old pods."""
        if owner is None or owner["kind"] != "ReplicaSet":
            return
        namespace = pod["metadata"]["namespace"]
        replica_set = self.cache.get(_GROUP, _SETS, namespace, owner["name"])
        above = controller_of(replica_set) if replica_set is not None else None
        if above is None or above["kind"] != "Deployment":
            return
        deployment = self.cache.get(_GROUP, "deployments", namespace, above["name"])
        if deployment is not None and _is_recreate(deployment):
            self.queue.add((namespace, above["name"]))

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        deployment = self.cache.get(_GROUP, "deployments", *key)
        if deployment is None:
            return None
        if not deployment["spec"].get("selector"):
            message = "This deployment is selecting all pods. A non-empty selector is required."
            self._recorder.event(deployment, WARNING, "SelectingAll", message)
            return None
        try:
            return await _Rollout(self, deployment).run()
        except StatusError as error:
            if is_namespace_ending(error):
                return None
            raise

    # What a rollout needs ------------------------------------------------------------------------------------------

    async def sets_of(self, deployment: Object) -> list[Object]:
        """The Deployment's replica sets. Raises StatusError."""
        return await claim(self.client, _GROUP, _SETS, deployment, "deployments", selector_of(deployment), self._sets)

    def has_pods_left(self, sets: Iterable[Object]) -> bool:
        """Whether a pod of some replica sets still runs, or is on its way out."""
        return any(not pod_state.is_over(pod) for each in sets for pod in self._pods.owned(each["metadata"]["uid"]))

    def tell(self, deployment: Object, type: str, reason: str, message: str) -> None:
        """An event."""
        self._recorder.event(deployment, type, reason, message)


class _Rollout:
    """One reconciliation."""

    def __init__(self, controller: DeploymentController, deployment: Object) -> None:
        self._controller = controller
        self._client = controller.client
        self._deployment = deployment
        self._namespace = deployment["metadata"]["namespace"]

    async def run(self) -> float | None:
        deployment = self._deployment
        sets = await self._controller.sets_of(deployment)
        if deployment["metadata"].get("deletionTimestamp"):
            return await self._write_status(sets, revisions.find_new(deployment, sets))
        await self._tell_paused()
        if deployment["spec"].get("paused") or self._is_resized(sets):
            return await self._resize(sets)
        if _is_recreate(deployment):
            return await self._recreate(sets)
        return await self._roll(sets)

    # Paused, resized -----------------------------------------------------------------------------------------------

    async def _tell_paused(self) -> None:
        """A pause stops the clock of the progress deadline; the end of the pause starts it again."""
        deployment = self._deployment
        if not progress.has_deadline(deployment):
            return
        before = pod_state.condition(deployment, progress.PROGRESSING)
        is_told = before is not None and before.get("reason") == progress.PAUSED
        if before is not None and before.get("reason") == progress.TIMED_OUT:
            return
        if bool(deployment["spec"].get("paused")) == is_told:
            return
        if is_told:
            wanted = progress.condition(progress.PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed")
        else:
            wanted = progress.condition(progress.PROGRESSING, "Unknown", progress.PAUSED, "Deployment is paused")

        def change(live: Object) -> None:
            progress.set_condition(live.setdefault("status", {}), wanted)

        self._deployment = await self._update_status(change)

    def _is_resized(self, sets: Sequence[Object]) -> bool:
        """Whether the Deployment's size has changed since its replica sets got theirs."""
        wanted = str(replicas_of(self._deployment))
        for each in sets:
            desired = (each["metadata"].get("annotations") or {}).get(revisions.DESIRED)
            if replicas_of(each) and desired is not None and desired != wanted:
                return True
        return False

    async def _resize(self, sets: Sequence[Object]) -> float | None:
        deployment = self._deployment
        new = await self._present(sets, create=False)
        old = _others(sets, new)
        every = [*old, *([new] if new is not None else [])]
        active = [each for each in every if replicas_of(each)]
        alone = active[0] if len(active) == 1 else None
        if not active:
            alone = new or (revisions.oldest_first(old)[-1] if old else None)
        if alone is not None:
            every = await self._scale_all(every, [(alone, replicas_of(deployment))])
        elif scaling.is_saturated(deployment, new):
            every = await self._scale_all(every, [(each, 0) for each in old if replicas_of(each)])
        elif not _is_recreate(deployment):
            every = await self._scale_all(every, scaling.shares(deployment, active))
        if deployment["spec"].get("paused"):
            await self._forget(old)
        return await self._write_status(every, new)

    # The strategies ------------------------------------------------------------------------------------------------

    async def _roll(self, sets: Sequence[Object]) -> float | None:
        deployment = self._deployment
        new = await self._present(sets, create=True)
        assert new is not None
        old = _others(sets, new)
        every = [*old, new]
        step = strategies.grow(deployment, every, new)
        if step is None:
            steps = strategies.shrink(deployment, old, new)
        else:
            steps = [step]
        if steps:
            every = await self._scale_all(every, steps)
            return await self._write_status(every, new)
        return await self._finish(every, old, new)

    async def _recreate(self, sets: Sequence[Object]) -> float | None:
        new = await self._present(sets, create=False)
        old = _others(sets, new)
        if steps := [(each, 0) for each in old if replicas_of(each)]:
            every = await self._scale_all([*old, *([new] if new is not None else [])], steps)
            return await self._write_status(every, new)
        if self._controller.has_pods_left(old):
            return await self._write_status([*old, *([new] if new is not None else [])], new)
        new = new or await self._present(sets, create=True)
        assert new is not None
        every = [*old, new]
        if replicas_of(new) != replicas_of(self._deployment):
            every = await self._scale_all(every, [(new, replicas_of(self._deployment))])
        return await self._finish(every, old, new)

    async def _finish(self, every: Sequence[Object], old: Sequence[Object], new: Object) -> float | None:
        if progress.is_complete(self._deployment, progress.numbers(self._deployment, every, new)):
            await self._forget(old)
        return await self._write_status(every, new)

    # Replica sets --------------------------------------------------------------------------------------------------

    async def _present(self, sets: Sequence[Object], *, create: bool) -> Object | None:
        """The replica set of the present template, with its revision; made where it is not there and is wanted."""
        deployment = self._deployment
        new = revisions.find_new(deployment, sets)
        number = revisions.next_number(_others(sets, new))
        if new is None:
            if not create:
                return None
            new = await self._make(number)
        else:
            new = await self._renumber(new, number)
            await self._tell_found(new)
        if revisions.number_of(deployment) != revisions.number_of(new):
            revision = str(revisions.number_of(new))

            def change(live: Object) -> None:
                live["metadata"].setdefault("annotations", {})[revisions.REVISION] = revision

            self._deployment = await self._client.update(
                _GROUP, "deployments", self._namespace, deployment["metadata"]["name"], change
            )
        return new

    async def _renumber(self, new: Object, number: int) -> Object:
        deployment = self._deployment
        least = int(deployment["spec"].get("minReadySeconds") or 0)
        wanted = revisions.annotated(deployment, new, number, exists=True)
        if wanted == (new["metadata"].get("annotations") or {}) and least == (new["spec"].get("minReadySeconds") or 0):
            return new

        def change(live: Object) -> None:
            live["metadata"]["annotations"] = revisions.annotated(deployment, live, number, exists=True)
            live["spec"]["minReadySeconds"] = least

        return await self._client.update(_GROUP, _SETS, self._namespace, new["metadata"]["name"], change)

    async def _tell_found(self, new: Object) -> None:
        deployment = self._deployment
        if not progress.has_deadline(deployment) or pod_state.condition(deployment, progress.PROGRESSING) is not None:
            return
        message = f'Found new replica set "{new["metadata"]["name"]}"'
        await self._tell_progress("True", "FoundNewReplicaSet", message)

    async def _make(self, number: int) -> Object:
        """Make the new replica set. Raises StatusError."""
        deployment = self._deployment
        wanted = revisions.make(deployment, number)
        name = wanted["metadata"]["name"]
        try:
            made = await self._client.create(_GROUP, _SETS, wanted)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                if not is_namespace_ending(error):
                    message = f'Failed to create new replica set "{name}": {error.message}'
                    await self._tell_progress("False", "ReplicaSetCreateError", message)
                    self._controller.tell(deployment, WARNING, "ReplicaSetCreateError", message)
                raise
            there = await self._client.get(_GROUP, _SETS, self._namespace, name)
            owner = controller_of(there)
            if (
                owner is None
                or owner["uid"] != deployment["metadata"]["uid"]
                or revisions.template_of(there) != revisions.template_of(deployment)
            ):
                # Another template has this hash, or somebody else this name: the next try has another one.
                def collide(live: Object) -> None:
                    status = live.setdefault("status", {})
                    status["collisionCount"] = int(status.get("collisionCount") or 0) + 1

                self._deployment = await self._update_status(collide)
                raise
            made = there
        await self._tell_progress("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
        return made

    async def _tell_progress(self, status: str, reason: str, message: str) -> None:
        if not progress.has_deadline(self._deployment):
            return
        wanted = progress.condition(progress.PROGRESSING, status, reason, message)

        def change(live: Object) -> None:
            progress.set_condition(live.setdefault("status", {}), wanted)

        self._deployment = await self._update_status(change)

    async def _scale_all(self, sets: Sequence[Object], steps: Sequence[strategies.Step]) -> list[Object]:
        """Give some replica sets their sizes; all of them as they are then."""
        found = {each["metadata"]["uid"]: each for each in sets}
        for each, size in steps:
            found[each["metadata"]["uid"]] = await self._scale(each, size)
        return list(found.values())

    async def _scale(self, replica_set: Object, size: int) -> Object:
        deployment = self._deployment
        name = replica_set["metadata"]["name"]
        before = replicas_of(replica_set)
        annotations = revisions.sized(deployment, scaling.limits(deployment)[0])
        if size == before and annotations.items() <= (replica_set["metadata"].get("annotations") or {}).items():
            return replica_set

        def change(live: Object) -> None:
            live["spec"]["replicas"] = size
            live["metadata"].setdefault("annotations", {}).update(annotations)

        scaled = await self._client.update(_GROUP, _SETS, self._namespace, name, change)
        if size != before:
            way = "up" if size > before else "down"
            message = f"Scaled {way} replica set {name} from {before} to {size}"
            self._controller.tell(deployment, NORMAL, "ScalingReplicaSet", message)
        return scaled

    async def _forget(self, old: Sequence[Object]) -> None:
        """Delete the oldest revisions beyond the limit, as far as they have no pods."""
        limit = self._deployment["spec"].get("revisionHistoryLimit")
        if limit is None:
            return
        kept = [each for each in old if not each["metadata"].get("deletionTimestamp")]
        for each in sorted(kept, key=revisions.number_of)[: max(len(kept) - int(limit), 0)]:
            status = each.get("status") or {}
            if (
                replicas_of(each)
                or status.get("replicas")
                or each["metadata"].get("generation", 0) > status.get("observedGeneration", 0)
            ):
                continue
            metadata = each["metadata"]
            await self._client.delete(_GROUP, _SETS, self._namespace, metadata["name"], uid=metadata["uid"])

    # Status --------------------------------------------------------------------------------------------------------

    async def _write_status(self, sets: Sequence[Object], new: Object | None) -> float | None:
        """Write the status; seconds until the deadline of the progress."""
        deployment = self._deployment
        if new is not None:
            new = next((each for each in sets if each["metadata"]["uid"] == new["metadata"]["uid"]), new)
        status = progress.judge(deployment, sets, new)
        if not objects.same(status, deployment.get("status") or {}):
            seen = deployment["metadata"].get("generation", 0)

            def change(live: Object) -> None:
                live["status"] = {**status, "observedGeneration": seen}

            self._deployment = await self._update_status(change)
        left = progress.deadline_in(deployment, status)
        return None if left is None else max(left, 0.0) + 0.1

    async def _update_status(self, change: Callable[[Object], None]) -> Object:
        name = self._deployment["metadata"]["name"]
        uid = self._deployment["metadata"]["uid"]

        def guarded(live: Object) -> Object | None:
            if live["metadata"]["uid"] == uid:
                change(live)
            return live

        return await self._client.update(_GROUP, "deployments", self._namespace, name, guarded, subresource="status")


def _others(sets: Sequence[Object], new: Object | None) -> list[Object]:
    return [each for each in sets if new is None or each["metadata"]["uid"] != new["metadata"]["uid"]]


def _is_recreate(deployment: Object) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") == _RECREATE
