"""namespace-controller: empties a namespace that goes, then lets it go.

    Terminating ─ delete the pods ─ wait until none is left ─ delete the rest ─ wait ─ take "kubernetes" off

What stands in the way is told in the namespace's conditions.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/
"""

from __future__ import annotations

from typing import Any

from windlass.kube.api import objects
from windlass.kube.api.operations.reading import prefix_end
from windlass.kube.api.resource import Object, Resource
from windlass.kube.api.status import StatusError
from windlass.kube.controllers.runner import Controller, Key

_FINALIZER = "kubernetes"
_AGAIN = 0.2


class NamespaceController(Controller):
    """See the module."""

    name = "namespace-controller"
    workers = 4

    def subscribe(self) -> None:
        """Namespaces."""
        self.watch("", "namespaces")

    async def reconcile(self, key: Key) -> float | None:
        """Empty it a bit further."""
        name = key[1]
        namespace = self.cache.get("", "namespaces", "", name)
        if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
            return None
        finalizers = (namespace.get("spec") or {}).get("finalizers") or []
        if _FINALIZER not in finalizers:
            return None
        failures: list[str] = []
        remaining: dict[str, int] = {}
        held: dict[str, int] = {}
        for resource in self._resources():
            await self._delete_all(resource, name, failures)
            if resource.qualified == "pods" and self._count(resource, name)[0]:
                break  # what they use stays until they are gone
        for resource in self._resources():
            count, finals = self._count(resource, name)
            if count:
                remaining[resource.qualified] = count
                for each in finals:
                    held[each] = held.get(each, 0) + 1
        if failures or remaining:
            await self._tell(namespace, failures, remaining, held)
            return _AGAIN if not remaining else min(_AGAIN * 5, 1.0)

        def change(live: Object) -> None:
            live["spec"]["finalizers"] = [each for each in live["spec"]["finalizers"] if each != _FINALIZER]

        await self.client.update("", "namespaces", "", name, change, subresource="finalize", check=False)
        return None

    def _resources(self) -> list[Resource]:
        found = [
            each
            for each in self.client.env.registry.storages()
            if each.namespaced and "delete" in each.verbs and "list" in each.verbs
        ]
        # Pods before what they use, so that nothing loses its footing.
        return sorted(found, key=lambda each: (each.qualified != "pods", each.qualified))

    async def _delete_all(self, resource: Resource, namespace: str, failures: list[str]) -> None:
        store = self.client.env.store
        prefix = resource.storage.namespace_prefix(namespace)
        for record in store.range(prefix, prefix_end(prefix)).records:
            obj = objects.decode(record.value)
            if obj["metadata"].get("deletionTimestamp") and not resource.strategy.grace_period(obj, None):
                continue
            if obj["metadata"].get("deletionTimestamp"):
                continue
            try:
                await self.client.delete(
                    resource.group, resource.plural, namespace, objects.name_of(obj), propagation="Background"
                )
            except StatusError as error:
                failures.append(error.message)

    def _count(self, resource: Resource, namespace: str) -> tuple[int, list[str]]:
        prefix = resource.storage.namespace_prefix(namespace)
        records = self.client.env.store.range(prefix, prefix_end(prefix)).records
        finalizers: list[str] = []
        for record in records:
            finalizers += objects.decode(record.value)["metadata"].get("finalizers") or []
        return len(records), finalizers

    async def _tell(
        self, namespace: Object, failures: list[str], remaining: dict[str, int], held: dict[str, int]
    ) -> None:
        now = self.client.env.timestamp()

        def condition(type: str, is_true: bool, reason: str, message: str) -> dict[str, Any]:
            return {
                "type": type,
                "status": "True" if is_true else "False",
                "reason": reason,
                "message": message,
                "lastTransitionTime": now,
            }

        left = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(remaining.items()))
        kept = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(held.items()))
        wanted = [
            condition(
                "NamespaceDeletionDiscoveryFailure",
                False,
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            condition(
                "NamespaceDeletionGroupVersionParsingFailure",
                False,
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            condition(
                "NamespaceDeletionContentFailure",
                bool(failures),
                "ContentDeletionFailed" if failures else "ContentDeleted",
                "; ".join(failures[:10]) or "All content successfully deleted, may be waiting on finalization",
            ),
            condition(
                "NamespaceContentRemaining",
                bool(remaining),
                "SomeResourcesRemain" if remaining else "ContentRemoved",
                f"Some resources are remaining: {left}" if remaining else "All content successfully removed",
            ),
            condition(
                "NamespaceFinalizersRemaining",
                bool(held),
                "SomeFinalizersRemain" if held else "ContentHasNoFinalizers",
                f"Some content in the namespace has finalizers remaining: {kept}"
                if held
                else "All content-preserving finalizers finished",
            ),
        ]
        before = {each["type"]: each for each in (namespace.get("status") or {}).get("conditions") or ()}
        for each in wanted:
            known = before.get(each["type"])
            if known is not None and known.get("status") == each["status"]:
                each["lastTransitionTime"] = known.get("lastTransitionTime", now)
        if list(before.values()) == wanted:
            return
        found = {**(namespace.get("status") or {}), "conditions": wanted}
        await self.client.set_status("", "namespaces", "", namespace["metadata"]["name"], found)
