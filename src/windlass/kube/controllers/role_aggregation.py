"""clusterrole-aggregation-controller: roles made of roles.

Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles
"""

from __future__ import annotations

from windlass.kube.api.authorization.rbac import aggregate
from windlass.kube.api.resource import Object
from windlass.kube.controllers.runner import Controller, Key

_GROUP = "rbac.authorization.k8s.io"


class RoleAggregationController(Controller):
    """Writes the rules of roles with an aggregationRule."""

    name = "clusterrole-aggregation-controller"
    workers = 1

    def subscribe(self) -> None:
        """Any role may be a part of any aggregated one."""
        self.watch(_GROUP, "clusterroles", lambda _obj: self._aggregated())

    def _aggregated(self) -> list[Key]:
        return [
            ("", each["metadata"]["name"])
            for each in self.cache.list(_GROUP, "clusterroles")
            if each.get("aggregationRule")
        ]

    async def reconcile(self, key: Key) -> float | None:
        """Set the rules that the parts add up to."""
        role = self.cache.get(_GROUP, "clusterroles", "", key[1])
        if role is None:
            return None
        rules = aggregate(role, self.cache.list(_GROUP, "clusterroles"))
        if rules is None or rules == (role.get("rules") or []):
            return None

        def change(live: Object) -> None:
            live["rules"] = rules

        await self.client.update(_GROUP, "clusterroles", "", key[1], change)
        return None
