"""Hollow nodes on an API: registered, renewed, and with pods that live and end.

Source: https://kubernetes.io/docs/concepts/architecture/nodes/ (what a node agent does, without its containers)
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from windlass.kube.api import times
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient
from windlass.kube.hollow import life

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.hollow")

_AT_ONCE: Final = 64
_RENEW_SECONDS: Final = 20.0
_LEASE_SECONDS: Final = 40
_LEASES: Final = ("coordination.k8s.io", "leases")
_LEASE_NAMESPACE: Final = "kube-node-lease"
# Shared address space (RFC 6598): real nodes' pods are elsewhere.
_ADDRESSES: Final = ipaddress.IPv4Network("100.64.0.0/10")
_VERSION: Final = "v1.37.0"
LABEL: Final = "windlass.dev/hollow"


@dataclass(frozen=True)
class HollowSettings:
    """What the nodes are like.

    Attributes:
        count: how many, at most 16,384.
        prefix: of their names, which end in a number.
        capacity: what each has, in the API's quantities.
        zones: over how many zones they are spread; 0 for no zone label.
        start, run: seconds until a pod is ready, and that pods run which end.
    """

    count: int
    prefix: str = "hollow-"
    capacity: Mapping[str, str] = field(default_factory=lambda: {"cpu": "32", "memory": "256Gi", "pods": "110"})
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Object] = ()
    zones: int = 0
    start: float = 0.0
    run: float = 1.0


class HollowNodes:
    """Nodes on an API. `start`, then `stop`; `remove` deletes them again."""

    def __init__(self, client: APIClient, settings: HollowSettings) -> None:
        self._client = client
        self._settings = settings
        self._rooms = list(_ADDRESSES.subnets(new_prefix=24))[: settings.count]
        self._names = {f"{settings.prefix}{number}": number for number in range(settings.count)}
        self._taken: dict[int, set[int]] = {}
        self._addresses: dict[str, tuple[int, int]] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []
        self.registered = 0

    async def start(self) -> None:
        """Register the nodes. Raises StatusError."""
        await self._all(self._register, list(self._names))
        self._client.cache.subscribe("", "pods", self._changed)
        for pod in self._client.cache.list("", "pods"):
            self._changed("ADDED", pod)
        self._tasks = [asyncio.get_running_loop().create_task(self._renew_all(), name="leases")]

    async def stop(self) -> None:
        """Leave the nodes alone; others will see that nobody renews them."""
        self._client.cache.unsubscribe("", "pods", self._changed)
        tasks = [*self._tasks, *self._lives.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def remove(self) -> None:
        """Delete the nodes, and the leases with them. Raises StatusError."""
        await self._all(self._delete, list(self._names))

    async def _all(self, work: Any, items: Sequence[str]) -> None:
        """Some work for all items, several at once."""
        left = iter(items)

        async def one() -> None:
            for item in left:
                await work(item)

        await asyncio.gather(*(one() for _ in range(min(_AT_ONCE, len(items)))))

    # Nodes ---------------------------------------------------------------------------------------------------------

    async def _register(self, name: str) -> None:
        node = self._node(name)
        try:
            await self._client.create("", "nodes", node)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
            await self._client.set_status("", "nodes", "", name, node["status"])
        await self._renew(name)
        self.registered += 1

    async def _delete(self, name: str) -> None:
        await self._client.delete("", "nodes", "", name)
        await self._client.delete(*_LEASES, _LEASE_NAMESPACE, name)

    def _host(self, number: int) -> str:
        return str(self._rooms[number][1])

    def _node(self, name: str) -> Object:
        settings, number = self._settings, self._names[name]
        labels = {
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            LABEL: "true",
        }
        if settings.zones:
            labels["topology.kubernetes.io/zone"] = f"zone-{number % settings.zones}"
        now = times.format_time(time.time())
        conditions = [
            (kind, "False", f"KubeletHas{reason}", message)
            for kind, reason, message in (
                ("MemoryPressure", "SufficientMemory", "kubelet has sufficient memory available"),
                ("DiskPressure", "NoDiskPressure", "kubelet has no disk pressure"),
                ("PIDPressure", "SufficientPID", "kubelet has sufficient PID available"),
            )
        ]
        conditions.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels | dict(settings.labels)},
            "spec": {
                "podCIDR": str(self._rooms[number]),
                "podCIDRs": [str(self._rooms[number])],
                "taints": list(settings.taints),
            },
            "status": {
                "capacity": dict(settings.capacity),
                "allocatable": dict(settings.capacity),
                "addresses": [
                    {"type": "InternalIP", "address": self._host(number)},
                    {"type": "Hostname", "address": name},
                ],
                "nodeInfo": _node_info(),
                "conditions": [
                    {
                        "type": kind,
                        "status": status,
                        "reason": reason,
                        "message": message,
                        "lastHeartbeatTime": now,
                        "lastTransitionTime": now,
                    }
                    for kind, status, reason, message in conditions
                ],
            },
        }

    async def _renew_all(self) -> None:
        """Renew all leases, spread over the time there is."""
        names = list(self._names)
        pause = _RENEW_SECONDS / max(len(names), 1)
        for number in itertools.count():
            begun = time.monotonic()
            try:
                await self._renew(names[number % len(names)])
            except StatusError as error:
                log.warning("the lease of %s cannot be renewed: %s", names[number % len(names)], error)
            await asyncio.sleep(max(pause - (time.monotonic() - begun), 0))

    async def _renew(self, name: str) -> None:
        now = times.format_micro_time(time.time())
        spec: Object = {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": now}
        try:
            await self._client.patch(*_LEASES, _LEASE_NAMESPACE, name, {"spec": spec})
        except StatusError as error:
            if error.code != 404:
                raise
            metadata = {"name": name, "namespace": _LEASE_NAMESPACE}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._client.create(*_LEASES, lease, _LEASE_NAMESPACE)

    # Pods ----------------------------------------------------------------------------------------------------------

    def _changed(self, event: str, pod: Object) -> None:
        number = self._names.get(pod["spec"].get("nodeName") or "")
        if number is None:
            return
        uid = pod["metadata"]["uid"]
        if event == "DELETED":
            if (task := self._lives.pop(uid, None)) is not None:
                task.cancel()
            self._give_back(uid)
        elif pod["metadata"].get("deletionTimestamp"):
            if (task := self._lives.pop(uid, None)) is not None:
                task.cancel()
            self._spawn(uid, self._end(pod))
        elif uid not in self._lives and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            self._spawn(uid, self._live(pod, number))

    def _spawn(self, uid: str, work: Any) -> None:
        self._lives[uid] = asyncio.get_running_loop().create_task(work)

    async def _live(self, pod: Object, number: int) -> None:
        settings = self._settings
        chosen = life.life_of(pod, settings.start, settings.run)
        if (pod.get("status") or {}).get("phase") != "Running":
            if chosen.start:
                await asyncio.sleep(chosen.start * random.uniform(0.9, 1.1))  # noqa: S311 - no secret
            address = self._address(pod["metadata"]["uid"], number)
            await self._write(pod, lambda live: life.running(live, self._host(number), address))
        if chosen.run is not None:
            await asyncio.sleep(chosen.run)
            await self._write(pod, lambda live: life.ended(live, chosen.exit_code))

    async def _end(self, pod: Object) -> None:
        """A pod is to go: at once, as there is nothing to end."""
        metadata = pod["metadata"]
        async with self._limit:
            if (pod.get("status") or {}).get("phase") == "Running":
                await self._set(pod, lambda live: life.ended(live, 0))
            try:
                await self._client.delete(
                    "", "pods", metadata["namespace"], metadata["name"], uid=metadata["uid"], grace_period=0
                )
            except StatusError as error:
                log.warning("pod %s/%s cannot be deleted: %s", metadata["namespace"], metadata["name"], error)

    async def _write(self, pod: Object, make: Any) -> None:
        async with self._limit:
            await self._set(pod, make)

    async def _set(self, pod: Object, make: Any) -> None:
        metadata = pod["metadata"]

        def change(live: Object) -> None:
            if live["metadata"]["uid"] == metadata["uid"]:
                live["status"] = make(live)

        try:
            await self._client.update("", "pods", metadata["namespace"], metadata["name"], change, subresource="status")
        except StatusError as error:
            if error.code not in (404, 409):
                log.warning("pod %s/%s: %s", metadata["namespace"], metadata["name"], error)

    def _address(self, uid: str, number: int) -> str:
        taken = self._taken.setdefault(number, set())
        last = next(each for each in range(2, 255) if each not in taken)
        taken.add(last)
        self._addresses[uid] = (number, last)
        return str(self._rooms[number][last])

    def _give_back(self, uid: str) -> None:
        if (found := self._addresses.pop(uid, None)) is not None:
            self._taken[found[0]].discard(found[1])


def _node_info() -> Object:
    return {
        "architecture": "amd64",
        "bootID": "",
        "containerRuntimeVersion": "hollow://1",
        "kernelVersion": "",
        "kubeProxyVersion": _VERSION,
        "kubeletVersion": _VERSION,
        "machineID": "",
        "operatingSystem": "linux",
        "osImage": "hollow",
        "systemUUID": "",
    }
