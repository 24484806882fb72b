"""A container's variables: literals, references to each other, config maps, secrets, the downward API, services. Pure.

Source: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/ and
https://kubernetes.io/docs/concepts/workloads/pods/downward-api/
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from windlass.kube.api import quantity
from windlass.kube.api.quantity import Quantity
from windlass.kube.node import resources

Object = dict[str, Any]
Find = Callable[[str, str], Object | None]
"""Finds an object of the pod's namespace: resource ("secrets", "configmaps"), name."""

_VALID_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_KEYED = re.compile(r"metadata\.(annotations|labels)\['(.+)'\]")


class BadEnvironment(ValueError):
    """Variables that cannot be made; the message is for the container's status."""


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace $(NAME) where NAME is known; $$ is a dollar sign."""
    found: list[str] = []
    place = 0
    while (dollar := text.find("$", place)) >= 0 and dollar + 1 < len(text):
        found.append(text[place:dollar])
        following = text[dollar + 1]
        end = text.find(")", dollar + 2) if following == "(" else -1
        if following == "$":
            found.append("$")
            place = dollar + 2
        elif end > 0:
            name = text[dollar + 2 : end]
            found.append(values.get(name, text[dollar : end + 1]))
            place = end + 1
        else:
            found.append("$")
            place = dollar + 1
    found.append(text[place:])
    return "".join(found)


def field(pod: Object, path: str) -> str:
    """A pod's field by the downward API's name. Raises BadEnvironment."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    if match := _KEYED.fullmatch(path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata.get(path.removeprefix("metadata."), ""))
        case "metadata.labels" | "metadata.annotations":
            mapping = metadata.get(path.removeprefix("metadata.")) or {}
            return "\n".join(f"{key}={_quoted(mapping[key])}" for key in sorted(mapping))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(spec.get(path.removeprefix("spec.")) or "")
        case "status.hostIP":
            return str(status.get("hostIP") or "")
        case "status.podIP":
            return str(status.get("podIP") or "")
        case "status.hostIPs" | "status.podIPs":
            return ",".join(each.get("ip", "") for each in status.get(path.removeprefix("status.")) or ())
    raise BadEnvironment(f"unsupported fieldPath: {path}")


def _quoted(text: str) -> str:
    inner = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{inner}"'


