"""The zone of a cluster: what each name below its domain means.

    <service>.<namespace>.svc.<domain>                       A, AAAA: its addresses, or its endpoints' (headless)
    <hostname>.<service>.<namespace>.svc.<domain>            A, AAAA: an endpoint of a headless service
    _<port>._<protocol>.<service>.<namespace>.svc.<domain>   SRV
    <a-b-c-d>.<namespace>.pod.<domain>                       A, AAAA: the address that stands there
    dns-version.<domain>                                     TXT
    <address>.in-addr.arpa, .ip6.arpa                        PTR: a service, an endpoint with a hostname

A name that is not there is NXDOMAIN, one that lacks the type asked for an empty answer, each with the zone's SOA.

Source: https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from windlass.kube.api.endpointslices import GROUP, PLURAL, Key, ServiceSlices
from windlass.kube.api.resource import Object
from windlass.kube.client import SharedCache
from windlass.networks.dns import message
from windlass.networks.dns.message import Query, Record

TTL: Final = 5
_SCHEMA: Final = b"1.1.0"
_ADDRESS_TYPES: Final = {message.A: 4, message.AAAA: 6}


class Endpoint(NamedTuple):
    """An endpoint of a service that has a name of its own, or gets one from its address."""

    hostname: str
    addresses: tuple[str, ...]
    ports: tuple[tuple[str, str, int], ...]


class Alias(NamedTuple):
    """An ExternalName service: the name to which it leads."""

    target: str


class Zone:
    """Answers from what is in memory. `start`, then `stop`."""

    def __init__(self, cache: SharedCache, domain: str) -> None:
        self._cache = cache
        self._domain = domain.lower().strip(".")
        self._suffix = f".{self._domain}"
        self._slices = ServiceSlices(self._index)
        self._reverse: dict[str, dict[Key, str]] = {}
        self._of_service: dict[Key, set[str]] = {}
        self._soa: Record | None = None
        self._is_following = False

    def start(self) -> None:
        """Follow services and their endpoints."""
        self._slices.fill(self._cache)
        for each in self._cache.list("", "services"):
            self._service_changed("ADDED", each)
        self._cache.subscribe(GROUP, PLURAL, self._slices.changed)
        self._cache.subscribe("", "services", self._service_changed)
        self._is_following = True

    # What changes ----------------------------------------------------------------------------------------------------

    def _service_changed(self, event: str, service: Object) -> None:
        del event
        self._index((service["metadata"]["namespace"], service["metadata"]["name"]))

    def _index(self, key: Key) -> None:
        """Which addresses lead back to a service."""
        for address in self._of_service.pop(key, ()):
            names = self._reverse.get(address, {})
            names.pop(key, None)
            if not names:
                self._reverse.pop(address, None)
        service = self._cache.get("", "services", *key)
        if service is None:
            return
        base = f"{key[1]}.{key[0]}.svc{self._suffix}"
        found = dict.fromkeys(_cluster_ips(service), base)
        if not found and not _is_alias(service):
            for endpoint in self._endpoints(key):
                found |= dict.fromkeys(endpoint.addresses, f"{endpoint.hostname}.{base}")
        for address, name in found.items():
            self._reverse.setdefault(address, {})[key] = name
        self._of_service[key] = set(found)

    def stop(self) -> None:
        """Follow nothing any longer."""
        if self._is_following:
            self._cache.unsubscribe(GROUP, PLURAL, self._slices.changed)
            self._cache.unsubscribe("", "services", self._service_changed)
            self._is_following = False

    # Answers ---------------------------------------------------------------------------------------------------------

    def answer(self, query: Query) -> bytes | None:
        """The response, None where another server is to be asked."""
        if query.kind != message.IN:
            return None
        name = query.name
        if name == self._domain or name.endswith(self._suffix):
            found = self._find(name[: -len(self._suffix)].split(".") if name != self._domain else [], query)
            if isinstance(found, Alias):
                return None
            return self._respond(query, found)
        if query.type == message.PTR:
            address = message.reverse_address(name)
            names = self._reverse.get(str(address), {}) if address is not None else {}
            if names:
                records = [_record(message.PTR, message.encode_name(each)) for each in sorted(names.values())]
                return message.respond(query, records)
        return None

    def alias(self, name: str) -> str:
        """Where an ExternalName service leads that has this name, "" if it is none."""
        if not name.endswith(self._suffix):
            return ""
        labels = name[: -len(self._suffix)].split(".")
        if len(labels) == 3 and labels[2] == "svc":
            service = self._cache.get("", "services", labels[1], labels[0])
            if service is not None and _is_alias(service):
                return str(service["spec"]["externalName"]).rstrip(".").lower()
        return ""

    def _respond(self, query: Query, found: Sequence[Record] | None) -> bytes:
        if found:
            extra = self._targets(query, found) if query.type == message.SRV else []
            return message.respond(query, found, additional=extra)
        code = message.NXDOMAIN if found is None else message.NOERROR
        return message.respond(query, authority=[self._start_of_authority()], code=code)

    def _targets(self, query: Query, found: Sequence[Record]) -> list[Record]:
        """The addresses of what SRV records name."""
        extra = []
        for target in dict.fromkeys(record.data[6:] for record in found):
            labels = _labels(target)[: -len(self._domain.split("."))]
            for kind in (message.A, message.AAAA):
                inner = self._find(labels, query._replace(type=kind))
                if inner and not isinstance(inner, Alias):
                    extra += [each._replace(owner=target) for each in inner]
        return extra

    def _start_of_authority(self) -> Record:
        if self._soa is None:
            names = message.encode_name(f"ns.dns{self._suffix}") + message.encode_name(f"hostmaster{self._suffix}")
            times = struct.pack("!5I", 1, 7200, 1800, 86400, TTL)
            self._soa = Record(message.encode_name(self._domain), message.SOA, TTL, names + times)
        return self._soa

    def _find(self, labels: Sequence[str], query: Query) -> Sequence[Record] | Alias | None:
        """The records of a name; None where there is no such name."""
        match list(labels):
            case []:
                return [self._start_of_authority()] if query.type == message.SOA else []
            case ["dns-version"]:
                data = bytes([len(_SCHEMA)]) + _SCHEMA
                return [_record(message.TXT, data)] if query.type == message.TXT else []
            case ["svc"] | ["pod"]:
                return []
            case [namespace, "svc" | "pod"]:
                return None if self._cache.get("", "namespaces", "", namespace) is None else []
            case [address, namespace, "pod"]:
                return self._pod(address, namespace, query)
            case [name, namespace, "svc"]:
                return self._service((namespace, name), query)
            case [hostname, name, namespace, "svc"]:
                return self._endpoint(hostname, (namespace, name), query)
            case [port, protocol, name, namespace, "svc"] if port[:1] == protocol[:1] == "_":
                return self._ports(port[1:], protocol[1:], (namespace, name), query)
        return None

    def _pod(self, label: str, namespace: str, query: Query) -> Sequence[Record] | None:
        if self._cache.get("", "namespaces", "", namespace) is None:
            return None
        for text in (label.replace("-", "."), label.replace("-", ":")):
            try:
                return _addresses([str(ipaddress.ip_address(text))], query)
            except ValueError:
                continue
        return None

    def _service(self, key: Key, query: Query) -> Sequence[Record] | Alias | None:
        service = self._cache.get("", "services", *key)
        if service is None:
            return None
        if _is_alias(service):
            return Alias(str(service["spec"]["externalName"]))
        addresses: Iterable[str] = _cluster_ips(service)
        if not addresses:
            addresses = [address for each in self._endpoints(key) for address in each.addresses]
        if query.type == message.SRV:
            return self._all_ports(service, key)
        return _addresses(dict.fromkeys(addresses), query)

    def _endpoint(self, hostname: str, key: Key, query: Query) -> Sequence[Record] | None:
        service = self._cache.get("", "services", *key)
        if service is None or _is_alias(service) or _cluster_ips(service):
            return None
        found = [address for each in self._endpoints(key) if each.hostname == hostname for address in each.addresses]
        return _addresses(dict.fromkeys(found), query) if found else None

    def _ports(self, port: str, protocol: str, key: Key, query: Query) -> Sequence[Record] | None:
        service = self._cache.get("", "services", *key)
        if service is None or _is_alias(service):
            return None
        found = [
            record
            for name, kind, record in self._port_records(service, key)
            if port in ("*", name) and protocol in ("*", kind)
        ]
        if not found:
            return None
        return found if query.type == message.SRV else []

    def _all_ports(self, service: Object, key: Key) -> Sequence[Record]:
        return [record for name, _, record in self._port_records(service, key) if name]

    def _port_records(self, service: Object, key: Key) -> Iterator[tuple[str, str, Record]]:
        base = f"{key[1]}.{key[0]}.svc{self._suffix}"
        if _cluster_ips(service):
            for port in service["spec"].get("ports") or ():
                protocol = str(port.get("protocol") or "TCP").lower()
                yield port.get("name") or "", protocol, _srv(int(port["port"]), base)
            return
        for each in self._endpoints(key):
            for name, protocol, number in each.ports:
                yield name, protocol, _srv(number, f"{each.hostname}.{base}")

    def _endpoints(self, key: Key) -> Iterator[Endpoint]:
        """The endpoints of a service that are ready."""
        for slice_ in self._slices.of(key):
            ports = tuple(
                (port.get("name") or "", str(port.get("protocol") or "TCP").lower(), int(port["port"]))
                for port in slice_.get("ports") or ()
                if port.get("port")
            )
            for each in slice_.get("endpoints") or ():
                if (each.get("conditions") or {}).get("ready") is False:
                    continue
                first = each["addresses"][0]
                hostname = (each.get("hostname") or "").lower() or first.replace(".", "-").replace(":", "-")
                yield Endpoint(hostname, tuple(each["addresses"]), ports)


def _record(kind: int, data: bytes) -> Record:
    return Record(b"", kind, TTL, data)


def _srv(port: int, target: str) -> Record:
    return _record(message.SRV, struct.pack("!3H", 0, 100, port) + message.encode_name(target))


def _addresses(addresses: Iterable[str], query: Query) -> Sequence[Record]:
    """Records of the type asked for, in an order of chance: clients take the first."""
    version = _ADDRESS_TYPES.get(query.type)
    parsed = (ipaddress.ip_address(each) for each in addresses)
    found = [_record(query.type, each.packed) for each in parsed if each.version == version]
    random.shuffle(found)
    return found


def _cluster_ips(service: Mapping[str, Object]) -> list[str]:
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return []
    return [each for each in spec.get("clusterIPs") or [spec.get("clusterIP")] if each and each != "None"]


def _is_alias(service: Mapping[str, Object]) -> bool:
    return (service.get("spec") or {}).get("type") == "ExternalName"


def _labels(encoded: bytes) -> list[str]:
    found, offset = [], 0
    while (length := encoded[offset]) != 0:
        found.append(encoded[offset + 1 : offset + 1 + length].decode())
        offset += length + 1
    return found
