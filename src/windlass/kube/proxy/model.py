"""Services as the packet filter sees them: addresses and ports, and the endpoints behind them.

Source: https://kubernetes.io/docs/concepts/services-networking/service/ and
https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-policies
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from windlass.kube.api.resource import Object

PROXY_NAME: Final = "service.kubernetes.io/service-proxy-name"
HEADLESS: Final = "service.kubernetes.io/headless"
_AFFINITY_SECONDS: Final = 10800
_PROTOCOLS: Final = frozenset(("TCP", "UDP", "SCTP"))


class Endpoint(NamedTuple):
    """Where packets go."""

    address: str
    port: int


@dataclass(frozen=True)
class ServicePort:
    """One port of a service, for one IP version.

    Attributes:
        name: namespace/service:port, for people.
        protocol: tcp, udp or sctp.
        cluster_ips: the service's own addresses of this version.
        external_ips: further addresses (externalIPs, a load balancer's).
        balancer_ips: those of `external_ips` for which `source_ranges` hold.
        node_port: 0 for none.
        affinity: seconds for which a client keeps its endpoint, 0 for no time.
        internal, external: endpoints of connections from inside and outside the cluster.
        everywhere: all endpoints, whatever the policies say.
        drops_internal, drops_external: whether having none there means silence, as others may have some elsewhere.
        keeps_source: whether what comes from outside is shown to the endpoint as it is (externalTrafficPolicy Local).
    """

    name: str
    protocol: str
    port: int
    cluster_ips: tuple[str, ...]
    external_ips: tuple[str, ...] = ()
    balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    node_port: int = 0
    affinity: int = 0
    internal: tuple[Endpoint, ...] = ()
    external: tuple[Endpoint, ...] = ()
    everywhere: tuple[Endpoint, ...] = ()
    drops_internal: bool = False
    drops_external: bool = False
    keeps_source: bool = False


def is_proxied(service: Object) -> bool:
    """Whether a service has addresses that lead somewhere by this proxy."""
    spec, labels = service.get("spec") or {}, service["metadata"].get("labels") or {}
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") in (None, "", "None"):
        return False
    return PROXY_NAME not in labels


def ports_of(service: Object, slices: Iterable[Object], node: str, version: int) -> list[ServicePort]:
    """The ports of a service as `node` sees them."""
    if not is_proxied(service):
        return []
    spec = service["spec"]
    listed = list(slices)
    kind = "IPv4" if version == 4 else "IPv6"
    balancers = [
        each["ip"]
        for each in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        if each.get("ip") and each.get("ipMode", "VIP") == "VIP"
    ]
    cluster_ips = _of_version(spec.get("clusterIPs") or [spec["clusterIP"]], version)
    if not cluster_ips:
        return []
    keeps = spec.get("externalTrafficPolicy") == "Local"
    inside = spec.get("internalTrafficPolicy") == "Local"
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        affinity = int(client.get("timeoutSeconds") or _AFFINITY_SECONDS)
    found = []
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        if protocol not in _PROTOCOLS:
            continue
        name = port.get("name") or ""
        everywhere = _endpoints(listed, kind, name, protocol, "")
        here = _endpoints(listed, kind, name, protocol, node)
        found.append(
            ServicePort(
                name=f"{service['metadata']['namespace']}/{service['metadata']['name']}:{name}",
                protocol=protocol.lower(),
                port=int(port["port"]),
                cluster_ips=cluster_ips,
                external_ips=_of_version([*(spec.get("externalIPs") or ()), *balancers], version),
                balancer_ips=_of_version(balancers, version),
                source_ranges=_of_version(spec.get("loadBalancerSourceRanges") or (), version),
                node_port=int(port.get("nodePort") or 0),
                affinity=affinity,
                internal=here if inside else everywhere,
                external=here if keeps else everywhere,
                everywhere=everywhere,
                drops_internal=inside and bool(everywhere) and not here,
                drops_external=keeps and bool(everywhere) and not here,
                keeps_source=keeps,
            )
        )
    return found


def _of_version(addresses: Iterable[str], version: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for each in addresses if (":" in each) == (version == 6)))


def _endpoints(slices: Sequence[Object], kind: str, name: str, protocol: str, node: str) -> tuple[Endpoint, ...]:
    """The endpoints of a port, of one node where it is named: those that are ready, else those that still serve."""
    ready: list[Endpoint] = []
    ending: list[Endpoint] = []
    for each in slices:
        if each.get("addressType") != kind:
            continue
        numbers = [
            int(port["port"])
            for port in each.get("ports") or ()
            if port.get("port") and (port.get("name") or "") == name and (port.get("protocol") or "TCP") == protocol
        ]
        for endpoint in each.get("endpoints") or () if numbers else ():
            if node and endpoint.get("nodeName") != node:
                continue
            conditions = endpoint.get("conditions") or {}
            is_ready = conditions.get("ready") is not False
            if is_ready:
                chosen = ready
            elif conditions.get("serving", is_ready) and conditions.get("terminating"):
                chosen = ending
            else:
                continue
            # Of several addresses of one endpoint, the first is the one that counts.
            chosen += [Endpoint(endpoint["addresses"][0], number) for number in numbers]
    return tuple(sorted(set(ready or ending)))
