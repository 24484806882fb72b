"""Field management of ordinary writes: who owns which field, kept in metadata.managedFields.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

from windlass.kube.api.apply import managers
from windlass.kube.api.operations.environment import Actor
from windlass.kube.api.resource import Object, Resource


def track(resource: Resource, live: Object | None, new: Object, actor: Actor, now: str, subresource: str = "") -> None:
    """Note in `new` that the actor's manager owns what differs from `live`."""
    if not actor.manager:
        metadata = new["metadata"]
        before = live["metadata"].get("managedFields") if live is not None else None
        if before is None:
            metadata.pop("managedFields", None)
        else:
            metadata["managedFields"] = before
        return
    managers.update(
        live,
        new,
        schema=resource.schema,
        manager=actor.manager,
        api_version=resource.api_version,
        subresource=subresource,
        now=now,
        reset=resource.reset_fields.get(subresource, ()),
    )
