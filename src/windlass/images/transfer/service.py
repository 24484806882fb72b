"""Everything that a daemon asks of registries, behind one light object.

The HTTP client behind it costs 15 MB and a quarter of a second to import, so it is imported when the first request
comes: a daemon that never pulls never pays. New settings (SIGHUP) make a new client; what is under way ends on the old.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from windlass.images.registry.credentials import HasCredentials, as_credentials
from windlass.images.registry.settings import RegistrySettings
from windlass.images.transfer.progress import Message
from windlass.images.transfer.store import TransferStore
from windlass.oci.platform import Platform
from windlass.oci.reference import Reference

if TYPE_CHECKING:
    from windlass.images.registry.client import RegistryClient
    from windlass.images.transfer.pull import Puller
    from windlass.images.transfer.push import Pusher

Auth = HasCredentials | Mapping[str, Any] | None
"""Credentials: a record of another room, an `AuthConfig` document, or none."""


class Transfers:
    """Pull, push, login, inspection, search."""

    def __init__(self, settings: RegistrySettings, store: TransferStore) -> None:
        self._settings = settings
        self._store = store
        self._parts: _Parts | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def settings(self) -> RegistrySettings:
        """The settings that new requests use."""
        return self._settings

    def reload(self, settings: RegistrySettings) -> None:
        """Use other settings from now on."""
        if settings == self._settings:
            return
        self._settings = settings
        self._retire()

    async def close(self) -> None:
        """Close all connections. Transfers under way should have been cancelled."""
        self._retire(now=True)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def pull(
        self, reference: Reference, *, platform: Platform | None = None, auth: Auth = None
    ) -> AsyncGenerator[Message, None]:
        """Pull an image (or, without tag and digest, all tags). Yields dockerd's progress messages.

        Closing the iterator cancels the pull. Raises typed errors with dockerd's texts.
        """
        parts = await self._ready()
        with parts:
            pull = parts.puller.pull(reference, platform=platform, credentials=as_credentials(auth))
            async with contextlib.aclosing(pull) as stream:
                async for entry in stream:
                    yield entry

    async def push(
        self, reference: Reference, *, platform: Platform | None = None, auth: Auth = None
    ) -> AsyncGenerator[Message, None]:
        """Push an image (or, without a tag, all tags of the repository). Yields dockerd's progress messages.

        Closing the iterator cancels the push. Raises typed errors with dockerd's texts.
        """
        parts = await self._ready()
        with parts:
            push = parts.pusher.push(reference, platform=platform, credentials=as_credentials(auth))
            async with contextlib.aclosing(push) as stream:
                async for entry in stream:
                    yield entry

    async def login(self, auth: Auth) -> dict[str, str]:
        """What `/auth` answers. Raises `Unauthorized`, `SystemFailure`."""
        parts = await self._ready()
        with parts:
            status, token = await parts.client.login(as_credentials(auth))
        return {"Status": status, "IdentityToken": token}

    async def inspect(self, reference: Reference, *, auth: Auth = None) -> dict[str, Any]:
        """What `/distribution/{name}/json` answers. Raises typed errors."""
        parts = await self._ready()
        with parts:
            return await parts.client.inspect(reference, as_credentials(auth))

    async def search(
        self, term: str, *, limit: int = 0, filters: Mapping[str, Sequence[str]] | None = None, auth: Auth = None
    ) -> list[dict[str, Any]]:
        """What `/images/search` answers. Raises `InvalidParameter`, `SystemFailure`."""
        parts = await self._ready()
        with parts:
            return await parts.client.search(term, limit=limit, filters=filters or {}, credentials=as_credentials(auth))

    async def tags(self, reference: Reference, *, auth: Auth = None) -> list[str]:
        """The tags that a repository has in its registry. Raises typed errors."""
        parts = await self._ready()
        with parts:
            return await parts.client.tags(reference, as_credentials(auth))

    async def _ready(self) -> _Parts:
        if self._parts is None:
            await asyncio.to_thread(_import_parts)
        if self._parts is None:
            from windlass.images.registry.client import RegistryClient
            from windlass.images.transfer.pull import Puller
            from windlass.images.transfer.push import Pusher

            client = RegistryClient(self._settings)
            self._parts = _Parts(client, Puller(client, self._store), Pusher(client, self._store))
        return self._parts

    def _retire(self, *, now: bool = False) -> None:
        """Let the present client go when its last request has ended."""
        if self._parts is None:
            return
        parts, self._parts = self._parts, None

        async def close() -> None:
            if not now:
                await parts.idle.wait()
            await parts.client.close()

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Parts:
    """A client and what stands on it; as a context it counts the requests that use it."""

    def __init__(self, client: RegistryClient, puller: Puller, pusher: Pusher) -> None:
        self.client = client
        self.puller = puller
        self.pusher = pusher
        self.idle = asyncio.Event()
        self.idle.set()
        self._users = 0

    def __enter__(self) -> None:
        self._users += 1
        self.idle.clear()

    def __exit__(self, *exc: object) -> None:
        self._users -= 1
        if not self._users:
            self.idle.set()


def _import_parts() -> None:
    import windlass.images.transfer.pull
    import windlass.images.transfer.push  # noqa: F401
