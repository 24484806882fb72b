"""Where a service is: an endpoint that is ready, for calls that the API server makes itself.

The server's host need not be part of the cluster's network of services, so it goes to an endpoint at once.
"""

from __future__ import annotations

import random
from typing import Any

from windlass.kube.api.endpointslices import GROUP, PLURAL, service_of
from windlass.kube.api.reader import Reader


class ServiceResolver:
    """Resolves services by the cluster's objects."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def resolve(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        """A ready endpoint of a service's port.

        Raises:
            LookupError: there is none.
        """
        service = self._reader.get("", "services", namespace, name)
        if service is None:
            raise LookupError(f'service "{name}" not found')
        spec = service.get("spec") or {}
        wanted = next((each for each in spec.get("ports") or () if each.get("port") == port), None)
        if wanted is None:
            raise LookupError(f'no service port {port} found for service "{name}"')
        if spec.get("type") == "ExternalName":
            return spec.get("externalName", ""), port
        found: list[tuple[str, int]] = []
        for each in self._reader.list(GROUP, PLURAL, namespace):
            if service_of(each) == (namespace, name):
                found += _of_slice(each, wanted)
        if not found:
            endpoints = self._reader.get("", "endpoints", namespace, name)
            for subset in (endpoints or {}).get("subsets") or ():
                found += _of_subset(subset, wanted)
        if not found:
            raise LookupError(f'no endpoints available for service "{name}"')
        return random.choice(found)  # noqa: S311  # spreads load, keeps no secret


def _of_slice(found: dict[str, Any], wanted: dict[str, Any]) -> list[tuple[str, int]]:
    numbers = [
        each["port"]
        for each in found.get("ports") or ()
        if (each.get("name") or "") == (wanted.get("name") or "") and each.get("port")
    ]
    return [
        (address, number)
        for endpoint in found.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready", True)
        for address in endpoint.get("addresses") or ()
        for number in numbers
    ]


def _of_subset(subset: dict[str, Any], wanted: dict[str, Any]) -> list[tuple[str, int]]:
    numbers = [
        each["port"]
        for each in subset.get("ports") or ()
        if (each.get("name") or "") == (wanted.get("name") or "") and each.get("port")
    ]
    return [(each["ip"], number) for each in subset.get("addresses") or () for number in numbers]
