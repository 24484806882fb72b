"""endpointslice-controller: the pods that a service selects, as EndpointSlices for those that lead packets to them.

    ready        in `publishNotReadyAddresses`, or ready and not on its way out
    serving      ready, on its way out or not
    terminating  being deleted

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from windlass.kube.api.resource import Object
from windlass.kube.client import Client
from windlass.kube.controllers import pod_state, service_pods, slices
from windlass.kube.controllers.runner import Controller, Key

CONTROLLER: Final = "endpointslice-controller.k8s.io"
_MOST: Final = 100
_ZONE: Final = "topology.kubernetes.io/zone"
_RESERVED = frozenset({slices.SERVICE_NAME, slices.MANAGED_BY, service_pods.HEADLESS})
_NEAR = ("PreferClose", "PreferSameZone", "PreferSameNode")


class EndpointSliceController(Controller):
    """See the module. Keys are services."""

    name = "endpointslice-controller"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._zones: dict[str, str] = {}

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", "services")
        self.watch("", "pods", service_pods.ServicesOfPods(self.cache))
        self.watch("", "nodes", self._services_of_node)
        self.watch(slices.GROUP, slices.PLURAL, _service_of_slice)

    def _services_of_node(self, node: Object) -> Iterable[Key]:
        """All services where a node has come, gone or changed its zone: pods may wait for it."""
        name = node["metadata"]["name"]
        is_gone = self.cache.get("", "nodes", "", name) is None
        zone = (node["metadata"].get("labels") or {}).get(_ZONE, "")
        if not is_gone and self._zones.get(name) == zone:
            return ()
        if is_gone:
            self._zones.pop(name, None)
        else:
            self._zones[name] = zone
        return [
            (each["metadata"]["namespace"], each["metadata"]["name"])
            for each in self.cache.list("", "services")
            if service_pods.selects(each)
        ]

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        service = self.cache.get("", "services", *key)
        if service is None or not service_pods.selects(service):
            return None  # its slices go with it; those of a service without a selector are somebody else's
        metadata = service["metadata"]
        pods = [
            pod
            for pod in service_pods.pods_of(self.cache, service)
            if service_pods.may_be_endpoint(pod, terminating=True)
        ]
        families = address_types(service)
        groups: dict[tuple[str, slices.PortsKey], tuple[Sequence[Object], list[Object]]] = {}
        for pod in pods:
            ports = _ports(service, pod)
            for family in families:
                endpoint = self._endpoint(pod, service, family)
                if endpoint is not None:
                    group = groups.setdefault((family, slices.ports_key(ports)), (ports, []))
                    group[1].append(endpoint)
        labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name not in _RESERVED}
        if service_pods.is_headless(service):
            labels[service_pods.HEADLESS] = ""
        changed = service_pods.last_ready_change(pods) or metadata["creationTimestamp"]
        owner = {
            "apiVersion": "v1",
            "kind": "Service",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        await slices.write(
            self.client,
            slices.SliceSet(
                namespace=key[0],
                service=key[1],
                managed_by=CONTROLLER,
                owner=owner,
                labels=labels,
                annotations={service_pods.TRIGGER: changed},
                groups=groups,
                placeholders=families,
                most=_MOST,
            ),
        )
        return None

    def _endpoint(self, pod: Object, service: Object, family: str) -> Object | None:
        """A pod as an endpoint; None where it has no address of the family, or its node does not exist."""
        version = 6 if family == "IPv6" else 4
        addresses = [
            str(address)
            for text in service_pods.addresses_of(pod)
            if (address := ipaddress.ip_address(text)).version == version
        ]
        metadata, spec, of_service = pod["metadata"], pod.get("spec") or {}, service.get("spec") or {}
        name = spec.get("nodeName") or ""
        node = self.cache.get("", "nodes", "", name) if name else None
        published = bool(of_service.get("publishNotReadyAddresses"))
        if not addresses or (node is None and not published):
            return None
        serving, terminating = pod_state.is_ready(pod), bool(metadata.get("deletionTimestamp"))
        ready = published or (serving and not terminating)
        endpoint: Object = {
            "addresses": addresses,
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            "targetRef": {
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }
        if name:
            endpoint["nodeName"] = name
        zone = ((node or {"metadata": {}})["metadata"].get("labels") or {}).get(_ZONE)
        if zone:
            endpoint["zone"] = zone
        if hostname := service_pods.hostname_of(pod, service):
            endpoint["hostname"] = hostname
        wish = of_service.get("trafficDistribution")
        if ready and wish in _NEAR:
            hints: Object = {}
            if zone:
                hints["forZones"] = [{"name": zone}]
            if name and wish == "PreferSameNode":
                hints["forNodes"] = [{"name": name}]
            if hints:
                endpoint["hints"] = hints
        return endpoint


def address_types(service: Object) -> list[str]:
    """The families of a service's addresses."""
    spec = service.get("spec") or {}
    if found := spec.get("ipFamilies"):
        return list(found)
    if service_pods.is_headless(service):
        return ["IPv4", "IPv6"]
    return ["IPv6" if ":" in spec["clusterIP"] else "IPv4"]


def _ports(service: Object, pod: Object) -> list[Object]:
    found = []
    for port in (service.get("spec") or {}).get("ports") or ():
        number = service_pods.find_port(pod, port)
        if number is None:
            continue
        entry = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol", "TCP")}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        found.append(entry)
    return found


def _service_of_slice(each: Object) -> Iterable[Key]:
    """A slice of ours that somebody changed is put right."""
    labels = each["metadata"].get("labels") or {}
    if labels.get(slices.MANAGED_BY) == CONTROLLER and labels.get(slices.SERVICE_NAME):
        return [(each["metadata"]["namespace"], labels[slices.SERVICE_NAME])]
    return ()
