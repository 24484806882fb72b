"""Services and what stands behind them: Endpoints, EndpointSlices, ingresses, network policies."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.api import names
from windlass.kube.api.identity import User
from windlass.kube.api.resource import Object
from windlass.kube.api.status import FieldError, duplicate, invalid_value, required
from windlass.kube.api.strategies.common import Full, Generational, Plain, WithStatus, immutable, one_of, spec_of

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_AFFINITY_SECONDS = 10800


class Services(WithStatus):
    """core/v1 Service. Addresses and node ports are allocated by a hook."""

    returns_deleted = True

    def __init__(self) -> None:
        super().__init__(names.dns1035_label)

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        kind = spec.setdefault("type", "ClusterIP")
        affinity = spec.setdefault("sessionAffinity", "None")
        if affinity == "ClientIP":
            config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
            config.setdefault("timeoutSeconds", _AFFINITY_SECONDS)
        elif affinity == "None":
            spec.pop("sessionAffinityConfig", None)
        for port in spec.get("ports") or ():
            port.setdefault("protocol", "TCP")
            if port.get("targetPort") in (None, "", 0):
                port["targetPort"] = port.get("port", 0)
        if kind in ("NodePort", "LoadBalancer"):
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if kind != "ExternalName":
            spec.setdefault("internalTrafficPolicy", "Cluster")
        if kind == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`."""
        obj["status"] = {"loadBalancer": {}}

    def prepare_for_update(self, new: Object, old: Object, user: User) -> None:
        """See `Strategy.prepare_for_update`: what was allocated stays where the client does not say otherwise."""
        super().prepare_for_update(new, old, user)
        spec, before = new["spec"], old.get("spec") or {}
        if spec.get("type") != "ExternalName" and before.get("type") != "ExternalName":
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if not spec.get(name) and name in before:
                    spec[name] = before[name]
        elif spec.get("type") == "ExternalName":
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if spec.get(name) == before.get(name):
                    spec.pop(name, None)
        if spec.get("type") in ("NodePort", "LoadBalancer") and before.get("type") in ("NodePort", "LoadBalancer"):
            nodes = {(p.get("port"), p.get("protocol")): p.get("nodePort") for p in before.get("ports") or ()}
            for port in spec.get("ports") or ():
                if not port.get("nodePort") and (kept := nodes.get((port.get("port"), port.get("protocol")))):
                    port["nodePort"] = kept
        elif spec.get("type") in ("ClusterIP", "ExternalName"):
            for port, was in zip(spec.get("ports") or (), before.get("ports") or (), strict=False):
                if port.get("nodePort") == was.get("nodePort"):
                    port.pop("nodePort", None)
            if before.get("type") != spec.get("type"):
                spec.pop("externalTrafficPolicy", None)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        kind = spec.get("type")
        errors = one_of(kind, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"), "spec.type")
        ports = spec.get("ports") or ()
        headless = spec.get("clusterIP") == "None"
        if not ports and not headless and kind != "ExternalName":
            errors.append(required("spec.ports"))
        if kind == "ExternalName":
            name = spec.get("externalName") or ""
            errors += [] if name else [required("spec.externalName")]
            errors += (
                [invalid_value("spec.externalName", name, t) for t in names.dns1123_subdomain(name.rstrip("."))]
                if name
                else []
            )
        if kind == "LoadBalancer" and headless:
            errors.append(
                invalid_value("spec.clusterIPs[0]", "None", "may not be set to 'None' for LoadBalancer services")
            )
        if kind == "NodePort" and headless:
            errors.append(invalid_value("spec.clusterIPs[0]", "None", "may not be set to 'None' for NodePort services"))
        errors += names.validate_labels(spec.get("selector") or {}, "spec.selector")
        errors += one_of(spec.get("sessionAffinity"), ("ClientIP", "None"), "spec.sessionAffinity")
        errors += self._validate_ports(ports)
        for index, address in enumerate(spec.get("externalIPs") or ()):
            errors += _address(address, f"spec.externalIPs[{index}]")
        policy = spec.get("externalTrafficPolicy")
        if policy is not None:
            if kind not in ("NodePort", "LoadBalancer") and not spec.get("externalIPs"):
                detail = "may only be set for externally-accessible services"
                errors.append(invalid_value("spec.externalTrafficPolicy", policy, detail))
            errors += one_of(policy, ("Cluster", "Local"), "spec.externalTrafficPolicy")
        if (policy := spec.get("internalTrafficPolicy")) is not None:
            errors += one_of(policy, ("Cluster", "Local"), "spec.internalTrafficPolicy")
        return errors

    def _validate_ports(self, ports: Any) -> list[FieldError]:
        errors: list[FieldError] = []
        seen_names: set[str] = set()
        seen: set[tuple[Any, ...]] = set()
        for index, port in enumerate(ports):
            path = f"spec.ports[{index}]"
            name = port.get("name") or ""
            if len(ports) > 1 and not name:
                errors.append(required(f"{path}.name"))
            elif name:
                errors += [invalid_value(f"{path}.name", name, text) for text in names.dns1123_label(name)]
                if name in seen_names:
                    errors.append(duplicate(f"{path}.name", name))
                seen_names.add(name)
            number = port.get("port", 0)
            errors += [invalid_value(f"{path}.port", number, text) for text in names.port_number(number)]
            errors += one_of(port.get("protocol"), _PROTOCOLS, f"{path}.protocol")
            target = port.get("targetPort")
            if isinstance(target, int):
                errors += [invalid_value(f"{path}.targetPort", target, text) for text in names.port_number(target)]
            elif isinstance(target, str):
                errors += [invalid_value(f"{path}.targetPort", target, text) for text in names.port_name(target)]
            key = (port.get("protocol"), number)
            if key in seen:
                errors.append(duplicate(path, port))
            seen.add(key)
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new))
        spec, before = new["spec"], old.get("spec") or {}
        if before.get("type") != "ExternalName" and spec.get("type") != "ExternalName" and before.get("clusterIP"):
            was = before.get("clusterIPs") or [before["clusterIP"]]
            now = spec.get("clusterIPs") or [spec.get("clusterIP")]
            if now[:1] != was[:1]:
                errors.append(invalid_value("spec.clusterIPs[0]", now, "may not change once set"))
        return errors

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        spec = obj.get("spec") or {}
        return {"spec.clusterIP": spec.get("clusterIP", ""), "spec.type": spec.get("type", "")}

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset({"spec.clusterIP", "spec.type"})