def resource_field(pod: Object, container: str, reference: Object, allocatable: Mapping[str, str]) -> str:
    """A container's request or limit by the downward API's name, divided and rounded up. Raises BadEnvironment.

    A limit that is not set is what the node has.
    """
    name = reference.get("containerName") or container
    spec = next((each for each in resources.containers(pod["spec"]) if each["name"] == name), None)
    if spec is None:
        raise BadEnvironment(f"container {name} not found")
    side, _, resource = str(reference.get("resource", "")).partition(".")
    if side not in ("limits", "requests") or not resource:
        raise BadEnvironment(f"unsupported container resource : {reference.get('resource')}")
    wanted = spec.get("resources")
    if resources.has(wanted, side, resource):
        found = resources.amount(wanted, side, resource)
    elif side == "limits" and resource in ("cpu", "memory", "ephemeral-storage"):
        found = quantity.parse(allocatable.get(resource, "0"))
    else:
        found = Quantity(0)
    divisor = quantity.parse(reference.get("divisor") or "1")
    if divisor.nano == 0:
        divisor = quantity.parse("1")
    return str(-(-found.nano // divisor.nano))


def make(
    pod: Object, container: Object, find: Find, allocatable: Mapping[str, str], services: Mapping[str, str]
) -> dict[str, str]:
    """All variables of a container, in order.

    Raises:
        BadEnvironment: something that is not optional is missing.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        found.update(_from_source(pod, source, find))
    own: dict[str, str] = {}
    for variable in container.get("env") or ():
        name = variable["name"]
        if variable.get("valueFrom"):
            value = _from_reference(pod, container, variable["valueFrom"], find, allocatable)
            if value is None:
                continue
        else:
            value = expand(str(variable.get("value") or ""), {**services, **found, **own})
        own.pop(name, None)
        own[name] = value
    merged = {**found, **own}
    for name, value in services.items():
        merged.setdefault(name, value)
    return merged


def _from_source(pod: Object, source: Object, find: Find) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for key, resource, kind in (("configMapRef", "configmaps", "configmap"), ("secretRef", "secrets", "secret")):
        reference = source.get(key)
        if not reference:
            continue
        obj = find(resource, reference.get("name", ""))
        if obj is None:
            if reference.get("optional"):
                return {}
            raise BadEnvironment(_missing(kind, reference.get("name", "")))
        data = _texts(obj, resource)
        return {f"{prefix}{name}": data[name] for name in sorted(data) if _VALID_NAME.fullmatch(f"{prefix}{name}")}
    return {}


def _missing(kind: str, name: str) -> str:
    return f'{kind} "{name}" not found'


def _texts(obj: Object, resource: str) -> dict[str, str]:
    data = obj.get("data") or {}
    if resource == "secrets":
        return {name: base64.b64decode(value or "").decode(errors="replace") for name, value in data.items()}
    return dict(data)


def _from_reference(
    pod: Object, container: Object, source: Object, find: Find, allocatable: Mapping[str, str]
) -> str | None:
    """A variable's value, None where it is optional and missing."""
    if reference := source.get("fieldRef"):
        return field(pod, reference.get("fieldPath", ""))
    if reference := source.get("resourceFieldRef"):
        return resource_field(pod, container["name"], reference, allocatable)
    for key, resource, kind in (("configMapKeyRef", "configmaps", "ConfigMap"), ("secretKeyRef", "secrets", "Secret")):
        reference = source.get(key)
        if not reference:
            continue
        name, wanted, optional = reference.get("name", ""), reference.get("key", ""), reference.get("optional")
        obj = find(resource, name)
        if obj is None:
            if optional:
                return None
            raise BadEnvironment(_missing(kind.lower(), name))
        data = _texts(obj, resource)
        if wanted in data:
            return data[wanted]
        if optional:
            return None
        raise BadEnvironment(f"couldn't find key {wanted} in {kind} {pod['metadata']['namespace']}/{name}")
    raise BadEnvironment("a variable has no source")


def of_services(services: Iterable[Object], namespace: str, *, links: bool) -> dict[str, str]:
    """The variables that tell of services: those of the pod's namespace if `links`, and always kubernetes."""
    found: dict[str, str] = {}
    chosen: dict[str, Object] = {}
    for service in services:
        metadata = service["metadata"]
        address = service["spec"].get("clusterIP")
        if not address or address == "None":
            continue
        own = links and metadata["namespace"] == namespace
        masters = metadata["namespace"] == "default" and metadata["name"] == "kubernetes"
        if own or (masters and metadata["name"] not in chosen):
            chosen[metadata["name"]] = service
    for name in sorted(chosen):
        found |= _of_service(name, chosen[name]["spec"])
    return found


def _of_service(name: str, spec: Object) -> dict[str, str]:
    prefix, address = name.upper().replace("-", "_"), spec["clusterIP"]
    host = f"[{address}]" if ":" in address else address
    ports = spec.get("ports") or []
    found = {f"{prefix}_SERVICE_HOST": address}
    if ports:
        found[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
    for port in ports:
        if port.get("name"):
            found[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol, number = (port.get("protocol") or "TCP"), port["port"]
        url = f"{protocol.lower()}://{host}:{number}"
        if index == 0:
            found[f"{prefix}_PORT"] = url
        base = f"{prefix}_PORT_{number}_{protocol}"
        found |= {base: url, f"{base}_PROTO": protocol.lower(), f"{base}_PORT": str(number), f"{base}_ADDR": address}
    return found
