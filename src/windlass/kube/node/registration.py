"""The node in the API: its object, its status, and the lease by which others see that it lives.

Source: https://kubernetes.io/docs/concepts/architecture/nodes/ and .../leases/
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from windlass.kube.api import times
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient
from windlass.kube.node import address
from windlass.kube.node.capacity import Machine
from windlass.kube.node.images import PodImages
from windlass.kube.node.settings import NodeSettings
from windlass.kube.node.storage import STORAGE_PATH

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")

LEASE_NAMESPACE: Final = "kube-node-lease"
_LEASE_SECONDS = 40
STORAGE: Final = "storage"
_RENEW_SECONDS = 10.0
_STATUS_SECONDS = 300.0
_MOST_IMAGES = 50


class Registration:
    """Registers the node and keeps it registered."""

    def __init__(self, client: APIClient, settings: NodeSettings, machine: Machine, images: PodImages) -> None:
        self._client = client
        self._settings = settings
        self._machine = machine
        self._images = images
        self._problem = "the node agent is starting"
        self._pressure: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Register. Raises StatusError."""
        await self._register()
        await self._write_status()
        await self._renew()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_lease()), loop.create_task(self._keep_status())]

    async def stop(self) -> None:
        """Renew no longer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set_ready(self, problem: str = "") -> None:
        """Pods can run here; or they cannot, with the reason."""
        if problem != self._problem:
            self._problem = problem
            self._changed.set()

    def write_again(self) -> None:
        """The API may not have the node as it is."""
        self._changed.set()

    def follow_address(self, moved: Callable[[str], None]) -> None:
        """Tell of another address of the machine's, unless the node's is fixed or was never one of the machine's."""
        settings = self._settings
        if not settings.has_fixed_address and address.is_local(settings.address):
            self._tasks.append(asyncio.get_running_loop().create_task(self._keep_address(moved)))

    async def _keep_address(self, moved: Callable[[str], None]) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            known = self._settings.address
            found = await asyncio.to_thread(address.current, known)
            if found != known:
                log.info("the node's address is %s, after %s", found, known)
                self._settings = dataclasses.replace(self._settings, address=found)
                moved(found)
                self._changed.set()

    def set_pressure(self, kinds: dict[str, str]) -> None:
        """Which of MemoryPressure, DiskPressure and PIDPressure there is, with a message."""
        if kinds != self._pressure:
            self._pressure = dict(kinds)
            self._changed.set()

    async def _register(self) -> None:
        settings = self._settings
        machine = self._machine.node_info()["architecture"]
        labels = {
            "beta.kubernetes.io/arch": machine,
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/arch": machine,
            "kubernetes.io/hostname": settings.hostname,
            "kubernetes.io/os": "linux",
            **settings.labels,
        }
        annotations = {STORAGE_PATH: str(settings.data_dir / STORAGE)}
        node: Object = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": settings.name, "labels": labels, "annotations": annotations},
            "spec": {"taints": list(settings.taints)} if settings.taints else {},
        }
        if await self._client.find("", "nodes", "", settings.name) is None:
            try:
                await self._client.create("", "nodes", node)
                return
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise

        def relabel(live: Object) -> None:
            live["metadata"].setdefault("labels", {}).update(labels)
            live["metadata"].setdefault("annotations", {}).update(annotations)

        await self._client.update("", "nodes", "", settings.name, relabel)

    # Status --------------------------------------------------------------------------------------------------------

    async def _keep_status(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STATUS_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._write_status()
            except Exception as error:
                log.warning("the node's status cannot be written: %s", error)
                await asyncio.sleep(1)
                self._changed.set()

    async def _write_status(self) -> None:
        settings, now = self._settings, time.time()
        images = [
            {"names": [*image.repo_digests, *image.repo_tags], "sizeBytes": image.size}
            for image in self._images.all()[:_MOST_IMAGES]
        ]

        def change(live: Object) -> None:
            status = live.setdefault("status", {})
            before = {each["type"]: each for each in status.get("conditions") or ()}
            status["conditions"] = self._conditions(before, now)
            status["addresses"] = [
                {"type": "InternalIP", "address": settings.address},
                {"type": "Hostname", "address": settings.hostname},
            ]
            status["capacity"] = {**(status.get("capacity") or {}), **self._machine.capacity(settings.max_pods)}
            status["allocatable"] = {
                **(status.get("allocatable") or {}),
                **self._machine.allocatable(settings.max_pods),
            }
            status["nodeInfo"] = self._machine.node_info()
            status["images"] = images
            if settings.kubelet_port:
                status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": settings.kubelet_port}}

        try:
            await self._client.update("", "nodes", "", settings.name, change, subresource="status")
        except StatusError as error:
            if error.code != 404:
                raise
            # Somebody has deleted the node while its agent lives.
            await self._register()
            await self._client.update("", "nodes", "", settings.name, change, subresource="status")

    def _conditions(self, before: dict[str, Object], now: float) -> list[Object]:
        wanted = []
        for kind, subject, well in (
            ("MemoryPressure", "Memory", "kubelet has sufficient memory available"),
            ("DiskPressure", "Disk", "kubelet has no disk pressure"),
            ("PIDPressure", "PID", "kubelet has sufficient PID available"),
        ):
            message = self._pressure.get(kind)
            if message is None:
                no = "KubeletHasNoDiskPressure" if subject == "Disk" else f"KubeletHasSufficient{subject}"
                wanted.append((kind, "False", no, well))
            else:
                yes = f"KubeletHas{'Insufficient' if subject != 'Disk' else ''}{subject}"
                wanted.append((kind, "True", yes if subject != "Disk" else "KubeletHasDiskPressure", message))
        if self._problem:
            wanted.append(("Ready", "False", "KubeletNotReady", self._problem))
        else:
            wanted.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
        found = []
        for kind, status, reason, message in wanted:
            old = before.pop(kind, {})
            changed = old.get("status") != status
            found.append(
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": times.format_time(now),
                    "lastTransitionTime": times.format_time(now) if changed else old.get("lastTransitionTime"),
                }
            )
        return [*before.values(), *found]

    # Lease ---------------------------------------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self._renew()
            except Exception as error:
                log.warning("the node's lease cannot be renewed: %s", error)

    async def _renew(self) -> None:
        name = self._settings.name
        now = times.format_micro_time(time.time())
        spec: Object = {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": now}

        def change(live: Object) -> None:
            live["spec"] = {**(live.get("spec") or {}), **spec}

        try:
            await self._client.update("coordination.k8s.io", "leases", LEASE_NAMESPACE, name, change)
        except StatusError as error:
            if error.code != 404:
                raise
            metadata: Object = {"name": name, "namespace": LEASE_NAMESPACE}
            node = await self._client.find("", "nodes", "", name)
            if node is not None:
                metadata["ownerReferences"] = [
                    {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
                ]
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._client.create("coordination.k8s.io", "leases", lease, LEASE_NAMESPACE)
