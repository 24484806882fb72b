"""garbage-collector: what nobody owns any more goes; what waits for its dependents waits.

    owner gone                      its dependents go (all their owners must be gone)
    owner with "orphan"             its dependents lose their references, then the owner goes
    owner with "foregroundDeletion" its dependents go first: those that block it are waited for

The graph is built from the references of all objects that any resource stores; the objects themselves are not kept.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from windlass.kube.api import objects
from windlass.kube.api.operations.metadata import FOREGROUND, ORPHAN
from windlass.kube.api.operations.reading import prefix_end
from windlass.kube.api.resource import Object, Resource
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers.runner import Controller, Key
from windlass.store import Event


class Node(NamedTuple):
    """An object in the graph."""

    group: str
    resource: str
    namespace: str
    name: str
    uid: str


class GarbageCollector(Controller):
    """See the module. Keys are uids."""

    name = "generic-garbage-collector"
    workers = 4

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}
        self._owners: dict[str, set[str]] = {}
        self._followed: set[bytes] = set()

    def subscribe(self) -> None:
        """Everything that is stored, custom resources as they come."""
        for resource in self.client.env.registry.storages():
            self._follow(resource)
        self.client.env.registry.listen(self._changed_registry)

    def _changed_registry(self, resource: Resource, appeared: bool) -> None:
        if appeared:
            self._follow(resource)

    def _follow(self, resource: Resource) -> None:
        prefix = resource.storage.prefix
        if prefix in self._followed or not resource.strategy.has_dependents or "list" not in resource.verbs:
            return
        self._followed.add(prefix)
        group, plural = resource.group, resource.plural

        def changed(events: Sequence[Event]) -> None:
            for event in events:
                record = event.previous if event.is_delete else event.record
                if record is not None:
                    self._note(event.is_delete, objects.decode(record.value), group, plural)

        store = self.client.env.store
        self._stops.append(store.subscribe(prefix, changed))
        for record in store.range(prefix, prefix_end(prefix)).records:
            self._note(False, objects.decode(record.value), group, plural)

    def _note(self, is_gone: bool, obj: Object, group: str, plural: str) -> None:
        metadata = obj["metadata"]
        uid = metadata.get("uid", "")
        if is_gone:
            self._nodes.pop(uid, None)
            for owner in self._owners.pop(uid, ()):
                known = self._dependents.get(owner)
                if known is not None:
                    known.discard(uid)
                    if not known:
                        del self._dependents[owner]
                self.queue.add((owner,))  # it may have waited for this one
            for dependent in self._dependents.get(uid, ()):
                self.queue.add((dependent,))
            return
        self._nodes[uid] = Node(group, plural, metadata.get("namespace", ""), metadata["name"], uid)
        owners = {each.get("uid", "") for each in metadata.get("ownerReferences") or ()}
        before = self._owners.get(uid, set())
        for owner in before - owners:
            self._dependents.get(owner, set()).discard(uid)
        for owner in owners - before:
            self._dependents.setdefault(owner, set()).add(uid)
        if owners:
            self._owners[uid] = owners
            if owners != before or not all(owner in self._nodes for owner in owners):
                self.queue.add((uid,))
        else:
            self._owners.pop(uid, None)
        if metadata.get("deletionTimestamp") and _waits(obj):
            self.queue.add((uid,))
            for dependent in self._dependents.get(uid, ()):
                self.queue.add((dependent,))

    async def reconcile(self, key: Key) -> float | None:
        """Look at one object: as an owner that goes, and as a dependent."""
        node = self._nodes.get(key[0])
        if node is None:
            return None
        obj = await self._read(node)
        if obj is None or obj["metadata"].get("uid") != node.uid:
            return None
        if obj["metadata"].get("deletionTimestamp"):
            return await self._as_owner(node, obj)
        return await self._as_dependent(node, obj)

    async def _as_owner(self, node: Node, obj: Object) -> float | None:
        finalizers = obj["metadata"].get("finalizers") or []
        if ORPHAN in finalizers:
            for dependent in self._dependent_nodes(node.uid):
                await self._release(dependent, {node.uid})
            await self._take_off(node, ORPHAN)
        elif FOREGROUND in finalizers:
            blocking = False
            for dependent in self._dependent_nodes(node.uid):
                other = await self._read(dependent)
                if other is None:
                    continue
                if any(
                    each.get("uid") == node.uid and each.get("blockOwnerDeletion")
                    for each in other["metadata"].get("ownerReferences") or ()
                ):
                    blocking = True
                self.queue.add((dependent.uid,))
            if not blocking:
                await self._take_off(node, FOREGROUND)
        return None

    async def _as_dependent(self, node: Node, obj: Object) -> float | None:
        references = obj["metadata"].get("ownerReferences") or []
        if not references:
            return None
        solid, dangling, waiting = [], [], []
        for each in references:
            owner = await self._find_owner(node, each)
            if owner is None:
                dangling.append(each)
            elif owner["metadata"].get("deletionTimestamp") and FOREGROUND in (
                owner["metadata"].get("finalizers") or ()
            ):
                waiting.append(each)
            else:
                solid.append(each)
        if solid:
            if dangling or waiting:
                await self._release(node, {each["uid"] for each in (*dangling, *waiting)})
            return None
        propagation = "Background"
        if waiting and self._dependents.get(node.uid):
            propagation = "Foreground"
            await self._break_circle(node)
        elif (own := obj["metadata"].get("finalizers")) and ORPHAN in own:
            propagation = "Orphan"
        elif own and FOREGROUND in own:
            propagation = "Foreground"
        try:
            await self.client.delete(
                node.group, node.resource, node.namespace, node.name, uid=node.uid, propagation=propagation
            )
        except StatusError as error:
            if error.reason != "Conflict":  # another object of that name
                raise
        return None

    async def _break_circle(self, node: Node) -> None:
        """Let go whoever waits for this object where it would come to wait for them: a dependent that waits itself."""
        for dependent in self._dependent_nodes(node.uid):
            other = await self._read(dependent)
            if other and other["metadata"].get("deletionTimestamp") and _waits(other):
                break
        else:
            return

        def change(live: Object) -> None:
            for each in live["metadata"].get("ownerReferences") or ():
                each["blockOwnerDeletion"] = False

        await self._change(node, change)
        for owner in self._owners.get(node.uid, ()):
            self.queue.add((owner,))

    async def _find_owner(self, node: Node, reference: Object) -> Object | None:
        """The owner, None where it is gone for certain."""
        known = self._nodes.get(reference.get("uid", ""))
        if known is not None:
            if known.namespace and known.namespace != node.namespace:
                return None  # an owner in another namespace does not count
            return await self._read(known)
        group, _, version = str(reference.get("apiVersion", "")).rpartition("/")
        resource = self.client.env.registry.by_kind(group, version, str(reference.get("kind", "")))
        if resource is None:
            # A kind that nobody serves: its objects may exist where we cannot see them.
            raise StatusError(404, "NotFound", f"no kind {reference.get('kind')!r} is served")
        namespace = node.namespace if resource.namespaced else ""
        if resource.namespaced and not node.namespace:
            return None
        try:
            found = await self.client.get(resource.group, resource.plural, namespace, reference["name"])
        except StatusError as error:
            if error.code == 404:
                return None
            raise
        return found if found["metadata"].get("uid") == reference.get("uid") else None

    async def _read(self, node: Node) -> Object | None:
        try:
            return await self.client.find(node.group, node.resource, node.namespace, node.name)
        except StatusError:  # its kind is served no longer
            return None

    def _dependent_nodes(self, uid: str) -> Iterable[Node]:
        return [self._nodes[each] for each in self._dependents.get(uid, set()) if each in self._nodes]

    async def _release(self, node: Node, owners: set[str]) -> None:
        """Take references off an object."""

        def change(live: Object) -> None:
            if live["metadata"].get("uid") != node.uid:
                return
            kept = [each for each in live["metadata"].get("ownerReferences") or () if each.get("uid") not in owners]
            if kept:
                live["metadata"]["ownerReferences"] = kept
            else:
                live["metadata"].pop("ownerReferences", None)

        await self._change(node, change)

    async def _take_off(self, node: Node, finalizer: str) -> None:
        def change(live: Object) -> None:
            live["metadata"]["finalizers"] = [
                each for each in live["metadata"].get("finalizers") or () if each != finalizer
            ]

        await self._change(node, change)

    async def _change(self, node: Node, change: Callable[[Object], None]) -> None:
        try:
            await self.client.update(node.group, node.resource, node.namespace, node.name, change, check=False)
        except StatusError as error:
            if error.code != 404:
                raise


def _waits(obj: Object) -> bool:
    finalizers = obj["metadata"].get("finalizers") or ()
    return ORPHAN in finalizers or FOREGROUND in finalizers
