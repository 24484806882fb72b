"""The agent put together: from an engine, a client of the API and settings to a node that runs pods."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Coroutine
from typing import Any

from windlass.engine import Engine
from windlass.errors import WindlassError
from windlass.kube.client import APIClient
from windlass.kube.node import capacity
from windlass.kube.node.events import Recorder
from windlass.kube.node.imagegc import ImageCollector
from windlass.kube.node.images import PodImages
from windlass.kube.node.manifests import ManifestDirectory
from windlass.kube.node.measures import Measures
from windlass.kube.node.mirrors import Mirrors
from windlass.kube.node.podcgroups import PodCgroups
from windlass.kube.node.podnetwork import PodNetwork
from windlass.kube.node.pods import Pods
from windlass.kube.node.pressure import Pressure
from windlass.kube.node.processroot import ProcessRoots
from windlass.kube.node.registration import Registration
from windlass.kube.node.rooms import Rooms
from windlass.kube.node.runtime import PodRuntime
from windlass.kube.node.server import pages
from windlass.kube.node.server.kubelet import Kubelet
from windlass.kube.node.settings import NodeSettings
from windlass.kube.node.volumes import Volumes
from windlass.kube.node.volumes.volume import Token

Object = dict[str, Any]

_RETRY_SECONDS, _REGISTER_SECONDS = 5.0, 1.0
log = logging.getLogger("windlass.kube.node")


class NodeAgent:
    """One node. `start`, then `stop`; pods go on."""

    def __init__(self, engine: Engine, client: APIClient, settings: NodeSettings, *, recorder: Recorder) -> None:
        self._engine = engine
        self._client = client
        self._settings = settings
        self._recorder = recorder
        self.pods = Pods()
        self.runtime = PodRuntime(engine)
        self.kubelet: Kubelet | None = None
        self._undo = contextlib.AsyncExitStack()
        self.pod_cidr = ""

    async def start(self) -> None:
        """Register the node, wait for its pods' addresses, take over what runs, and run pods from then on.

        Raises StatusError, WindlassError, OSError; nothing is left then but what ran before.
        """
        try:
            await self._start()
        except BaseException:
            await self._undo.aclose()
            raise

    async def stop(self) -> None:
        """Let go of everything."""
        await self._undo.aclose()

    async def _start(self) -> None:
        settings = self._settings
        root = settings.data_dir / "pods"
        await asyncio.to_thread(lambda: root.mkdir(mode=0o750, parents=True, exist_ok=True))
        machine = await asyncio.to_thread(capacity.look, settings.data_dir, settings.eviction)
        images = PodImages(self._engine, self._recorder)
        registration = Registration(self._client, settings, machine, images)
        self._undo.push_async_callback(registration.stop)
        await registration.start()
        self.pod_cidr = await self._wait_for_addresses()
        networks = self._engine.parts.core.networks
        network = PodNetwork(
            networks,
            mtu=settings.mtu,
            cluster_cidr=settings.cluster_cidr,
            service_cidr=settings.service_cidr,
        )
        cgroups = PodCgroups(settings.cgroup_parent, self._engine.parts.core.hierarchy)
        self._undo.push_async_callback(asyncio.to_thread, cgroups.discard)
        rooms = Rooms(
            settings=settings,
            client=self._client,
            runtime=self.runtime,
            images=images,
            volumes=Volumes(
                root,
                find=lambda namespace: rooms.find(namespace),
                find_any=self._find_any,
                token=self._token,
                allocatable=lambda: rooms.allocatable(),
            ),
            cgroups=cgroups,
            mirrors=Mirrors(self._client, settings.name),
            process_roots=ProcessRoots(self.runtime, settings.data_dir, machine.lowest_oom_score),
            recorder=self._recorder,
            machine=machine,
            network=await network.ensure(self.pod_cidr),
            active=self.pods.active,
            node=lambda: self._client.cache.get("", "nodes", "", settings.name),
        )
        if settings.static_manifests is not None:
            await asyncio.to_thread(settings.static_manifests.mkdir, 0o700, parents=True, exist_ok=True)
            manifests = ManifestDirectory(settings.static_manifests, settings.name, self.pods.set_static)
            await manifests.look()
            self._keep(manifests.follow(), "manifests")
        self._undo.push_async_callback(self.pods.stop)
        await self.pods.start(rooms)
        self.kubelet, usage = pages.kubelet(self.pods, rooms)
        self._keep(usage.keep(), "usage")
        pressure = self._pressure(rooms, registration, images)
        self._keep(pressure.monitor(), "pressure")
        self._keep(pressure.collect(), "image collection")
        registration.set_ready()
        self._keep(self._follow_node(rooms, registration, network), "node")
        registration.follow_address(lambda address: _move(rooms, address))
        node = self._client.cache.get("", "nodes", "", settings.name)
        if node is not None:
            self._recorder.event(node, "Normal", "Starting", "Starting kubelet.")

    def _pressure(self, rooms: Rooms, registration: Registration, images: PodImages) -> Pressure:
        settings, core = self._settings, self._engine.parts.core
        measures = Measures(
            str(settings.data_dir), str(core.settings.data_root), self.runtime, rooms.cgroups, rooms.volumes
        )
        collector = ImageCollector(
            images,
            high=settings.image_gc_high,
            low=settings.image_gc_low,
            named=self.pods.images_of_volumes,
            clock=time.monotonic,
        )
        return Pressure(rooms, self.pods, registration, measures, collector)

    def _keep(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do something for as long as the agent runs."""
        task = asyncio.get_running_loop().create_task(work, name=name)

        async def cancel() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._undo.push_async_callback(cancel)

    async def _find_any(self, resource: str, name: str) -> Object | None:
        group = "certificates.k8s.io" if resource == "clustertrustbundles" else ""
        return await self._client.find(group, resource, "", name) if name else None

    def _token(self, namespace: str) -> Token:
        async def issue(name: str, spec: Object) -> Object:
            body: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
            answer = await self._client.create_subresource("", "serviceaccounts", namespace, name, "token", body)
            status: Object = answer["status"]
            return status

        return issue

    async def _follow_node(self, rooms: Rooms, registration: Registration, network: PodNetwork) -> None:
        """Be registered again where somebody has deleted the node, and take its pods' new addresses; for ever."""
        cache, name = self._client.cache, self._settings.name
        touched = asyncio.Event()

        def changed(event: str, node: Object) -> None:
            del event
            if node["metadata"]["name"] == name:
                touched.set()

        cache.subscribe("", "nodes", changed)
        uid = ((cache.get("", "nodes", "", name) or {}).get("metadata") or {}).get("uid", "")
        try:
            while True:
                await touched.wait()
                touched.clear()
                node = cache.get("", "nodes", "", name)
                if node is None:
                    # It may be about to be made by whoever has deleted it.
                    await asyncio.sleep(_REGISTER_SECONDS)
                    if not touched.is_set():
                        registration.write_again()
                    continue
                if node["metadata"]["uid"] != uid:
                    uid = node["metadata"]["uid"]
                    registration.write_again()
                cidr = str((node.get("spec") or {}).get("podCIDR") or "")
                if not cidr or cidr == self.pod_cidr:
                    continue
                try:
                    rooms.network = await network.ensure(cidr)
                except WindlassError as error:
                    log.error("there is no network for pods with addresses of %s: %s", cidr, error)
                    await asyncio.sleep(_RETRY_SECONDS)
                    touched.set()
                else:
                    log.info("pods get addresses of %s from now on, after %s", cidr, self.pod_cidr)
                    self.pod_cidr = cidr
        finally:
            cache.unsubscribe("", "nodes", changed)

    async def _wait_for_addresses(self) -> str:
        """The addresses of this node's pods, which a controller gives to the node."""
        found = asyncio.Event()
        name = self._settings.name

        def cidr() -> str:
            node = self._client.cache.get("", "nodes", "", name)
            return str(((node or {}).get("spec") or {}).get("podCIDR") or "")

        def changed(event: str, node: Object) -> None:
            del event
            if node["metadata"]["name"] == name and cidr():
                found.set()

        self._client.cache.subscribe("", "nodes", changed)
        if not cidr():
            await found.wait()
        return cidr()


def _move(rooms: Rooms, address: str) -> None:
    """The node has another address from now on."""
    rooms.settings = dataclasses.replace(rooms.settings, address=address)