def _address(text: str, path: str) -> list[FieldError]:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return [invalid_value(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    return []


class Endpoints(Plain):
    """core/v1 Endpoints."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        for subset in obj.get("subsets") or ():
            for port in subset.get("ports") or ():
                port.setdefault("protocol", "TCP")

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors: list[FieldError] = []
        for index, subset in enumerate(obj.get("subsets") or ()):
            path = f"subsets[{index}]"
            if not subset.get("addresses") and not subset.get("notReadyAddresses"):
                errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
            for number, address in enumerate(subset.get("addresses") or ()):
                errors += _address(address.get("ip", ""), f"{path}.addresses[{number}].ip")
        return errors


class EndpointSlices(Generational):
    """discovery.k8s.io/v1 EndpointSlice."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        for port in obj.get("ports") or ():
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors = one_of(obj.get("addressType"), ("FQDN", "IPv4", "IPv6"), "addressType")
        for index, endpoint in enumerate(obj.get("endpoints") or ()):
            if not endpoint.get("addresses"):
                errors.append(required(f"endpoints[{index}].addresses", "must contain at least 1 address"))
            if obj.get("addressType") != "FQDN":
                for number, text in enumerate(endpoint.get("addresses") or ()):
                    errors += _address(text, f"endpoints[{index}].addresses[{number}]")
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        return [*self.validate(new), *immutable(new.get("addressType"), old.get("addressType"), "addressType")]


class Ingresses(Full):
    """networking.k8s.io/v1 Ingress."""

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj.get("spec") or {}
        errors: list[FieldError] = []
        if not spec.get("rules") and not spec.get("defaultBackend"):
            detail = "either `defaultBackend` or `rules` must be specified"
            errors.append(invalid_value("spec", spec, detail))
        if (backend := spec.get("defaultBackend")) is not None:
            errors += _backend(backend, "spec.defaultBackend")
        for index, rule in enumerate(spec.get("rules") or ()):
            host = rule.get("host") or ""
            where = f"spec.rules[{index}].host"
            if host:
                check = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
                errors += [invalid_value(where, host, text) for text in check(host)]
            paths = (rule.get("http") or {}).get("paths")
            if rule.get("http") is not None and not paths:
                errors.append(required(f"spec.rules[{index}].http.paths"))
            for number, path in enumerate(paths or ()):
                where = f"spec.rules[{index}].http.paths[{number}]"
                kind = path.get("pathType")
                if not kind:
                    errors.append(required(f"{where}.pathType", "pathType must be specified"))
                else:
                    errors += one_of(kind, ("Exact", "ImplementationSpecific", "Prefix"), f"{where}.pathType")
                text = path.get("path") or ""
                if kind in ("Exact", "Prefix") and not text.startswith("/"):
                    errors.append(invalid_value(f"{where}.path", text, "must be an absolute path"))
                errors += _backend(path.get("backend") or {}, f"{where}.backend")
        return errors


def _backend(backend: Mapping[str, Any], path: str) -> list[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        return [invalid_value(path, "", "cannot set both resource and service backends")]
    if service is None and resource is None:
        return [invalid_value(path, "", "resource or service backend is required")]
    if service is None:
        return []
    errors = [] if service.get("name") else [required(f"{path}.service.name")]
    port = service.get("port") or {}
    if port.get("name") and port.get("number"):
        errors.append(invalid_value(path, "", "cannot set both port name & port number"))
    elif not port.get("name") and not port.get("number"):
        errors.append(required(path, "port name or number is required"))
    return errors


class IngressClasses(Generational):
    """networking.k8s.io/v1 IngressClass."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        if parameters := (obj.get("spec") or {}).get("parameters"):
            parameters.setdefault("scope", "Cluster")

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        return [] if (obj.get("spec") or {}).get("controller") else [required("spec.controller")]

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        now, was = (new.get("spec") or {}).get("controller"), (old.get("spec") or {}).get("controller")
        return [*self.validate(new), *immutable(now, was, "spec.controller")]


class NetworkPolicies(Generational):
    """networking.k8s.io/v1 NetworkPolicy."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        for direction in ("ingress", "egress"):
            for rule in spec.get(direction) or ():
                for port in rule.get("ports") or ():
                    port.setdefault("protocol", "TCP")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        from windlass.kube.api.selectors import validate_label_selector

        spec = obj["spec"]
        errors = validate_label_selector(spec.get("podSelector") or {}, "spec.podSelector")
        for direction in ("ingress", "egress"):
            for index, rule in enumerate(spec.get(direction) or ()):
                for number, port in enumerate(rule.get("ports") or ()):
                    path = f"spec.{direction}[{index}].ports[{number}]"
                    errors += one_of(port.get("protocol"), _PROTOCOLS, f"{path}.protocol")
                    if isinstance(port.get("port"), int):
                        errors += [
                            invalid_value(f"{path}.port", port["port"], t) for t in names.port_number(port["port"])
                        ]
        for index, kind in enumerate(spec.get("policyTypes") or ()):
            errors += one_of(kind, ("Egress", "Ingress"), f"spec.policyTypes[{index}]")
        return errors
