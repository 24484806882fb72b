"""How controllers make and delete pods: from a template, a few at first, and telling about each.

Source: https://kubernetes.io/docs/concepts/workloads/pods/#pod-templates
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from windlass.kube.api import objects
from windlass.kube.api.resource import Object
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient
from windlass.kube.controllers.events import NORMAL, WARNING, EventRecorder
from windlass.kube.controllers.ownership import owner_reference

T = TypeVar("T")
BURST: Final = 500
_NAMESPACE_TERMINATING: Final = "NamespaceTerminating"


def pod_of(template: Object, owner: Object) -> Object:
    """A pod as a template says, controlled by `owner`; its name is the server's to choose."""
    metadata = template.get("metadata") or {}
    kept = {name: metadata[name] for name in ("labels", "annotations", "finalizers") if metadata.get(name)}
    made: Object = objects.copy({"metadata": kept, "spec": template["spec"]})
    made |= {"apiVersion": "v1", "kind": "Pod"}
    made["metadata"] |= {
        "generateName": f"{owner['metadata']['name']}-",
        "namespace": owner["metadata"]["namespace"],
        "ownerReferences": [owner_reference(owner)],
    }
    return made


class PodControl:
    """Makes and deletes pods in the name of their owners, with events about it."""

    def __init__(self, client: APIClient, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder

    async def create(self, pod: Object, owner: Object) -> Object:
        """Make a pod. Raises StatusError, which is told as an event."""
        try:
            made = await self._client.create("", "pods", pod)
        except StatusError as error:
            if not is_namespace_ending(error):
                self._recorder.event(owner, WARNING, "FailedCreate", f"Error creating: {error.message}")
            raise
        self._recorder.event(owner, NORMAL, "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")
        return made

    async def delete(self, pod: Object, owner: Object) -> None:
        """Delete a pod; one that is gone is no error. Raises StatusError, which is told as an event."""
        metadata = pod["metadata"]
        try:
            await self._client.delete("", "pods", metadata["namespace"], metadata["name"], uid=metadata["uid"])
        except StatusError as error:
            if error.code == 409:
                return  # another pod of that name: this one is gone
            self._recorder.event(owner, WARNING, "FailedDelete", f"Error deleting: {error.message}")
            raise
        self._recorder.event(owner, NORMAL, "SuccessfulDelete", f"Deleted pod: {metadata['name']}")


def is_namespace_ending(error: StatusError) -> bool:
    """Whether nothing new may be made as the namespace is being deleted."""
    causes = (error.details or {}).get("causes") or ()
    return any(each.get("reason") == _NAMESPACE_TERMINATING for each in causes)


async def slow_start(count: int, make: Callable[[int], Awaitable[Any]]) -> None:
    """Do something `count` times: once, then twice as many at once each time that all went well.

    Raises:
        StatusError: the first failure; what had not been begun by then is left.
    """
    done, size = 0, 1
    while done < count:
        batch = range(done, min(done + size, count))
        await at_once([make(number) for number in batch])
        done += len(batch)
        size *= 2


async def at_once(work: Sequence[Awaitable[T]]) -> list[T]:
    """All of some work; the first failure is raised when all have ended."""
    results = await asyncio.gather(*work, return_exceptions=True)
    found: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
