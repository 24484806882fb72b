"""What the pods of a node name: each such object is followed as long as a pod names it.

A kubelet may not list secrets or config maps, only read those that its pods need; so it follows each by itself.

Source: https://kubernetes.io/docs/reference/access-authn-authz/node/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set

from windlass.kube.api.resource import Object
from windlass.kube.remote.cache import RemoteCache

Names = Callable[[Object], Set[tuple[str, str]]]
"""The objects of its own namespace that a pod names: resource and name."""

_Reference = tuple[str, str, str]


class References:
    """Follows the references of all pods in a cache. `start`, then `stop`."""

    def __init__(self, cache: RemoteCache, names_of: Names) -> None:
        self._cache = cache
        self._names_of = names_of
        self._of_pods: dict[str, set[_Reference]] = {}
        self._followed: set[_Reference] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow from now on; the cache follows pods already."""
        self._cache.subscribe("", "pods", self._pod_changed)
        for pod in self._cache.list("", "pods"):
            self._pod_changed("ADDED", pod)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="references of pods")

    async def stop(self) -> None:
        """Follow no longer."""
        self._cache.unsubscribe("", "pods", self._pod_changed)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _pod_changed(self, event: str, pod: Object) -> None:
        metadata = pod["metadata"]
        if event == "DELETED":
            self._of_pods.pop(metadata["uid"], None)
        else:
            namespace = metadata["namespace"]
            self._of_pods[metadata["uid"]] = {
                (resource, namespace, name) for resource, name in self._names_of(pod) if name
            }
        self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = set().union(*self._of_pods.values())
            for reference in self._followed - wanted:
                await self._cache.unfollow("", *reference)
            # Begun, not waited for: an object that cannot be read now must not hold up the others.
            for reference in wanted - self._followed:
                self._cache.follow("", *reference)
            self._followed = wanted
