"""The API from inside the process: controllers read the cache and write through the same operations as everybody else.

No HTTP, no authentication, no authorization: who has a `Client` is the server. Admission and validation hold for it,
too. What runs in this process or in another one takes an `APIClient`: this one, or `kube.remote`'s over HTTPS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from windlass.kube.api import objects, status
from windlass.kube.api.cache import Cache
from windlass.kube.api.identity import MASTERS, User
from windlass.kube.api.operations import creation, deletion, reading, updating
from windlass.kube.api.operations.deletion import DeleteOptions
from windlass.kube.api.operations.environment import Actor, Environment, convert
from windlass.kube.api.patch import merge_patch
from windlass.kube.api.reader import Listener, Reader
from windlass.kube.api.resource import Object, Resource


class SharedCache(Reader, Protocol):
    """What both clients' caches have beside reading."""

    def unsubscribe(self, group: str, resource: str, listener: Listener) -> None:
        """Call a listener no longer."""


class APIClient(Protocol):
    """What the in-process client and the remote one share; `Client` says what each does."""

    @property
    def cache(self) -> SharedCache:
        """Objects in memory."""

    async def get(self, group: str, plural: str, namespace: str, name: str) -> Object:
        """One object, fresh and the caller's own. Raises StatusError: 404."""
        ...

    async def find(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        """One object, None where there is none."""

    async def list(self, group: str, plural: str, namespace: str = "") -> Sequence[Object]:
        """All objects, fresh."""
        ...

    async def create(self, group: str, plural: str, obj: Object, namespace: str = "") -> Object:
        """Create an object. Raises StatusError."""
        ...

    async def create_subresource(
        self, group: str, plural: str, namespace: str, name: str, subresource: str, body: Object
    ) -> Object:
        """Post to an object's subresource. Raises StatusError."""
        ...

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
        """Change the live object. Raises StatusError."""
        ...

    async def patch(self, group: str, plural: str, namespace: str, name: str, change: Object) -> Object:
        """Merge a patch into an object. Raises StatusError."""
        ...

    async def set_status(self, group: str, plural: str, namespace: str, name: str, found: dict[str, Any]) -> Object:
        """Replace an object's status. Raises StatusError."""
        ...

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
        """Delete an object; one that is gone is no error. Raises StatusError."""

    async def ensure(self, group: str, plural: str, obj: Object) -> None:
        """Create an object that may exist already; then it stays as it is. Raises StatusError."""


class Client:
    """Writes as one user, `name`, which is also the field manager."""

    def __init__(self, env: Environment, cache: Cache, name: str = "system:apiserver") -> None:
        self.env = env
        self.cache = cache
        self._user = User(name, groups=(MASTERS,))
        self._manager = name.rpartition(":")[2]

    @property
    def user(self) -> User:
        """Who writes."""
        return self._user

    def named(self, name: str) -> Client:
        """The same for another user."""
        return Client(self.env, self.cache, name)

    def resource(self, group: str, plural: str, version: str = "") -> Resource:
        """A served resource.

        Raises:
            StatusError: 404.
        """
        registry = self.env.registry
        found = registry.get(group, version, plural) if version else registry.preferred(group, plural)
        if found is None:
            raise status.StatusError(404, "NotFound", f"the server has no resource {plural} in group {group!r}")
        return found

    def _actor(self) -> Actor:
        return Actor(self._user, self._manager)

    async def get(self, group: str, plural: str, namespace: str, name: str) -> Object:
        """One object, fresh from the store and the caller's own. Raises StatusError: 404."""
        return await reading.find_object(self.env, self.resource(group, plural), namespace, name)

    async def find(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        """One object, None where there is none."""
        resource = self.resource(group, plural)
        record = self.env.store.get(resource.storage.key(namespace, name))
        return None if record is None else await convert(resource, objects.decode(record.value))

    async def list(self, group: str, plural: str, namespace: str = "") -> Sequence[Object]:
        """All objects, fresh from the store."""
        resource = self.resource(group, plural)
        page = await reading.page(self.env, resource, reading.Selection(namespace))
        return [await convert(resource, objects.decode(record.value)) for record in page.records]

    async def create(self, group: str, plural: str, obj: Object, namespace: str = "") -> Object:
        """Create an object, which becomes the server's. Raises StatusError."""
        written = await creation.create(
            self.env, self.resource(group, plural), namespace or objects.namespace_of(obj), obj, self._actor()
        )
        return objects.decode(written.value)

    async def create_subresource(
        self, group: str, plural: str, namespace: str, name: str, subresource: str, body: Object
    ) -> Object:
        """Post to an object's subresource, such as an account's token. Raises StatusError."""
        resource = self.resource(group, plural)
        creator = self.env.creators.get((resource.plural, subresource))
        if creator is None:
            raise status.StatusError(404, "NotFound", "the server could not find the requested resource")
        return await creator(self.env, self._actor(), namespace, name, body)

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

        `change` is called again where another write came first.
        """

        def changed(live: Object) -> Object:
            seen = live["metadata"]["resourceVersion"]
            result = change(live)
            result = live if result is None else result
            if result["metadata"].get("resourceVersion") == seen:
                del result["metadata"]["resourceVersion"]
            return result

        written = await updating.update(
            self.env,
            self.resource(group, plural),
            namespace,
            name,
            changed,
            self._actor(),
            subresource=subresource,
            check=check,
        )
        return objects.decode(written.value)

    async def patch(self, group: str, plural: str, namespace: str, name: str, change: Object) -> Object:
        """Merge a patch into an object (RFC 7386). Raises StatusError."""

        def merge(live: Object) -> Object:
            merged: Object = merge_patch.apply(live, objects.copy(change))
            return merged

        return await self.update(group, plural, namespace, name, merge)

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
        options = DeleteOptions(uid=uid, propagation=propagation, grace_period=grace_period)
        try:
            await deletion.delete(self.env, self.resource(group, plural), namespace, name, options, self._actor())
        except status.StatusError as error:
            if error.code != 404:
                raise

    async def ensure(self, group: str, plural: str, obj: Object) -> None:
        """Create an object that may exist already; then it stays as it is."""
        namespace, name = objects.namespace_of(obj), objects.name_of(obj)
        if self.env.store.get(self.resource(group, plural).storage.key(namespace, name)) is not None:
            return
        try:
            await self.create(group, plural, obj, namespace)
        except status.StatusError as error:
            if error.reason != "AlreadyExists":
                raise
