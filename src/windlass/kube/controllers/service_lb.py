"""service-lb-controller: the load balancer that a cluster without a cloud has: the addresses of its nodes.

Each node's service proxy takes what comes to its address at the service's port. Services of a loadBalancerClass are
somebody else's.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from windlass.kube.api import objects
from windlass.kube.api.endpointslices import GROUP, PLURAL, service_of
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import Client
from windlass.kube.controllers import pod_state
from windlass.kube.controllers.events import NORMAL, EventRecorder
from windlass.kube.controllers.runner import Controller, Key

_EXCLUDED: Final = "node.kubernetes.io/exclude-from-external-load-balancers"


class ServiceLBController(Controller):
    """See the module. Keys are services."""

    name = "service-lb-controller"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._recorder = EventRecorder(self.client, "service-controller")
        self._nodes: dict[str, tuple[str, ...]] = {}

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", "services")
        self.listen("", "nodes", self._node_changed)
        self.watch(GROUP, PLURAL, self._of_slice)

    def _node_changed(self, event: str, node: Object) -> None:
        name = node["metadata"]["name"]
        addresses = () if event == "DELETED" else tuple(_addresses(node))
        if addresses != self._nodes.get(name, ()):
            self._nodes[name] = addresses
            for service in self.cache.list("", "services"):
                if _is_balanced(service):
                    self.queue.add((service["metadata"]["namespace"], service["metadata"]["name"]))

    def _of_slice(self, slice_: Object) -> Iterable[Key]:
        key = service_of(slice_)
        service = self.cache.get("", "services", *key) if key else None
        return [key] if key and service and _is_balanced(service) and _is_local(service) else ()

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        service = self.cache.get("", "services", *key)
        if service is None or (service.get("spec") or {}).get("loadBalancerClass"):
            return None
        wanted = self._ingress(service) if _is_balanced(service) else []
        status = service.get("status") or {}
        if objects.same(wanted, (status.get("loadBalancer") or {}).get("ingress") or []):
            return None

        def change(live: Object) -> None:
            balancer = {"ingress": wanted} if wanted and _is_balanced(live) else {}
            live.setdefault("status", {})["loadBalancer"] = balancer

        try:
            await self.client.update("", "services", key[0], key[1], change, subresource="status")
        except StatusError as error:
            if error.code != 404:
                raise
            return None
        if wanted:
            self._recorder.event(service, NORMAL, "EnsuredLoadBalancer", "Ensured load balancer")
        return None

    def _ingress(self, service: Object) -> list[Object]:
        """The nodes' addresses of the service's IP versions; by a local policy, of nodes that have endpoints."""
        families = service["spec"].get("ipFamilies") or ["IPv4"]
        serving = self._serving(service) if _is_local(service) else None
        found = [
            address
            for name, addresses in self._nodes.items()
            if serving is None or name in serving
            for address in addresses
            if ("IPv6" if ":" in address else "IPv4") in families
        ]
        return [{"ip": each, "ipMode": "VIP"} for each in sorted(set(found))]

    def _serving(self, service: Object) -> set[str]:
        metadata = service["metadata"]
        return {
            each["nodeName"]
            for slice_ in self.cache.list(GROUP, PLURAL, metadata["namespace"])
            if service_of(slice_) == (metadata["namespace"], metadata["name"])
            for each in slice_.get("endpoints") or ()
            if each.get("nodeName") and (each.get("conditions") or {}).get("ready") is not False
        }


def _is_balanced(service: Object) -> bool:
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")


def _is_local(service: Object) -> bool:
    return bool((service.get("spec") or {}).get("externalTrafficPolicy") == "Local")


def _addresses(node: Object) -> list[str]:
    """The addresses by which a node is reached from outside: its external ones, else the internal ones."""
    if _EXCLUDED in (node["metadata"].get("labels") or {}):
        return []
    if not pod_state.is_true(node, "Ready"):
        return []
    listed = (node.get("status") or {}).get("addresses") or ()
    external = [each["address"] for each in listed if each["type"] == "ExternalIP"]
    return external or [each["address"] for each in listed if each["type"] == "InternalIP"]
