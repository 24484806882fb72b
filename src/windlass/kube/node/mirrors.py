"""Mirror pods: how the API shows pods that come from the node's own files.

    static pod   UID from its content, annotation config.source: file        runs
    mirror pod   same name, annotation config.mirror: the UID of the other   is seen, and carries the status

Source: https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
"""

from __future__ import annotations

from typing import Any, Final

from windlass.kube.api import objects
from windlass.kube.client import APIClient

Object = dict[str, Any]

HASH: Final = "kubernetes.io/config.hash"
MIRROR: Final = "kubernetes.io/config.mirror"
SOURCE: Final = "kubernetes.io/config.source"
SEEN: Final = "kubernetes.io/config.seen"


def annotation(pod: Object, name: str) -> str:
    """An annotation's value, "" where it is not there."""
    return str((pod["metadata"].get("annotations") or {}).get(name, ""))


def is_static(pod: Object) -> bool:
    """Whether a pod comes from elsewhere than the API."""
    return annotation(pod, SOURCE) not in ("", "api") and not is_mirror(pod)


def is_mirror(pod: Object) -> bool:
    """Whether a pod of the API only shows one of a node."""
    return annotation(pod, MIRROR) != ""


def shows(mirror: Object, static: Object) -> bool:
    """Whether a mirror shows this pod, and not another one of its name."""
    return annotation(mirror, MIRROR) == annotation(static, HASH)


def key(pod: Object) -> tuple[str, str]:
    """Namespace and name."""
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


class Mirrors:
    """The mirror pods of a node."""

    def __init__(self, client: APIClient, node: str) -> None:
        self._client = client
        self._node = node

    def find(self, static: Object) -> Object | None:
        """The mirror of a pod, as the cache has it."""
        found = self._client.cache.get("", "pods", *key(static))
        return found if found is not None and is_mirror(found) and shows(found, static) else None

    async def ensure(self, static: Object) -> None:
        """Have the mirror of a pod, and no other pod in its place. Raises StatusError."""
        namespace, name = key(static)
        live = await self._client.find("", "pods", namespace, name)
        if live is not None:
            if is_mirror(live) and shows(live, static) and "deletionTimestamp" not in live["metadata"]:
                return
            if not is_mirror(live):
                # A pod of a user's has the name: it is not ours to remove.
                return
            await self.remove(live)
        node = await self._client.find("", "nodes", "", self._node)
        if node is None:
            return
        wanted = objects.copy({key: value for key, value in static.items() if key != "status"})
        metadata = wanted["metadata"]
        del metadata["uid"]
        metadata["annotations"][MIRROR] = annotation(static, HASH)
        metadata["ownerReferences"] = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "name": self._node,
                "uid": node["metadata"]["uid"],
                "controller": True,
            }
        ]
        await self._client.create("", "pods", wanted, namespace)

    async def remove(self, mirror: Object) -> None:
        """Take a mirror away at once. Raises StatusError."""
        await self._client.delete("", "pods", *key(mirror), uid=mirror["metadata"]["uid"], grace_period=0)
