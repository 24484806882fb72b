"""A request under admission."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windlass.kube.api import objects
from windlass.kube.api.identity import User
from windlass.kube.api.resource import Object, Resource

if TYPE_CHECKING:
    from windlass.kube.api.operations.environment import Actor


class AdmissionRequest:
    """What is to happen to an object.

    Attributes:
        operation: "CREATE", "UPDATE", "DELETE" or "CONNECT".
        obj: the new object, which plugins may change in their mutating phase; None for deletions.
        old: the live object, None where there is none.
        uid: names this request in reviews that webhooks get.
    """

    __slots__ = ("_uid", "actor", "name", "namespace", "obj", "old", "operation", "resource", "subresource")

    def __init__(
        self,
        operation: str,
        resource: Resource,
        subresource: str,
        namespace: str,
        name: str,
        obj: Object | None,
        old: Object | None,
        actor: Actor,
    ) -> None:
        self.operation = operation
        self.resource = resource
        self.subresource = subresource
        self.namespace = namespace
        self.name = name
        self.obj = obj
        self.old = old
        self.actor = actor
        self._uid = ""

    @property
    def user(self) -> User:
        """Who asks."""
        return self.actor.user

    @property
    def uid(self) -> str:
        """A unique name, made when it is first asked for."""
        if not self._uid:
            self._uid = objects.new_uid()
        return self._uid

    @property
    def target(self) -> Object:
        """The new object, or the one that goes."""
        found = self.obj if self.obj is not None else self.old
        assert found is not None
        return found
