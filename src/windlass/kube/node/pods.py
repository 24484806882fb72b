"""Which pods this node has, and a worker for each of them.

From the API: all that name this node. What the engine still holds of pods that are gone is ended and removed, once the
API has been heard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

from windlass.kube.api.status import StatusError
from windlass.kube.node.plan import FAILED, SUCCEEDED
from windlass.kube.node.rooms import Rooms, shown_in_volumes
from windlass.kube.node.worker import PodWorker

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")


class Pods:
    """All pods of the node."""

    def __init__(self) -> None:
        self._workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rooms: Rooms | None = None

    def __iter__(self) -> Iterator[PodWorker]:
        return iter(list(self._workers.values()))

    def active(self) -> Iterator[Object]:
        """The pods that use what the node has."""
        for worker in self._workers.values():
            if (worker.pod.get("status") or {}).get("phase") not in (SUCCEEDED, FAILED):
                yield worker.allocated

    def get(self, uid: str) -> PodWorker | None:
        """A pod's worker."""
        return self._workers.get(uid)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """A pod's worker, by name."""
        for worker in self._workers.values():
            metadata = worker.pod["metadata"]
            if metadata["name"] == name and metadata["namespace"] == namespace:
                return worker
        return None

    async def start(self, rooms: Rooms) -> None:
        """Take over what is here, and follow the API."""
        self._rooms = rooms
        cache = rooms.client.cache
        self._spawn(self._follow_engine(rooms))
        cache.subscribe("", "pods", self._changed)
        for pod in cache.list("", "pods"):
            self._changed("ADDED", pod)
        for resource in ("configmaps", "secrets", "persistentvolumeclaims"):
            cache.subscribe("", resource, self._reference_changed(resource))
        await self._remove_strange(rooms)

    async def stop(self) -> None:
        """Let go; containers go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _changed(self, event: str, pod: Object) -> None:
        rooms = self._rooms
        assert rooms is not None
        if (pod.get("spec") or {}).get("nodeName") != rooms.settings.name:
            return
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if event == "DELETED":
            if worker is not None:
                worker.delete()
            return
        if worker is None:
            worker = self._workers[uid] = PodWorker(rooms, pod)
            worker.start()
            self._spawn(self._until_gone(worker))
        else:
            worker.update(pod)

    async def _until_gone(self, worker: PodWorker) -> None:
        await worker.finished.wait()
        self._workers.pop(worker.uid, None)
        for other in self:
            if other.waits_for_room:
                other.wake()

    def _reference_changed(self, resource: str) -> Any:
        def changed(event: str, obj: Object) -> None:
            del event
            rooms = self._rooms
            assert rooms is not None
            metadata = obj["metadata"]
            for worker in self._workers.values():
                own = worker.pod["metadata"]["namespace"] == metadata["namespace"]
                if own and (resource, metadata["name"]) in shown_in_volumes(worker.pod):
                    rooms.changed.add(worker.uid)
                    worker.wake()

        return changed

    async def _follow_engine(self, rooms: Rooms) -> None:
        """Wake the worker of a pod whose container has begun or ended."""
        async for uid in rooms.runtime.ends():
            worker = self._workers.get(uid)
            if worker is not None:
                worker.wake()

    async def _remove_strange(self, rooms: Rooms) -> None:
        """End what is left of pods that the API does not know any more."""
        here = rooms.runtime.pods() | await asyncio.to_thread(rooms.volumes.known)
        here |= await asyncio.to_thread(rooms.cgroups.known)
        for uid in here - self._workers.keys():
            log.info("removing what is left of pod %s", uid)
            try:
                for container in rooms.runtime.containers(uid):
                    await rooms.runtime.remove(container.id)
                await rooms.process_roots.remove(uid)
                sandbox = rooms.runtime.sandbox(uid)
                if sandbox is not None:
                    await rooms.runtime.remove_sandbox(sandbox)
                await rooms.cgroups.remove(uid)
                await rooms.volumes.remove(uid)
            except (OSError, StatusError) as error:
                log.warning("cannot remove pod %s: %s", uid, error)
