"""`docker commit`: an image of what a container wrote, and of how it was configured."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from windlass.engine.container import Container
from windlass.engine.core import Core, log
from windlass.engine.lifecycle import Lifecycle
from windlass.engine.merge import merge_config
from windlass.engine.shapes import decode_config
from windlass.errors import Conflict, WindlassError
from windlass.oci.reference import Reference

Document = dict[str, Any]

_IMAGE_FIELDS: Final = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "OnBuild",
    "Shell",
)
"""What of a container's configuration an image can say."""


def image_config(config: Document) -> Document:
    """The execution configuration of an image made of a container with `config`."""
    return {name: value for name in _IMAGE_FIELDS if (value := config.get(name))}


class Commits:
    """Commits containers."""

    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core = core
        self._lifecycle = lifecycle

    async def commit(
        self,
        container: Container,
        *,
        body: Document,
        reference: Reference | None,
        comment: str,
        author: str,
        pause: bool,
        changes: Sequence[str],
    ) -> str:
        """The new image's ID. Raises `Conflict`, `InvalidParameter`, `SystemFailure`."""
        if container.state.dead:
            raise Conflict(f"You cannot commit container {container.id} which is Dead")
        if container.state.removing:
            raise Conflict(f"You cannot commit container {container.id} which is being removed")
        config = decode_config(body)
        if config is None:
            config = container.config
        else:
            merge_config(config, container.config)
        async with self._still(container) if pause else contextlib.nullcontext():
            image = await self._core.images.commit(
                container.id,
                container.image_id or None,
                config=image_config(config),
                container_config=container.config,
                reference=reference,
                changes=changes,
                author=author,
                comment=comment,
            )
        shown = reference.familiar() if reference is not None else ""
        self._core.container_event(container, "commit", comment=comment, imageID=image.id, imageRef=shown)
        return image.id

    @contextlib.asynccontextmanager
    async def _still(self, container: Container) -> AsyncIterator[None]:
        """Its processes wait meanwhile, so that what they write is whole."""
        paused = False
        if container.state.running and not container.state.paused:
            # One that ends now needs no pause.
            with contextlib.suppress(WindlassError):
                await self._lifecycle.pause(container)
                paused = True
        try:
            yield
        finally:
            if paused:
                try:
                    await self._lifecycle.unpause(container)
                except WindlassError as error:
                    log.debug("container %s after its commit: %s", container.id, error)
