"""What all pods of a node share: the engine, the API, the volumes, the machine's measures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from windlass.engine.files import HOSTS, HostFile
from windlass.errors import SystemFailure
from windlass.kube.api.status import StatusError
from windlass.kube.client import APIClient
from windlass.kube.node import admission, environment, eviction, mirrors, namefiles
from windlass.kube.node.capacity import Machine
from windlass.kube.node.events import Recorder
from windlass.kube.node.images import PodImages
from windlass.kube.node.mirrors import Mirrors
from windlass.kube.node.namefiles import Resolver
from windlass.kube.node.podcgroups import PodCgroups
from windlass.kube.node.processroot import ProcessRoots
from windlass.kube.node.resources import BEST_EFFORT
from windlass.kube.node.runtime import Found, PodRuntime
from windlass.kube.node.settings import NodeSettings
from windlass.kube.node.volumes import Volumes
from windlass.kube.node.volumes.volume import Find
from windlass.networks import resolvconf
from windlass.oci.reference import parse_reference

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")

_GROUPS = {"clustertrustbundles": "certificates.k8s.io"}


class PodGone(Exception):
    """The API has no such pod any more, or another one of its name."""


@dataclass(kw_only=True)
class Rooms:
    """Attributes:

    network: the engine's network that pods are in.
    active: the pods that count against what the node has.
    conditions: MemoryPressure and the like, where the node is short of something.
    held: descriptors that containers need until they have started, by container.
    """

    settings: NodeSettings
    client: APIClient
    runtime: PodRuntime
    images: PodImages
    volumes: Volumes
    cgroups: PodCgroups
    process_roots: ProcessRoots
    mirrors: Mirrors
    recorder: Recorder
    machine: Machine
    network: str
    active: Callable[[], Iterable[Object]]
    node: Callable[[], Object | None]
    held: dict[str, list[int]] = field(default_factory=dict)
    conditions: list[str] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    _hosts: HostFile = field(default_factory=lambda: HostFile(HOSTS))
    _resolv: HostFile = field(default_factory=lambda: HostFile(resolvconf.HOST_PATH))

    # The API -------------------------------------------------------------------------------------------------------

    def find(self, namespace: str) -> Find:
        """Finds what pods of a namespace refer to, fresh."""

        async def find(resource: str, name: str) -> Object | None:
            return await self.client.find(_GROUPS.get(resource, ""), resource, namespace, name) if name else None

        return find

    def find_any(self) -> Find:
        """Finds what is in no namespace."""
        return self.find("")

    async def referenced(self, pod: Object, container: Object) -> dict[tuple[str, str], Object]:
        """The config maps and secrets that a container's variables come from, by resource and name."""
        find = self.find(pod["metadata"]["namespace"])
        found = {}
        for resource, name in _references_of(container):
            obj = await find(resource, name)
            if obj is not None:
                found[resource, name] = obj
        return found

    def references_changed(self, uid: str) -> bool:
        """Whether something that a pod's volumes show has changed since this was asked last."""
        if uid in self.changed:
            self.changed.discard(uid)
            return True
        return False

    async def write_status(self, pod: Object, change: Callable[[Object], Object]) -> bool:
        """Write a pod's status; False where it has no mirror yet in which it could be seen.

        Raises StatusError; PodGone: the API knows the pod no longer.
        """
        metadata = pod["metadata"]
        uid, is_static = metadata["uid"], mirrors.is_static(pod)
        if is_static:
            mirror = self.mirrors.find(pod)
            if mirror is None:
                return False
            uid = mirror["metadata"]["uid"]

        def changed(live: Object) -> Object:
            if live["metadata"]["uid"] != uid:
                raise PodGone(metadata["name"])
            live["status"] = change(live)
            return live

        try:
            await self.client.update("", "pods", metadata["namespace"], metadata["name"], changed, subresource="status")
        except StatusError as error:
            if error.code != 404:
                raise
            if not is_static:
                raise PodGone(metadata["name"]) from None
            return False
        except PodGone:
            if not is_static:
                raise
            return False
        return True

    async def forget_pod(self, pod: Object) -> None:
        """A pod that was to be deleted has ended: the API may forget it."""
        metadata = pod["metadata"]
        try:
            await self.client.delete(
                "", "pods", metadata["namespace"], metadata["name"], uid=metadata["uid"], grace_period=0
            )
        except StatusError as error:
            if error.code != 409:  # another pod has the name
                raise

    def services(self, pod: Object) -> dict[str, str]:
        """The variables that tell a pod of services."""
        links = pod["spec"].get("enableServiceLinks")
        namespace = pod["metadata"]["namespace"]
        found = self.client.cache.list("", "services", namespace if links is not False else "default")
        kubernetes = self.client.cache.get("", "services", "default", "kubernetes")
        every = [*found, *([kubernetes] if kubernetes is not None else [])]
        return environment.of_services(every, namespace, links=links is not False)

    # The machine ---------------------------------------------------------------------------------------------------

    def allocatable(self) -> Mapping[str, str]:
        """What pods may have of the node."""
        node = self.node()
        found: Mapping[str, str] = ((node or {}).get("status") or {}).get("allocatable") or {}
        return found or self.machine.allocatable(self.settings.max_pods)

    def qos(self, pod: Object) -> str:
        """A pod's quality of service."""
        return str((pod.get("status") or {}).get("qosClass") or BEST_EFFORT)

    def admit(self, pod: Object) -> tuple[str, str] | None:
        """Why the node cannot take a pod, reason and message; None if it can."""
        if (refused := eviction.refusal(pod, self.qos(pod), self.conditions)) is not None:
            return refused
        return admission.refusal(pod, self.node(), self.active(), self.allocatable())

    def runtime_handler(self, pod: Object) -> str:
        """The OCI runtime that the pod's RuntimeClass names, "" for the default.

        Raises SystemFailure: there is no such class, or no such runtime on this node.
        """
        name = pod["spec"].get("runtimeClassName")
        if not name:
            return ""
        found = self.client.cache.get("node.k8s.io", "runtimeclasses", "", name)
        if found is None:
            raise SystemFailure(f'runtimeclass.node.k8s.io "{name}" not found')
        handler = str(found.get("handler") or "")
        if not self.runtime.has_handler(handler):
            problem = f'failed to get sandbox runtime: no runtime for "{handler}" is configured'
            raise SystemFailure(f"rpc error: code = Unknown desc = {problem}")
        return handler

    # Files ---------------------------------------------------------------------------------------------------------

    def name_files(self, pod: Object, addresses: list[str]) -> dict[str, str]:
        """hosts, hostname and resolv.conf of a pod."""
        settings, spec = self.settings, pod["spec"]
        domain = settings.cluster_domain
        if spec.get("hostNetwork"):
            name, hosts = settings.hostname, namefiles.hosts_of_host(pod, self._hosts.read())
        else:
            name, hosts = namefiles.hostname(pod, domain), namefiles.hosts(pod, addresses, domain)
        host = Resolver.parse(self._resolv.read())
        resolver = namefiles.resolver(pod, host, settings.cluster_dns, domain)
        return {"hostname": f"{name}\n", "hosts": hosts, "resolv.conf": resolver.render()}

    def release_held(self, container: str) -> None:
        """A container has started, or never will: what it needed for that is needed no longer."""
        for descriptor in self.held.pop(container, ()):
            os.close(descriptor)

    # Containers ----------------------------------------------------------------------------------------------------

    def image_names(self, found: Found) -> tuple[str, str]:
        """What people call a container's image, and its id."""
        image = self.images.find(found.image_id)
        if image is None:
            return "", found.image_id
        digests = image.repo_digests
        name = next(iter(image.repo_tags or digests), "")
        return (str(parse_reference(name)) if name else ""), (digests[0] if digests else image.id)

    async def tail_of_log(self, found: Found, lines: int) -> str:
        """The last lines of a container's log."""
        text = b""
        stream = await self.runtime.engine.container_logs(
            found.id, follow=False, stdout=True, stderr=True, since=None, until=None, tail=lines, details=False
        )
        async for batch in stream:
            text += b"".join([entry.line for entry in batch])
        return text.decode(errors="replace")


def _references_of(container: Object) -> Iterable[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        for key, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if source.get(key):
                yield resource, source[key].get("name", "")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        for key, resource in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if source.get(key):
                yield resource, source[key].get("name", "")


def shown_in_volumes(pod: Object) -> set[tuple[str, str]]:
    """The config maps and secrets that a pod's volumes show, by resource and name."""
    found = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in [volume, *((volume.get("projected") or {}).get("sources") or ())]:
            if source.get("configMap"):
                found.add(("configmaps", source["configMap"].get("name", "")))
            if source.get("secret"):
                found.add(("secrets", source["secret"].get("secretName") or source["secret"].get("name", "")))
        if volume.get("persistentVolumeClaim"):
            found.add(("persistentvolumeclaims", volume["persistentVolumeClaim"].get("claimName", "")))
    return found
