"""Which pods this node has, and a worker for each of them.

From the API: all that name this node. From the node's own files: static pods, which the API shows by mirrors. What the
engine still holds of pods that are gone is ended and removed, once both have been heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from windlass.kube.api.status import StatusError
from windlass.kube.node import mirrors
from windlass.kube.node.plan import FAILED, SUCCEEDED
from windlass.kube.node.rooms import Rooms, shown_in_volumes
from windlass.kube.node.worker import PodWorker

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")

_LOOK_SECONDS = 20.0


class Pods:
    """All pods of the node."""

    def __init__(self) -> None:
        self._workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rooms: Rooms | None = None
        self._static: dict[str, Object] = {}
        self._static_changed = asyncio.Event()

    def __iter__(self) -> Iterator[PodWorker]:
        return iter(list(self._workers.values()))

    def active(self) -> Iterator[Object]:
        """The pods that use what the node has."""
        for worker in self._workers.values():
            if (worker.pod.get("status") or {}).get("phase") not in (SUCCEEDED, FAILED):
                yield worker.allocated

    def images_of_volumes(self) -> Iterator[str]:
        """The images that pods show as volumes."""
        for pod in self.active():
            for volume in pod["spec"].get("volumes") or ():
                if reference := (volume.get("image") or {}).get("reference"):
                    yield reference

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
        self._run_static(rooms)
        self._spawn(self._keep_static(rooms))
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
        if mirrors.is_mirror(pod):
            worker = self._workers.get(mirrors.annotation(pod, mirrors.MIRROR))
            if worker is not None and event == "ADDED":
                worker.show_again()
            if event != "MODIFIED" or "deletionTimestamp" in pod["metadata"]:
                self._static_changed.set()
            return
        worker = self._workers.get(uid)
        if event == "DELETED":
            if worker is not None:
                worker.delete()
            return
        if worker is None:
            self._begin(PodWorker(rooms, pod))
        else:
            worker.update(pod)

    def _begin(self, worker: PodWorker) -> None:
        self._workers[worker.uid] = worker
        worker.start()
        self._spawn(self._until_gone(worker))

    # The node's own ------------------------------------------------------------------------------------------------

    def set_static(self, pods: Sequence[Object]) -> None:
        """These are the pods of the node's own files."""
        self._static = {pod["metadata"]["uid"]: pod for pod in pods}
        self._static_changed.set()

    async def _keep_static(self, rooms: Rooms) -> None:
        while True:
            self._static_changed.clear()
            self._run_static(rooms)
            await self._show_static(rooms)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._static_changed.wait()

    def _run_static(self, rooms: Rooms) -> None:
        for worker in self:
            if worker.is_static and worker.uid not in self._static:
                worker.delete()
        for uid, pod in self._static.items():
            # The one before, of another content, has to be gone first.
            if uid not in self._workers and self.find(*mirrors.key(pod)) is None:
                mirror = rooms.mirrors.find(pod)
                known = pod if mirror is None else {**pod, "status": mirror.get("status") or {}}
                self._begin(PodWorker(rooms, known, is_static=True))

    async def _show_static(self, rooms: Rooms) -> None:
        """Have a mirror of each, and none of what is gone."""
        wanted = {mirrors.key(pod) for pod in self._static.values()}
        for pod in rooms.client.cache.list("", "pods"):
            mine = mirrors.is_mirror(pod) and (pod.get("spec") or {}).get("nodeName") == rooms.settings.name
            if mine and mirrors.key(pod) not in wanted and self.find(*mirrors.key(pod)) is None:
                try:
                    await rooms.mirrors.remove(pod)
                except StatusError as error:
                    log.warning("the mirror of %s/%s cannot be removed: %s", *mirrors.key(pod), error)
        for pod in list(self._static.values()):
            try:
                await rooms.mirrors.ensure(pod)
            except StatusError as error:
                log.warning("%s/%s cannot be shown in the API: %s", *mirrors.key(pod), error)

    # What happens --------------------------------------------------------------------------------------------------

    async def _until_gone(self, worker: PodWorker) -> None:
        await worker.finished.wait()
        self._workers.pop(worker.uid, None)
        if worker.is_static:
            self._static_changed.set()
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
