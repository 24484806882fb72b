"""endpoints-controller: the pods that a service selects, as one Endpoints object, for those that do not know slices.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#endpoints
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any, Final

from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.controllers import pod_state, service_pods
from windlass.kube.controllers.endpointslice import address_types
from windlass.kube.controllers.runner import Controller, Key

MANAGED_BY: Final = "endpoints.kubernetes.io/managed-by"
CONTROLLER: Final = "endpoint-controller"
_CAPACITY: Final = "endpoints.kubernetes.io/over-capacity"
_MOST: Final = 1000
_KINDS = ("addresses", "notReadyAddresses")


class EndpointsController(Controller):
    """See the module. Keys are services."""

    name = CONTROLLER

    def subscribe(self) -> None:
        """See `Controller`."""
        self.watch("", "services")
        self.watch("", "pods", service_pods.ServicesOfPods(self.cache))
        self.watch("", "endpoints", self._service_of_endpoints)

    def _service_of_endpoints(self, endpoints: Object) -> Iterable[Key]:
        """Ours that somebody changed, or whose service went while nobody looked."""
        metadata = endpoints["metadata"]
        is_ours = (metadata.get("labels") or {}).get(MANAGED_BY) == CONTROLLER
        key = (metadata["namespace"], metadata["name"])
        return [key] if is_ours or self.cache.get("", "services", *key) is not None else ()

    async def reconcile(self, key: Key) -> float | None:
        """See `Controller`."""
        service = self.cache.get("", "services", *key)
        if service is None:
            await self.client.delete("", "endpoints", *key)
            return None
        if not service_pods.selects(service):
            return None
        wanted = self._wanted(service)
        found = self.cache.get("", "endpoints", *key)
        if found is None:
            try:
                await self.client.create("", "endpoints", wanted, key[0])
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
            return None

        def change(live: Object) -> None:
            annotations = live["metadata"].get("annotations") or {}
            of_us = {service_pods.TRIGGER, _CAPACITY}
            new = wanted["metadata"]["annotations"]
            is_same = (live.get("subsets") or []) == wanted["subsets"] and annotations.get(_CAPACITY) == new.get(
                _CAPACITY
            )
            live["metadata"]["labels"] = wanted["metadata"]["labels"]
            if is_same:
                return
            live["metadata"]["annotations"] = {k: v for k, v in annotations.items() if k not in of_us} | new
            live["subsets"] = wanted["subsets"]

        await self.client.update("", "endpoints", key[0], key[1], change)
        return None

    def _wanted(self, service: Object) -> Object:
        metadata, spec = service["metadata"], service.get("spec") or {}
        publishes = bool(spec.get("publishNotReadyAddresses"))
        pods = [
            pod
            for pod in service_pods.pods_of(self.cache, service)
            if service_pods.may_be_endpoint(pod, terminating=publishes)
        ]
        labels = {**(metadata.get("labels") or {}), MANAGED_BY: CONTROLLER}
        if service_pods.is_headless(service):
            labels[service_pods.HEADLESS] = ""
        else:
            labels.pop(service_pods.HEADLESS, None)
        annotations = {service_pods.TRIGGER: service_pods.last_ready_change(pods) or metadata["creationTimestamp"]}
        subsets, is_cut = _cut(_subsets(service, pods, publishes))
        if is_cut:
            annotations[_CAPACITY] = "truncated"
        return {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "labels": labels,
                "annotations": annotations,
            },
            "subsets": subsets,
        }


def _subsets(service: Object, pods: Sequence[Object], publishes: bool) -> list[Object]:
    """The pods, by the ports that they have: addresses with the same ports share a subset, in a fixed order."""
    version = 6 if address_types(service)[0] == "IPv6" else 4
    ports = (service.get("spec") or {}).get("ports") or []
    of_address: dict[tuple[Any, ...], tuple[Object, bool, dict[tuple[Any, ...], Object]]] = {}
    for pod in pods:
        texts = [text for text in service_pods.addresses_of(pod) if ipaddress.ip_address(text).version == version]
        if not texts:
            continue
        address = _address(pod, service, texts[0])
        ready = publishes or pod_state.is_ready(pod)
        entry = of_address.setdefault((texts[0], pod["metadata"]["uid"]), (address, ready, {}))
        for port in ports:
            number = service_pods.find_port(pod, port)
            if number is None:
                continue
            found: Object = {"port": number, "protocol": port.get("protocol", "TCP")}
            for name in ("name", "appProtocol"):
                if port.get(name):
                    found[name] = port[name]
            entry[2][_order(found)] = found
    by_ports: dict[tuple[Any, ...], tuple[list[Object], dict[str, list[Object]]]] = {}
    for key in sorted(of_address):
        address, ready, found_ports = of_address[key]
        if ports and not found_ports:
            continue
        order = tuple(sorted(found_ports))
        group = by_ports.setdefault(order, ([found_ports[each] for each in order], {}))
        group[1].setdefault(_KINDS[0] if ready else _KINDS[1], []).append(address)
    return [
        {**{kind: inside[kind] for kind in _KINDS if kind in inside}, **({"ports": own} if own else {})}
        for _, (own, inside) in sorted(by_ports.items())
    ]


def _order(port: Object) -> tuple[Any, ...]:
    return (port.get("name", ""), port["port"], port["protocol"], port.get("appProtocol", ""))


def _address(pod: Object, service: Object, text: str) -> Object:
    metadata = pod["metadata"]
    found: Object = {"ip": text}
    if hostname := service_pods.hostname_of(pod, service):
        found["hostname"] = hostname
    if node := (pod.get("spec") or {}).get("nodeName"):
        found["nodeName"] = node
    found["targetRef"] = {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return found


def _cut(subsets: list[Object]) -> tuple[list[Object], bool]:
    """At most a thousand addresses, those that are ready first."""
    left = _MOST
    if sum(len(each.get(kind, ())) for each in subsets for kind in _KINDS) <= left:
        return subsets, False
    for kind in _KINDS:
        for each in subsets:
            if kind in each:
                each[kind] = each[kind][:left]
                left -= len(each[kind])
                if not each[kind]:
                    del each[kind]
    return [each for each in subsets if any(kind in each for kind in _KINDS)], True
