"""Images of containers: pull policies, credentials, back-off, and the words for what goes wrong.

Source: https://kubernetes.io/docs/concepts/containers/images/
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any

import orjson

from windlass.engine import Engine
from windlass.errors import InvalidParameter, NotFound, WindlassError
from windlass.images import Image
from windlass.images.registry.credentials import Credentials
from windlass.kube.node.backoff import Backoff
from windlass.kube.node.events import NORMAL, WARNING, Recorder, field_path
from windlass.kube.node.volumes.volume import Find
from windlass.oci.reference import Reference, parse_reference

Object = dict[str, Any]


class ImageProblem(Exception):
    """An image that is not there. `reason` is for the status, `again` are the seconds until the next attempt."""

    def __init__(self, reason: str, message: str, again: float | None = None) -> None:
        super().__init__(message)
        self.reason, self.again = reason, again


class PodImages:
    """Gets images for pods. Who asks for one that is being pulled waits for that pull."""

    def __init__(self, engine: Engine, recorder: Recorder, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._recorder = recorder
        self._clock = clock
        self._backoff = Backoff()
        self._failed: dict[str, tuple[float, str]] = {}
        self._pulling: dict[str, asyncio.Task[None]] = {}

    def find(self, name: str) -> Image | None:
        """An image that is here."""
        try:
            return self._engine.parts.core.images.resolve(name)
        except (NotFound, InvalidParameter):
            return None

    def all(self) -> list[Image]:
        """All images that are here."""
        return self._engine.parts.core.images.list()

    def in_use(self) -> set[str]:
        """Ids of the images that containers stand on, those of no pod included."""
        return set(self._engine.parts.images.in_use())

    async def remove(self, identity: str) -> None:
        """Remove an image with all its names. Raises WindlassError."""
        await self._engine.parts.images.remove(identity, force=True, noprune=False)

    async def ensure(self, pod: Object, container: Object, find: Find) -> Image:
        """The image of a container, by its pull policy.

        Raises:
            ImageProblem
        """
        name, policy = container["image"], container.get("imagePullPolicy") or "IfNotPresent"
        try:
            reference = parse_reference(name).with_default_tag()
        except InvalidParameter as error:
            message = f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": {error}'
            self._tell(pod, container, WARNING, "InspectFailed", message)
            raise ImageProblem("InvalidImageName", message) from None
        here = self.find(name)
        if policy == "Never" and here is None:
            message = f'Container image "{name}" is not present with pull policy of Never'
            self._tell(pod, container, WARNING, "ErrImageNeverPull", message)
            raise ImageProblem("ErrImageNeverPull", message)
        if here is not None and policy != "Always":
            self._tell(pod, container, NORMAL, "Pulled", f'Container image "{name}" already present on machine')
            return here
        await self._pull(pod, container, reference, find)
        found = self.find(name)
        if found is None:
            raise ImageProblem("ErrImagePull", f'image "{name}" was pulled and is gone', 1.0)
        return found

    async def _pull(self, pod: Object, container: Object, reference: Reference, find: Find) -> None:
        name = container["image"]
        key = f"{pod['metadata']['uid']}/{name}"
        failed = self._failed.get(key)
        if failed is not None:
            left = failed[0] + self._backoff.delay(key) - self._clock()
            if left > 0:
                message = f'Back-off pulling image "{name}"'
                self._tell(pod, container, NORMAL, "BackOff", message)
                self._tell(pod, container, WARNING, "Failed", "Error: ImagePullBackOff")
                raise ImageProblem("ImagePullBackOff", f"{message}: ErrImagePull: {failed[1]}", left)
        self._tell(pod, container, NORMAL, "Pulling", f'Pulling image "{name}"')
        begun = self._clock()
        try:
            await self._pull_once(reference, await self._credentials(pod, reference, find))
        except WindlassError as error:
            self._backoff.failed(key, self._clock())
            self._failed[key] = (self._clock(), str(error))
            self._tell(pod, container, WARNING, "Failed", f'Failed to pull image "{name}": {error}')
            self._tell(pod, container, WARNING, "Failed", "Error: ErrImagePull")
            raise ImageProblem("ErrImagePull", str(error), self._backoff.delay(key)) from None
        self._failed.pop(key, None)
        self._backoff.forget(key)
        taken = self._clock() - begun
        message = f'Successfully pulled image "{name}" in {taken:.3f}s ({taken:.3f}s including waiting)'
        self._tell(pod, container, NORMAL, "Pulled", message)

    async def _pull_once(self, reference: Reference, credentials: Credentials | None) -> None:
        key = f"{reference.familiar()} {credentials.username if credentials else ''}"
        task = self._pulling.get(key)
        if task is None:
            task = asyncio.create_task(self._transfer(reference, credentials))
            self._pulling[key] = task
            task.add_done_callback(lambda _: self._pulling.pop(key, None))
        await asyncio.shield(task)

    async def _transfer(self, reference: Reference, credentials: Credentials | None) -> None:
        stream = await self._engine.parts.images.pull(reference.familiar(), "", platform=None, auth=credentials)
        async for message in stream:
            # A failure after the first message is one of the messages.
            if "error" in message:
                raise NotFound(str(message["error"]))

    async def _credentials(self, pod: Object, reference: Reference, find: Find) -> Credentials | None:
        """The first of the pod's pull secrets that knows the registry."""
        for each in pod["spec"].get("imagePullSecrets") or ():
            secret = await find("secrets", each.get("name", ""))
            if secret is not None and (found := credentials_in(secret, reference)):
                return found
        return None

    def _tell(self, pod: Object, container: Object, type: str, reason: str, message: str) -> None:
        self._recorder.event(pod, type, reason, message, field_path=field_path(pod, container["name"]))


def credentials_in(secret: Object, reference: Reference) -> Credentials | None:
    """What a secret of type kubernetes.io/dockerconfigjson or dockercfg says of a registry."""
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            entries = orjson.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
        elif ".dockercfg" in data:
            entries = orjson.loads(base64.b64decode(data[".dockercfg"]))
        else:
            return None
        for server, entry in entries.items():
            host = server.removeprefix("https://").removeprefix("http://").rstrip("/")
            name = host.removesuffix("/v1").removesuffix("/v2")
            same_hub = reference.domain == "docker.io" and name in ("index.docker.io", "docker.io")
            if same_hub or name == reference.domain or reference.name.startswith(f"{name}/"):
                return _entry(entry, server)
    except (ValueError, TypeError, AttributeError):
        return None
    return None


def _entry(entry: Object, server: str) -> Credentials:
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    return Credentials(
        username=user,
        password=password,
        identity_token=str(entry.get("identitytoken") or ""),
        server_address=server,
    )
