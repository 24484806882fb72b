"""The API over HTTPS with the methods of the in-process client: what is written against one runs with the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from windlass.kube.api import objects, status
from windlass.kube.api.resource import Object
from windlass.kube.remote.cache import RemoteCache
from windlass.kube.remote.resources import Resources
from windlass.kube.remote.transport import MERGE_PATCH, Transport

_PAGE: Final = "500"
_CONFLICTS: Final = 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 1.0


class RemoteClient:
    """Reads and writes as the user that the transport's credentials name. `close` also ends the cache."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._resources = Resources(transport)
        self.cache = RemoteCache(transport, self._resources)

    @property
    def transport(self) -> Transport:
        """The connections."""
        return self._transport

    async def close(self) -> None:
        """Follow nothing any longer and close all connections."""
        await self.cache.close()
        await self._transport.close()

    async def get(self, group: str, plural: str, namespace: str, name: str) -> Object:
        """One object, fresh and the caller's own. Raises StatusError: 404."""
        place = await self._resources.find(group, plural)
        return await self._transport.request("GET", place.path(namespace, name))

    async def find(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        """One object, None where there is none. Raises StatusError."""
        try:
            return await self.get(group, plural, namespace, name)
        except status.StatusError as error:
            if error.code != 404:
                raise
            return None

    async def list(self, group: str, plural: str, namespace: str = "") -> Sequence[Object]:
        """All objects, fresh. Raises StatusError."""
        place = await self._resources.find(group, plural)
        found: list[Object] = []
        query = {"limit": _PAGE}
        while True:
            page = await self._transport.request("GET", place.path(namespace), query=query)
            for item in page.get("items") or ():
                # Lists leave out what all their items share.
                found.append({"apiVersion": place.api_version, "kind": place.kind, **item})
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return found
            query = {"limit": _PAGE, "continue": token}

    async def create(self, group: str, plural: str, obj: Object, namespace: str = "") -> Object:
        """Create an object. Raises StatusError."""
        place = await self._resources.find(group, plural)
        path = place.path(namespace or objects.namespace_of(obj))
        return await self._transport.request("POST", path, body=obj)

    async def create_subresource(
        self, group: str, plural: str, namespace: str, name: str, subresource: str, body: Object
    ) -> Object:
        """Post to an object's subresource, such as an account's token. Raises StatusError."""
        place = await self._resources.find(group, plural)
        return await self._transport.request("POST", place.path(namespace, name, subresource), body=body)

    async def update(
        self,
        group: str,
        plural: str,
        namespace: str,
        name: str,
        change: Callable[[Object], Object | None],
        *,
        subresource: str = "",
        check: bool = True,
    ) -> Object:
        """Change the live object; `change` gets a copy and may return another one. Raises StatusError.

        `change` is called again where another write came first. The server checks in any case, whatever `check` says.
        """
        del check
        place = await self._resources.find(group, plural)
        for attempt in range(_CONFLICTS):
            live = await self.get(group, plural, namespace, name)
            wanted = objects.copy(live)
            result = change(wanted)
            wanted = wanted if result is None else result
            if objects.same(wanted, live):
                return live
            wanted["metadata"].setdefault("resourceVersion", live["metadata"]["resourceVersion"])
            try:
                return await self._transport.request("PUT", place.path(namespace, name, subresource), body=wanted)
            except status.StatusError as error:
                if error.reason != "Conflict" or attempt + 1 == _CONFLICTS:
                    raise
            pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    async def patch(self, group: str, plural: str, namespace: str, name: str, change: Object) -> Object:
        """Merge a patch into an object without reading it (RFC 7386). Raises StatusError."""
        place = await self._resources.find(group, plural)
        path = place.path(namespace, name)
        return await self._transport.request("PATCH", path, body=change, content_type=MERGE_PATCH)

    async def set_status(self, group: str, plural: str, namespace: str, name: str, found: dict[str, Any]) -> Object:
        """Replace an object's status. Raises StatusError."""

        def change(live: Object) -> None:
            live["status"] = found

        return await self.update(group, plural, namespace, name, change, subresource="status")

    async def delete(
        self,
        group: str,
        plural: str,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        propagation: str = "",
        grace_period: int | None = None,
    ) -> None:
        """Delete an object; one that is gone is no error. Raises StatusError: 409 (another uid)."""
        place = await self._resources.find(group, plural)
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if propagation:
            options["propagationPolicy"] = propagation
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        try:
            await self._transport.request("DELETE", place.path(namespace, name), body=options)
        except status.StatusError as error:
            if error.code != 404:
                raise

    async def ensure(self, group: str, plural: str, obj: Object) -> None:
        """Create an object that may exist already; then it stays as it is. Raises StatusError."""
        try:
            await self.create(group, plural, obj)
        except status.StatusError as error:
            if error.reason != "AlreadyExists":
                raise
