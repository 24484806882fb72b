"""resourcequota-controller: counts what a namespace has, and says so in its quotas' status.

Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from collections.abc import Mapping

from windlass.kube.api import objects
from windlass.kube.api.operations import updating
from windlass.kube.api.operations.environment import Actor
from windlass.kube.api.quantity import ZERO, Quantity
from windlass.kube.api.quotas import meets_scopes, usage_of
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers.runner import Controller, Key

_WATCHED = ("pods", "services", "persistentvolumeclaims", "configmaps", "secrets", "replicationcontrollers")
_RESYNC = 30.0


class QuotaWriter:
    """Notes what admission charges, by compare-and-set."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def set_used(self, quota: Object, used: Mapping[str, str]) -> bool:
        """See `Writer.set_used`."""

        def change(live: Object) -> Object:
            live["metadata"]["resourceVersion"] = quota["metadata"]["resourceVersion"]
            hard = (live.get("spec") or {}).get("hard") or {}
            live["status"] = {"hard": hard, "used": dict(used)}
            return live

        resource = self._client.resource("", "resourcequotas")
        namespace, name = objects.namespace_of(quota), objects.name_of(quota)
        try:
            await updating.update(
                self._client.env,
                resource,
                namespace,
                name,
                change,
                Actor(self._client.user),
                subresource="status",
                check=False,
            )
        except StatusError as error:
            if error.code in (404, 409):
                return False
            raise
        return True


class ResourceQuotaController(Controller):
    """See the module."""

    name = "resourcequota-controller"

    def subscribe(self) -> None:
        """Quotas, and what they usually count."""
        self.watch("", "resourcequotas")
        for resource in _WATCHED:
            self.watch_keys("", resource, self._quotas_of)

    def _quotas_of(self, namespace: str, _name: str) -> list[Key]:
        return [(namespace, objects.name_of(each)) for each in self.cache.list("", "resourcequotas", namespace)]

    async def reconcile(self, key: Key) -> float | None:
        """Count."""
        quota = self.cache.get("", "resourcequotas", key[0], key[1])
        if quota is None:
            return None
        hard = (quota.get("spec") or {}).get("hard") or {}
        used = {name: str(amount) for name, amount in self._count(quota, hard).items()}
        wanted = {"hard": hard, "used": used}
        if (quota.get("status") or {}) != wanted:
            await self.client.set_status("", "resourcequotas", key[0], key[1], wanted)
        return _RESYNC

    def _count(self, quota: Object, hard: Mapping[str, str]) -> dict[str, Quantity]:
        total: dict[str, Quantity] = dict.fromkeys(hard, ZERO)
        for resource in self.client.env.registry.storages():
            if not resource.namespaced or "list" not in resource.verbs:
                continue
            if not self._concerns(resource.group, resource.plural, hard):
                continue
            for obj in self.cache.list(resource.group, resource.plural, objects.namespace_of(quota)):
                if not meets_scopes(quota, obj, resource.plural):
                    continue
                for name, amount in usage_of(obj, resource.group, resource.plural).items():
                    if name in total:
                        total[name] = total[name].plus(amount)
        return total

    @staticmethod
    def _concerns(group: str, plural: str, hard: Mapping[str, str]) -> bool:
        if not group and plural in (*_WATCHED, "resourcequotas"):
            return True
        return f"count/{plural}.{group}" in hard or f"count/{plural}" in hard
