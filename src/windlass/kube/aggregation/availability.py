"""available-controller: whether the servers of APIServices answer; and an APIService for each version served here."""

from __future__ import annotations

from typing import Any

from windlass.kube.aggregation.proxy import GROUP, Aggregator, Unreachable
from windlass.kube.api.discovery import Discovery
from windlass.kube.api.registry import version_priority
from windlass.kube.api.resource import Object, Resource
from windlass.kube.client import Client
from windlass.kube.controllers.runner import Controller, Key

_AGAIN = 30.0
_SOON = 1.0
_AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"


class AvailabilityController(Controller):
    """Keeps the condition Available."""

    name = "available-controller"

    def __init__(self, client: Client, aggregator: Aggregator, discovery: Discovery) -> None:
        super().__init__(client)
        self._aggregator = aggregator
        self._discovery = discovery

    def subscribe(self) -> None:
        """APIServices, endpoints of their services, and what is served here."""
        self.watch(GROUP, "apiservices")
        self.watch("discovery.k8s.io", "endpointslices", self._of_endpoints)
        self.client.env.registry.listen(self._served)
        for resource in self.client.env.registry.all():
            self._served(resource, True)

    def _served(self, resource: Resource, _appeared: bool) -> None:
        self.queue.add(("", f"{resource.version}.{resource.group}"))

    def _of_endpoints(self, obj: Object) -> list[Key]:
        service = (obj["metadata"].get("labels") or {}).get("kubernetes.io/service-name", "")
        namespace = obj["metadata"].get("namespace", "")
        return [
            ("", each["metadata"]["name"])
            for each in self.cache.list(GROUP, "apiservices")
            if (found := each["spec"].get("service"))
            and (found.get("namespace"), found.get("name")) == (namespace, service)
        ]

    async def reconcile(self, key: Key) -> float | None:
        """Look at one."""
        name = key[1]
        version, _, group = name.partition(".")
        here = any(True for _ in self.client.env.registry.resources(group, version))
        service = self.cache.get(GROUP, "apiservices", "", name)
        if service is None:
            self._aggregator.forget(name)
            self._discovery.changed()
            if here:
                await self.client.ensure(GROUP, "apiservices", _local(group, version))
            return None
        if not service["spec"].get("service"):
            labels = service["metadata"].get("labels") or {}
            if not here and labels.get(_AUTOMANAGED):
                await self.client.delete(GROUP, "apiservices", "", name)
                return None
            await self._tell(service, "True", "Local", "Local APIServices are always available")
            return None
        try:
            if await self._aggregator.probe(service):
                self._discovery.changed()
        except Unreachable as error:
            self._discovery.changed()
            await self._tell(service, "False", "FailedDiscoveryCheck", str(error))
            return _SOON
        await self._tell(service, "True", "Passed", "all checks passed")
        return _AGAIN

    async def _tell(self, service: Object, value: str, reason: str, message: str) -> None:
        before = next(
            (each for each in (service.get("status") or {}).get("conditions") or () if each.get("type") == "Available"),
            None,
        )
        if before is not None and (before["status"], before.get("reason")) == (value, reason):
            return
        found: dict[str, Any] = {
            "type": "Available",
            "status": value,
            "reason": reason,
            "message": message,
            "lastTransitionTime": self.client.env.timestamp(),
        }
        name = service["metadata"]["name"]
        await self.client.set_status(GROUP, "apiservices", "", name, {"conditions": [found]})


def _local(group: str, version: str) -> Object:
    priority = version_priority(version)
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {_AUTOMANAGED: "onstart"}},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 18000 if not group else 17000,
            "versionPriority": max(1, 10 + priority[1]) if priority[0] == 2 else 5,
        },
    }
