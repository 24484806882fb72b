"""The pod and the container that a request names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from windlass.kube.node.pods import Pods
from windlass.kube.node.runtime import Found, PodRuntime
from windlass.kube.node.server.ask import refused

Object = dict[str, Any]

_SPECS = ("containers", "initContainers", "ephemeralContainers")
_STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


class PodFinder:
    """Finds in the pods of the node and in the engine."""

    def __init__(self, pods: Pods, runtime: PodRuntime) -> None:
        self.pods = pods
        self.runtime = runtime

    def all(self) -> Iterator[Object]:
        """Every pod of the node."""
        for worker in self.pods:
            yield worker.pod

    def pod(self, namespace: str, name: str, missing: str = "pod does not exist") -> Object:
        """A pod. Raises StatusError: 404."""
        worker = self.pods.find(namespace, name)
        if worker is None:
            raise refused(404, missing)
        return worker.pod

    def attempts(self, pod: Object, container: str) -> list[Found]:
        """The runs of a container, the latest last."""
        return [each for each in self.runtime.containers(pod["metadata"]["uid"]) if each.name == container]

    def running(self, pod: Object, container: str) -> Found:
        """The run of a container that goes on. Raises StatusError: 500."""
        found = self.attempts(pod, container)
        if not found or not found[-1].running:
            text = f'unable to upgrade connection: container not found ("{container}")'
            raise refused(500, f"Internal error occurred: {text}")
        return found[-1]


def spec_of(pod: Object, container: str) -> Object | None:
    """A container's spec."""
    for kind in _SPECS:
        for each in pod["spec"].get(kind) or ():
            if each["name"] == container:
                found: Object = each
                return found
    return None


def status_of(pod: Object, container: str) -> Object:
    """A container's status as the API has it, {} where it has none."""
    for kind in _STATUSES:
        for each in (pod.get("status") or {}).get(kind) or ():
            if each["name"] == container:
                found: Object = each
                return found
    return {}
