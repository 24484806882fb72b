"""LimitRanger: a namespace's LimitRanges give containers default amounts, and refuse what is out of bounds.

Source: https://kubernetes.io/docs/concepts/policy/limit-range/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Plugin
from windlass.kube.api import quantity, status
from windlass.kube.api.quantity import ZERO, Quantity
from windlass.kube.api.reader import Object, Reader

_ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger(Plugin):
    """See the module."""

    name = "LimitRanger"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Pods and claims that are made."""
        if subresource or group:
            return False
        return (resource == "pods" and operation == "CREATE") or (
            resource == "persistentvolumeclaims" and operation in ("CREATE", "UPDATE")
        )

    def _limits(self, request: AdmissionRequest) -> Iterable[Mapping[str, Any]]:
        for found in self._reader.list("", "limitranges", request.namespace):
            yield from (found.get("spec") or {}).get("limits") or ()

    def mutate(self, request: AdmissionRequest) -> None:
        """Fill in the defaults."""
        if request.resource.plural != "pods":
            return
        pod = request.target
        notes: list[str] = []
        for item in self._limits(request):
            if item.get("type") != "Container":
                continue
            for kind in ("containers", "initContainers"):
                for container in pod["spec"].get(kind) or ():
                    word = "container" if kind == "containers" else "init container"
                    for field, source in (("limits", "default"), ("requests", "defaultRequest")):
                        names = _merge(container, field, item.get(source) or {})
                        if names:
                            notes.append(f"{', '.join(names)} {field[:-1]} for {word} {container.get('name', '')}")
        if notes:
            annotations = pod["metadata"].setdefault("annotations", {})
            annotations[_ANNOTATION] = "LimitRanger plugin set: " + "; ".join(notes)

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse what is out of bounds."""
        obj = request.target
        errors: list[str] = []
        for item in self._limits(request):
            kind = item.get("type")
            if request.resource.plural == "persistentvolumeclaims":
                if kind == "PersistentVolumeClaim":
                    requests = ((obj.get("spec") or {}).get("resources") or {}).get("requests") or {}
                    _check(item, "PersistentVolumeClaim", requests, {}, errors)
            elif kind == "Container":
                for field in ("containers", "initContainers"):
                    for container in obj["spec"].get(field) or ():
                        resources = container.get("resources") or {}
                        _check(item, kind, resources.get("requests") or {}, resources.get("limits") or {}, errors)
            elif kind == "Pod":
                _check(item, kind, _sum(obj, "requests"), _sum(obj, "limits"), errors)
        if errors:
            text = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
            raise status.forbidden(request.resource.plural, "", request.name, text)


def _merge(container: dict[str, Any], field: str, defaults: Mapping[str, str]) -> list[str]:
    if not defaults:
        return []
    resources = container.setdefault("resources", {})
    found = resources.setdefault(field, {})
    added = [name for name in sorted(defaults) if name not in found]
    for name in added:
        found[name] = defaults[name]
    return added


def _check(
    item: Mapping[str, Any],
    kind: str,
    requests: Mapping[str, str],
    limits: Mapping[str, str],
    errors: list[str],
) -> None:
    for name, bound in (item.get("min") or {}).items():
        request, limit = requests.get(name), limits.get(name)
        if request is None:
            errors.append(f"minimum {name} usage per {kind} is {bound}.  No request is specified")
        elif _of(request) < _of(bound):
            errors.append(f"minimum {name} usage per {kind} is {bound}, but request is {request}")
        elif limit is not None and _of(limit) < _of(bound):
            errors.append(f"minimum {name} usage per {kind} is {bound}, but limit is {limit}")
    for name, bound in (item.get("max") or {}).items():
        request, limit = requests.get(name), limits.get(name)
        if kind == "PersistentVolumeClaim":
            if request is not None and _of(request) > _of(bound):
                errors.append(f"maximum {name} usage per {kind} is {bound}, but request is {request}")
        elif limit is None:
            errors.append(f"maximum {name} usage per {kind} is {bound}.  No limit is specified")
        elif _of(limit) > _of(bound):
            errors.append(f"maximum {name} usage per {kind} is {bound}, but limit is {limit}")
        elif request is not None and _of(request) > _of(bound):
            errors.append(f"maximum {name} usage per {kind} is {bound}, but request is {request}")
    for name, bound in (item.get("maxLimitRequestRatio") or {}).items():
        request, limit = requests.get(name), limits.get(name)
        if request is None or not _of(request):
            errors.append(
                f"{name} max limit to request ratio per {kind} is {bound}, but no request is specified or request is 0"
            )
        elif limit is None or not _of(limit):
            errors.append(
                f"{name} max limit to request ratio per {kind} is {bound}, but no limit is specified or limit is 0"
            )
        elif _of(limit) / _of(request) > _of(bound) / 10**9:
            ratio = _of(limit) / _of(request)
            errors.append(f"{name} max limit to request ratio per {kind} is {bound}, but provided ratio is {ratio:.6f}")


def _of(text: str) -> int:
    return quantity.parse(text).nano


def _sum(pod: Object, field: str) -> dict[str, str]:
    """A pod's amounts: all containers together, or an init container that needs more."""
    spec = pod["spec"]
    total: dict[str, Quantity] = {}
    for container in spec.get("containers") or ():
        for name, text in ((container.get("resources") or {}).get(field) or {}).items():
            total[name] = total.get(name, ZERO).plus(quantity.parse(text))
    for container in spec.get("initContainers") or ():
        for name, text in ((container.get("resources") or {}).get(field) or {}).items():
            found = quantity.parse(text)
            if found.nano > total.get(name, ZERO).nano:
                total[name] = found
    return {name: str(amount) for name, amount in total.items()}
