"""ResourceQuota: a namespace has no more than its quotas allow. What a request adds is noted before it is stored.

    what the object needs ─ quotas whose scopes it meets ─▶ used + needed <= hard? ─▶ status.used, by compare-and-set

The quota controller counts anew and corrects what failed requests left.

Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Answer, Plugin
from windlass.kube.api import quantity, status
from windlass.kube.api.quantity import ZERO, Quantity
from windlass.kube.api.quotas import meets_scopes, usage_of
from windlass.kube.api.reader import Object, Reader

_TRIES = 10


class Writer(Protocol):
    """Notes what is used."""

    async def set_used(self, quota: Object, used: Mapping[str, str]) -> bool:
        """Set a quota's status.used if the quota is as given; whether it was."""


class ResourceQuota(Plugin):
    """See the module."""

    name = "ResourceQuota"

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """What is counted, when it is made or grows."""
        if subresource and subresource != "resize":
            return False
        return operation == "CREATE" or (
            operation == "UPDATE" and resource in ("services", "persistentvolumeclaims", "pods")
        )

    def validate(self, request: AdmissionRequest) -> Answer:
        """Refuse what no quota has room for."""
        if not request.resource.namespaced or request.actor.dry_run:
            return None
        quotas = self._reader.list("", "resourcequotas", request.namespace)
        return self._charge(request) if quotas else None

    async def _charge(self, request: AdmissionRequest) -> None:
        resource = request.resource
        obj = request.target
        needed = usage_of(obj, resource.group, resource.plural)
        if request.operation == "UPDATE" and request.old is not None:
            before = usage_of(request.old, resource.group, resource.plural)
            needed = {name: amount.minus(before.get(name, ZERO)) for name, amount in needed.items()}
            needed = {name: amount for name, amount in needed.items() if amount.nano > 0}
        if not needed:
            return
        for quota in self._reader.list("", "resourcequotas", request.namespace):
            if meets_scopes(quota, obj, resource.plural):
                await self._charge_one(request, quota, needed)

    async def _charge_one(self, request: AdmissionRequest, quota: Object, needed: Mapping[str, Quantity]) -> None:
        name = quota["metadata"]["name"]
        for _ in range(_TRIES):
            fresh = self._reader.get("", "resourcequotas", request.namespace, name)
            if fresh is None:
                return
            found = fresh.get("status") or {}
            hard = found.get("hard") or (fresh.get("spec") or {}).get("hard") or {}
            used = dict(found.get("used") or {})
            concerned = [each for each in hard if each in needed]
            missing = [each for each in hard if each in _COMPUTE and each not in needed]
            if request.resource.plural == "pods" and missing:
                why = f"failed quota: {name}: must specify " + _missing(missing, request.target)
                if _missing(missing, request.target):
                    raise status.forbidden("pods", "", request.name, why)
            if not concerned:
                return
            exceeded = []
            for each in sorted(concerned):
                total = quantity.parse(used.get(each, "0")).plus(needed[each])
                if total.nano > quantity.parse(hard[each]).nano:
                    exceeded.append(each)
                used[each] = str(total)
            if exceeded:
                raise _exceeded(request, name, exceeded, needed, found.get("used") or {}, hard)
            if await self._writer.set_used(fresh, used):
                return
            await asyncio.sleep(0)  # the cache hears of what came first
        raise status.conflict("resourcequotas", "", name, status.STALE)


_COMPUTE = frozenset(
    {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "ephemeral-storage"}
)


def _missing(names: list[str], pod: Object) -> str:
    """Which amounts some containers do not state: a quota of them needs every one."""
    parts = []
    for name in sorted(names):
        kind, _, resource = name.rpartition(".")
        field = "limits" if kind == "limits" else "requests"
        lacking = [
            container.get("name", "")
            for container in (pod.get("spec") or {}).get("containers") or ()
            if resource not in ((container.get("resources") or {}).get(field) or {})
        ]
        if lacking:
            parts.append(f"{name} for: {','.join(lacking)}")
    return "; ".join(parts)


def _exceeded(
    request: AdmissionRequest,
    name: str,
    exceeded: list[str],
    needed: Mapping[str, Quantity],
    used: Mapping[str, str],
    hard: Mapping[str, str],
) -> status.StatusError:
    asked = ",".join(f"{each}={needed[each]}" for each in exceeded)
    taken = ",".join(f"{each}={used.get(each, '0')}" for each in exceeded)
    limited = ",".join(f"{each}={hard[each]}" for each in exceeded)
    why = f"exceeded quota: {name}, requested: {asked}, used: {taken}, limited: {limited}"
    return status.forbidden(request.resource.plural, request.resource.group, request.name, why)
