"""A control plane in the test's own process: the store in memory, the real operations, and the controllers it names.

No HTTP and no node: a test sets pods' statuses as a kubelet would, and moves the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from windlass.kube.admission.chain import Chain, Plugin
from windlass.kube.admission.plugins.storage import StorageObjectInUseProtection
from windlass.kube.api import times
from windlass.kube.api.allocation import ServiceHook, networks_of
from windlass.kube.api.cache import Cache
from windlass.kube.api.operations.environment import Environment
from windlass.kube.api.registry import Registry
from windlass.kube.api.resources import builtin
from windlass.kube.api.subresources import pods as pod_subresources
from windlass.kube.client import Client
from windlass.kube.controllers.runner import Controller
from windlass.kube.schema.catalogue import Catalogue
from windlass.store import open_store

Object = dict[str, Any]
_CATALOGUE = Catalogue()


class ControlPlane:
    """Objects and controllers. `now` is the clock of those that take one."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))
        self.client: Client
        self._controllers: list[Controller] = []

    async def start(self, *, service_cidr: str = "10.43.0.0/16") -> None:
        self.store = await open_store("memory:")
        registry = Registry()
        for resource in builtin(_CATALOGUE):
            registry.add(resource)
        self.cache = Cache(self.store, registry)
        plugins: list[Plugin] = [StorageObjectInUseProtection()]
        admission = Chain(())
        admission.set_plugins(plugins)
        env = Environment(self.store, registry, admission, now=self.clock)
        env.hooks[b"/registry/services/"] = ServiceHook(self.cache, networks_of(service_cidr))
        env.creators[("pods", "binding")] = pod_subresources.bind_pod
        env.creators[("pods", "eviction")] = pod_subresources.evict_pod
        self.client = Client(env, self.cache)

    def clock(self) -> float:
        return self.now

    def run(self, *controllers: Controller) -> None:
        for each in controllers:
            each.start()
            self._controllers.append(each)

    async def stop(self) -> None:
        for each in self._controllers:
            await each.stop()
        self.cache.close()
        await self.store.close()

    async def settle(self) -> None:
        """Wait until no controller has anything to do (but for what it waits for)."""
        quiet = 0
        async with asyncio.timeout(10):
            while quiet < 20:
                await asyncio.sleep(0.001)
                quiet = quiet + 1 if all(each.queue.is_idle for each in self._controllers) else 0

    async def advance(self, seconds: float) -> None:
        """Let time pass: what was to be looked at again is looked at now."""
        self.now += seconds
        for each in self._controllers:
            for key in list(each.queue._delayed):
                each.queue._delayed.pop(key).cancel()
                each.queue.add(key)
        await self.settle()

    # -- objects

    async def create(self, group: str, plural: str, obj: Object, namespace: str = "default") -> Object:
        resource = self.client.resource(group, plural)
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        return await self.client.create(group, plural, obj, namespace if resource.namespaced else "")

    def list(self, group: str, plural: str, namespace: str = "") -> list[Object]:
        return sorted(self.cache.list(group, plural, namespace), key=lambda each: str(each["metadata"]["name"]))

    def get(self, group: str, plural: str, name: str, namespace: str = "default") -> Object | None:
        resource = self.client.resource(group, plural)
        return self.cache.get(group, plural, namespace if resource.namespaced else "", name)

    async def make_node(self, name: str, **labels: str) -> Object:
        labels = {"kubernetes.io/hostname": name} | {key.replace("__", "/"): value for key, value in labels.items()}
        return await self.create("", "nodes", {"metadata": {"name": name, "labels": labels}})

    async def make_pod(self, name: str, *, node: str = "", **fields: Any) -> Object:
        spec: Object = {"containers": [{"name": "c", "image": "x"}], **fields.pop("spec", {})}
        if node:
            spec["nodeName"] = node
        return await self.create("", "pods", {"metadata": {"name": name, **fields}, "spec": spec})

    async def set_pod(
        self,
        name: str,
        phase: str = "Running",
        *,
        ready: bool | None = None,
        ips: Iterable[str] = (),
        namespace: str = "default",
        **more: Any,
    ) -> None:
        """What a kubelet says of a pod."""
        ready = phase == "Running" if ready is None else ready
        addresses = list(ips)

        def change(pod: Object) -> None:
            status = pod.setdefault("status", {})
            status["phase"] = phase
            if addresses:
                status["podIP"], status["podIPs"] = addresses[0], [{"ip": each} for each in addresses]
            others = [each for each in status.get("conditions") or () if each["type"] not in ("Ready", "PodScheduled")]
            now = times.format_time(self.now)
            status["conditions"] = [
                *others,
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
                {"type": "Ready", "status": str(ready), "lastTransitionTime": now},
            ]
            status.update(more)

        await self.client.update("", "pods", namespace, name, change, subresource="status")

    async def change(
        self, group: str, plural: str, name: str, edit: Callable[[Object], None], *, namespace: str = "default"
    ) -> Object:
        resource = self.client.resource(group, plural)
        return await self.client.update(group, plural, namespace if resource.namespaced else "", name, edit)


async def control_plane() -> ControlPlane:
    """One that has started."""
    made = ControlPlane()
    await made.start()
    return made
