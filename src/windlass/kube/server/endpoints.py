"""The endpoints of the Service `kubernetes`: every server of the cluster that is alive.

    one server (SQLite, memory)   writes its own address, once
    several over one etcd         each renews a Lease of its own every 10 s; whose Lease has not changed for 15 s, by
                                  our own clock, is not an endpoint any more

A server that stops takes its Lease and its address with it. Servers may listen on different ports: a subset, and a
slice, for each.

Source: https://kubernetes.io/docs/concepts/architecture/leases/#api-server-identity
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from windlass.kube.api import times
from windlass.kube.api.endpointslices import SERVICE_NAME
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient

log = logging.getLogger("windlass.kube.server")

_RENEW_SECONDS: Final = 10.0
_LEASE_SECONDS: Final = 15
_LEASES, _NAMESPACE = ("coordination.k8s.io", "leases"), "kube-system"
_IDENTITY: Final = "apiserver.kubernetes.io/identity"
_ADDRESS: Final = "windlass.dev/address"
_SLICES: Final = ("discovery.k8s.io", "endpointslices")
_SERVICE: Final = "kubernetes"
Server = tuple[str, int]


class ServerEndpoints:
    """`start`, then `stop`.

    Args:
        identity: ours among the servers.
        is_shared: other servers may have the same store.
    """

    def __init__(
        self,
        client: APIClient,
        identity: str,
        address: str,
        port: int,
        *,
        is_shared: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._identity = identity
        self._own: Server = (address, port)
        self._is_shared = is_shared
        self._clock = clock
        self._lease = f"apiserver-{hashlib.sha256(identity.encode()).hexdigest()[:26]}"
        self._seen: dict[str, tuple[str, float]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Be an endpoint. Raises StatusError."""
        await self._renew()
        if self._is_shared:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="endpoints of servers")

    async def stop(self) -> None:
        """Be one no longer, where there may be others."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._client.delete(*_LEASES, _NAMESPACE, self._lease)
            if others := await self._alive():
                await self._publish(others)
        except (StatusError, OSError) as error:
            log.warning("other servers will find out by themselves that this one is gone: %s", error)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self._renew()
            except Exception as error:
                log.warning("the server's lease cannot be renewed: %s", error)

    async def _renew(self) -> None:
        if not self._is_shared:
            await self._publish({self._own})
            return
        lease = self._document()

        def renew(live: Object) -> None:
            live["metadata"].setdefault("annotations", {}).update(lease["metadata"]["annotations"])
            live["spec"] = lease["spec"]

        try:
            await self._client.update(*_LEASES, _NAMESPACE, self._lease, renew)
        except StatusError as error:
            if error.code != 404:
                raise
            await self._client.create(*_LEASES, lease, _NAMESPACE)
        await self._publish(await self._alive() | {self._own})

    def _document(self) -> Object:
        address, port = self._own
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self._lease,
                "namespace": _NAMESPACE,
                "labels": {_IDENTITY: "kube-apiserver"},
                "annotations": {_ADDRESS: f"{port} {address}"},
            },
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": _LEASE_SECONDS,
                "renewTime": times.format_micro_time(time.time()),
            },
        }

    async def _alive(self) -> set[Server]:
        """The servers whose leases have changed lately. A server that has just begun believes all of them at first."""
        found, now = set(), self._clock()
        for lease in await self._client.list(*_LEASES, _NAMESPACE):
            metadata = lease["metadata"]
            if (metadata.get("labels") or {}).get(_IDENTITY) != "kube-apiserver":
                continue
            name, renewed = metadata["name"], str((lease.get("spec") or {}).get("renewTime"))
            if self._seen.get(name, ("", 0.0))[0] != renewed:
                self._seen[name] = (renewed, now)
            if now - self._seen[name][1] < _LEASE_SECONDS:
                port, _, address = (metadata.get("annotations") or {}).get(_ADDRESS, "").partition(" ")
                if address and port.isdigit():
                    found.add((address, int(port)))
            else:
                await self._client.delete(*_LEASES, _NAMESPACE, name, uid=metadata["uid"])
        return found

    async def _publish(self, servers: set[Server]) -> None:
        """Make the endpoints these servers."""
        by_port: dict[int, list[str]] = {}
        for address, port in sorted(servers):
            by_port.setdefault(port, []).append(address)
        await self._write_endpoints(by_port)
        wanted = {
            (_SERVICE if index == 0 else f"{_SERVICE}-{port}"): port for index, port in enumerate(sorted(by_port))
        }
        for name, port in wanted.items():
            await self._write_slice(name, port, by_port[port])
        for each in await self._client.list(*_SLICES, "default"):
            metadata = each["metadata"]
            if (metadata.get("labels") or {}).get(SERVICE_NAME) == _SERVICE and metadata["name"] not in wanted:
                await self._client.delete(*_SLICES, "default", metadata["name"])

    async def _write_endpoints(self, by_port: Mapping[int, list[str]]) -> None:
        subsets = [
            {"addresses": [{"ip": each} for each in addresses], "ports": [_port(port)]}
            for port, addresses in sorted(by_port.items())
        ]
        metadata = {
            "name": _SERVICE,
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        }
        endpoints: Object = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}
        await _set(self._client, "", "endpoints", endpoints, "subsets")

    async def _write_slice(self, name: str, port: int, addresses: list[str]) -> None:
        endpoint_slice: Object = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "default", "labels": {SERVICE_NAME: _SERVICE}},
            "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
            "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
            "ports": [_port(port)],
        }
        await _set(self._client, *_SLICES, endpoint_slice, "endpoints", "ports")


def _port(port: int) -> dict[str, Any]:
    return {"name": "https", "port": port, "protocol": "TCP"}


async def _set(client: APIClient, group: str, plural: str, wanted: Object, *fields: str) -> None:
    """Create an object, or set some fields of it."""
    values = {name: wanted[name] for name in fields}
    await client.ensure(group, plural, wanted)

    def change(live: Object) -> None:
        live.update(values)

    await client.update(group, plural, wanted["metadata"]["namespace"], wanted["metadata"]["name"], change)
