"""Pods of this node alone, from the files of a directory: YAML or JSON, one pod each, followed as they change.

A file that is no pod is logged, and what it was before stays. The pod gets the node's name behind its own, and a UID
that follows from its content, so that another content is another pod.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from windlass.kernel import inotify
from windlass.kube.api import names, times, yamlform
from windlass.kube.api.operations.metadata import validate_embedded
from windlass.kube.api.status import invalid_value, required
from windlass.kube.api.strategies.pods import Pods as PodStrategy
from windlass.kube.api.strategies.pods import qos_class
from windlass.kube.node import mirrors
from windlass.kube.schema.catalogue import Catalogue
from windlass.kube.schema.conform import conform

Object = dict[str, Any]
log = logging.getLogger("windlass.kube.node")

_LOOK_SECONDS: Final = 20.0
_SETTLE_SECONDS: Final = 0.05
_LARGEST: Final = 10 << 20
_ACCOUNT_FIELDS: Final = ("serviceAccountName", "serviceAccount")


class BadManifest(ValueError):
    """A file that is no pod that can run here."""


class ManifestReader:
    """Makes pods of texts, for one node."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._catalogue: Catalogue | None = None

    def read(self, text: bytes) -> Object:
        """The pod of a manifest. Raises BadManifest."""
        try:
            pod = yamlform.load(text)
            if not isinstance(pod, dict) or (pod.get("apiVersion"), pod.get("kind")) != ("v1", "Pod"):
                raise BadManifest("it is no Pod of apiVersion v1")
            if self._catalogue is None:
                self._catalogue = Catalogue()
            conform(pod, self._catalogue.schema("io.k8s.api.core.v1.Pod"))
        except ValueError as error:
            raise BadManifest(str(error)) from None
        return self._complete(pod)

    def _complete(self, pod: Object) -> Object:
        metadata, spec = pod.setdefault("metadata", {}), pod.setdefault("spec", {})
        pod.pop("status", None)
        # Over what was written: a value that is filled in below is none of it.
        digest = hashlib.blake2b(orjson.dumps([pod, self._node], option=orjson.OPT_SORT_KEYS), digest_size=16)
        uid = digest.hexdigest()
        if metadata.get("name"):
            metadata["name"] = f"{metadata['name']}-{self._node}"
        metadata.setdefault("namespace", "default")
        metadata["uid"] = uid
        annotations = metadata.setdefault("annotations", {})
        annotations |= {mirrors.HASH: uid, mirrors.SOURCE: "file"}
        spec["nodeName"] = self._node
        everything = {"effect": "NoExecute", "operator": "Exists"}
        spec["tolerations"] = [*(spec.get("tolerations") or ()), everything]
        strategy = PodStrategy()
        strategy.default(pod)
        errors = [*validate_embedded(metadata, "metadata"), *strategy.validate(pod)]
        if not metadata.get("name"):
            errors.insert(0, required("metadata.name", "name or generateName is required"))
        else:
            errors += [
                invalid_value("metadata.name", metadata["name"], text)
                for text in names.dns1123_subdomain(metadata["name"])
            ]
        if errors:
            raise BadManifest(", ".join(str(each) for each in errors))
        if (reference := next(_references(spec), "")) != "":
            raise BadManifest(f"static pods can not reference {reference}")
        pod["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
        return pod


def _references(spec: Object) -> Iterator[str]:
    """What the pod wants of the API, which may not be there when it starts."""
    if any(spec.get(name) for name in _ACCOUNT_FIELDS):
        yield "serviceaccounts"
    if spec.get("imagePullSecrets"):
        yield "secrets"
    if spec.get("resourceClaims"):
        yield "resourceclaims"
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        sources = [each.get("valueFrom") or {} for each in container.get("env") or ()]
        for source in (*sources, *(container.get("envFrom") or ())):
            if source.get("configMapKeyRef") or source.get("configMapRef"):
                yield "configmaps"
            if source.get("secretKeyRef") or source.get("secretRef"):
                yield "secrets"
    for volume in spec.get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            for kind, plural in _OF_THE_API.items():
                if kind in source:
                    yield plural


_OF_THE_API: Final = {
    "configMap": "configmaps",
    "secret": "secrets",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims",
    "serviceAccountToken": "serviceaccounts",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificaterequests",
}


class ManifestDirectory:
    """Follows a directory. `changed` gets all its pods, whenever they are others."""

    def __init__(self, directory: Path, node: str, changed: Callable[[list[Object]], None]) -> None:
        self._directory = directory
        self._reader = ManifestReader(node)
        self._changed = changed
        self._texts: dict[str, bytes] = {}
        self._pods: dict[str, Object] = {}
        self._told: list[Object] | None = None

    async def look(self) -> None:
        """Read the directory now. One that is not there is empty."""
        texts = await asyncio.to_thread(self._read)
        for name in self._pods.keys() - texts.keys():
            del self._pods[name]
        for name, text in texts.items():
            if self._texts.get(name) == text:
                continue
            try:
                pod = await asyncio.to_thread(self._reader.read, text)
            except BadManifest as error:
                log.error("manifest %s/%s is not used: %s", self._directory, name, error)
                continue
            pod["metadata"]["annotations"][mirrors.SEEN] = times.format_time(time.time())
            self._pods[name] = pod
        self._texts = texts
        found = list(self._unique())
        if found != self._told:
            self._told = found
            self._changed(found)

    def _unique(self) -> Iterator[Object]:
        """The pods, the first file's where two are of one name."""
        seen: set[tuple[str, str]] = set()
        for _, pod in sorted(self._pods.items()):
            key = mirrors.key(pod)
            if key not in seen:
                seen.add(key)
                yield pod

    def _read(self) -> dict[str, bytes]:
        found = {}
        try:
            entries = sorted(os.scandir(self._directory), key=lambda each: each.name)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_file():
                    with open(entry.path, "rb") as file:
                        found[entry.name] = file.read(_LARGEST)
            except OSError as error:
                log.error("manifest %s: %s", entry.path, error)
        return found

    async def follow(self) -> None:
        """Look at it on each change, and now and then, for ever."""
        loop = asyncio.get_running_loop()
        touched = asyncio.Event()
        while True:
            descriptor = await asyncio.to_thread(self._watch)
            if descriptor is not None:
                loop.add_reader(descriptor, _drain, descriptor, touched)
            try:
                await self.look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await touched.wait()
                touched.clear()
                # Who writes a file makes several events.
                await asyncio.sleep(_SETTLE_SECONDS)
            finally:
                if descriptor is not None:
                    loop.remove_reader(descriptor)
                    os.close(descriptor)

    def _watch(self) -> int | None:
        try:
            return inotify.watch_directory(str(self._directory))
        except OSError:
            return None


def _drain(descriptor: int, touched: asyncio.Event) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 64 << 10):
            touched.set()
