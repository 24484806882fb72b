"""endpointslice-mirroring-controller: Endpoints that users write for services without a selector, as EndpointSlices.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#endpointslice-mirroring
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.controllers import service_pods, slices
from windlass.kube.controllers.runner import Controller, Key

CONTROLLER: Final = "endpointslicemirroring-controller.k8s.io"
_SKIP: Final = "endpointslice.kubernetes.io/skip-mirror"
_LEADER: Final = "control-plane.alpha.kubernetes.io/leader"
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_MOST: Final = 1000
_RESERVED = frozenset({slices.SERVICE_NAME, slices.MANAGED_BY, service_pods.HEADLESS})


class EndpointSliceMirroringController(Controller):
    """See the module. Keys are Endpoints and their services, which have the same name."""

    name = "endpointslicemirroring-controller"

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", "endpoints")
        self.watch("", "services")
        self.watch(slices.GROUP, slices.PLURAL, _key_of_slice)

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        endpoints = self.cache.get("", "endpoints", *key)
        service = self.cache.get("", "services", *key)
        if endpoints is None or not _is_mirrored(endpoints, service):
            for each in slices.existing_slices(self.client, key[0], key[1], CONTROLLER):
                await self.client.delete(slices.GROUP, slices.PLURAL, key[0], each["metadata"]["name"])
            return None
        metadata = endpoints["metadata"]
        groups: dict[tuple[str, slices.PortsKey], tuple[Sequence[Object], list[Object]]] = {}
        for subset in endpoints.get("subsets") or ():
            ports = [{"name": "", "protocol": "TCP", **each} for each in subset.get("ports") or ()]
            addresses = [
                (each, ready)
                for kind, ready in (("addresses", True), ("notReadyAddresses", False))
                for each in subset.get(kind) or ()
            ]
            for each, ready in addresses[:_MOST]:
                kind = "IPv6" if ipaddress.ip_address(each["ip"]).version == 6 else "IPv4"
                group = groups.setdefault((kind, slices.ports_key(ports)), (ports, []))
                group[1].append(_endpoint(each, ready))
        dropped = (_LAST_APPLIED, service_pods.TRIGGER)
        annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in dropped}
        labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k not in _RESERVED}
        owner = {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        wanted = slices.SliceSet(key[0], key[1], CONTROLLER, owner, labels, annotations, groups, most=_MOST)
        await slices.write(self.client, wanted)
        return None


def _is_mirrored(endpoints: Object, service: Object | None) -> bool:
    metadata = endpoints["metadata"]
    return (
        service is not None
        and not (service.get("spec") or {}).get("selector")
        and (metadata.get("labels") or {}).get(_SKIP) != "true"
        and _LEADER not in (metadata.get("annotations") or {})
    )


def _endpoint(address: Object, ready: bool) -> Object:
    found: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for name in ("hostname", "nodeName", "targetRef"):
        if address.get(name):
            found[name] = address[name]
    return found


def _key_of_slice(each: Object) -> Iterable[Key]:
    labels = each["metadata"].get("labels") or {}
    if labels.get(slices.MANAGED_BY) == CONTROLLER and labels.get(slices.SERVICE_NAME):
        return [(each["metadata"]["namespace"], labels[slices.SERVICE_NAME])]
    return ()
