"""What operations work with, and for whom they work."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.api import objects
from windlass.kube.api.identity import User
from windlass.kube.api.registry import Registry
from windlass.kube.api.resource import Object, Resource
from windlass.store import Record, Store

Release = Callable[[], None]


@dataclass(slots=True)
class Actor:
    """Who asks, and how.

    Attributes:
        manager: the field manager; "" where changes are not tracked (the server itself).
        dry_run: everything but the write.
        warnings: texts for the client, in the order in which they arose.
        options: the CreateOptions, UpdateOptions and so on, for admission.
    """

    user: User
    manager: str = ""
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    def warn(self, text: str) -> None:
        """Tell the client something once."""
        if text not in self.warnings:
            self.warnings.append(text)


class Written(NamedTuple):
    """The outcome of a write.

    Attributes:
        value: the object's bytes in the stored version, its resourceVersion included.
        obj: the object in the version in which the request speaks, without its new resourceVersion.
        created: it did not exist before.
        deleted: it exists no longer.
    """

    value: bytes
    obj: Object
    created: bool = False
    deleted: bool = False


class Admission(Protocol):
    """The chain of admission plugins, see `windlass.kube.admission`."""

    def mutate(self, request: AdmissionRequest, /) -> Awaitable[None] | None:
        """Change `request.obj` or refuse."""

    def validate(self, request: AdmissionRequest, /) -> Awaitable[None] | None:
        """Refuse what may not be."""


class Hook:
    """What a kind needs beside its strategy: things that are allocated while an object is written.

    What is allocated is held until the write has ended, well or not; from then on the stored objects say what is used.
    """

    async def before_create(self, obj: Object, actor: Actor) -> Release | None:
        """Allocate; the returned function is called when the write has ended."""
        return None

    async def before_update(self, new: Object, old: Object, actor: Actor) -> Release | None:
        """Allocate what the change needs."""
        return None


NO_HOOK = Hook()

Creator = Callable[["Environment", Actor, str, str, Object], Awaitable[Object]]
"""Answers a POST to a subresource: namespace, name and body of the request. Raises StatusError."""


@dataclass(slots=True)
class Environment:
    """The parts of an API server that operations need. `creators`, by plural and subresource, answer POSTs to them."""

    store: Store
    registry: Registry
    admission: Admission
    hooks: dict[bytes, Hook] = field(default_factory=dict)
    creators: dict[tuple[str, str], Creator] = field(default_factory=dict)
    now: Callable[[], float] = time.time

    def hook(self, resource: Resource) -> Hook:
        """What is allocated for objects of this resource."""
        return self.hooks.get(resource.storage.prefix, NO_HOOK)

    def timestamp(self) -> str:
        """The time as objects state it."""
        return objects.timestamp(self.now())


async def from_stored(env: Environment, resource: Resource, record: Record) -> Object:
    """A stored object in the version of `resource`, as a new structure."""
    return await convert(resource, objects.decode(record.value))


async def convert(resource: Resource, obj: Object) -> Object:
    """An object of any version in the version of `resource`.

    Raises:
        StatusError: 500, a conversion webhook fails.
    """
    if obj.get("apiVersion") != resource.api_version and resource.convert is not None:
        converted = resource.convert([obj], resource)
        if not isinstance(converted, list):
            converted = await converted
        obj = converted[0]
    if resource.on_read is not None:
        resource.on_read(obj)
    return obj


async def stored_form(env: Environment, resource: Resource, obj: Object) -> bytes:
    """The bytes to store of an object in the version of `resource`."""
    if not resource.is_stored_version:
        target = env.registry.get(resource.storage.group, resource.storage.version, resource.plural)
        if target is not None and resource.convert is not None:
            obj = await convert(target, obj)
    return objects.encode(obj)
