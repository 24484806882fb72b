"""Change an object: replace, patch, apply, and the same for a subresource.

    read ─▶ change ─▶ defaults ─ admission mutates ─ prepare ─ validation ─ admission validates ─▶ commit if unchanged
      ▲                                                                                              │
      └────────────────────── another write came first, and the client did not insist ◀──────────────┘

A change that changes nothing writes nothing. The change that takes the last finalizer from an object whose deletion has
begun removes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.api import objects, status
from windlass.kube.api.operations import creation, metadata, tracking
from windlass.kube.api.operations.environment import Actor, Environment, Written, convert, from_stored, stored_form
from windlass.kube.api.resource import Object, Resource
from windlass.store import Mismatch, Record

Change = Callable[[Object], "Object | Awaitable[Object]"]
"""The live object (a copy that may be changed) → the wanted one."""

UPDATE = "UPDATE"
_ATTEMPTS = 30


async def update(
    env: Environment,
    resource: Resource,
    namespace: str,
    name: str,
    change: Change,
    actor: Actor,
    *,
    subresource: str = "",
    create: Callable[[], Object | Awaitable[Object]] | None = None,
    tracked: bool = True,
    check: bool = True,
    admit: bool | None = None,
) -> Written:
    """Change the object that has a name.

    Args:
        subresource: "" or "status" (what may change follows from it), or another one's name for admission.
        create: makes the object where there is none (server-side apply, PUT of kinds that allow it).
        tracked: note the actor's manager for what changes; False where `change` did it.
        check: defaults and validation; False for internal changes of metadata.
        admit: admission; None as `check`.

    Raises:
        StatusError: 404, 409 (another write came first), 422, or what admission and `change` raise.
    """
    key = resource.storage.key(namespace, name)
    for _ in range(_ATTEMPTS):
        record = env.store.get(key)
        if record is None:
            if create is None:
                raise status.not_found(resource.plural, resource.group, name)
            fresh = create()
            if not isinstance(fresh, dict):
                fresh = await fresh
            refuse_version_of_absent(resource, fresh, name)
            return await creation.create(env, resource, namespace, fresh, actor, name=name, tracked=tracked)
        live = await from_stored(env, resource, record)
        new = change(await from_stored(env, resource, record))
        if not isinstance(new, dict):
            new = await new
        insisted = _check_preconditions(resource, new, live, name, subresource)
        written = await _write(
            env, resource, key, record, new, live, actor, subresource, tracked, check, check if admit is None else admit
        )
        if written is not None:
            return written
        if insisted:
            raise status.conflict(resource.plural, resource.group, name, status.STALE)
    raise status.conflict(resource.plural, resource.group, name, status.STALE)


def refuse_version_of_absent(resource: Resource, obj: Object, name: str) -> None:
    """Who names a uid or revision means an object that exists.

    Raises:
        StatusError: 404 or 409.
    """
    found = objects.meta(obj)
    if found.get("resourceVersion") not in (None, "", "0") or found.get("uid"):
        if uid := found.get("uid"):
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
            raise status.conflict(resource.plural, resource.group, name, why)
        raise status.not_found(resource.plural, resource.group, name)


def _check_preconditions(resource: Resource, new: Object, live: Object, name: str, subresource: str) -> bool:
    """Whether the client insists on the revision that it saw."""
    wanted = objects.meta(new)
    version = wanted.get("resourceVersion") or ""
    current = live["metadata"]["resourceVersion"]
    uid = wanted.get("uid")
    if uid and uid != live["metadata"].get("uid"):
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {live['metadata'].get('uid')}"
        raise status.conflict(resource.plural, resource.group, name, why)
    if version in ("", "0"):
        if not resource.strategy.unconditional_update and not subresource:
            error = status.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise status.invalid(resource.kind, resource.group, name, [error])
        return False
    if version != current:
        raise status.conflict(resource.plural, resource.group, name, status.STALE)
    return True


async def _write(
    env: Environment,
    resource: Resource,
    key: bytes,
    record: Record,
    new: Object,
    live: Object,
    actor: Actor,
    subresource: str,
    tracked: bool,
    check: bool,
    admit: bool,
) -> Written | None:
    """One attempt; None where another write came first."""
    strategy = resource.strategy
    name, namespace = objects.name_of(live), objects.namespace_of(live)
    metadata.match_namespace(resource, namespace, new)
    metadata.match_name(name, new)
    if check:
        strategy.default(new)
    request = AdmissionRequest(UPDATE, resource, subresource, namespace, name, new, live, actor)
    if admit and (waiting := env.admission.mutate(request)) is not None:
        await waiting
    assert request.obj is not None
    new = request.obj
    objects.meta(new)["resourceVersion"] = live["metadata"]["resourceVersion"]
    if subresource == "status":
        strategy.prepare_for_status_update(new, live)
    elif check:
        strategy.prepare_for_update(new, live, actor.user)
    metadata.carry_over(resource, new, live)
    if objects.same(new, live):  # nothing is different, so nobody manages more than before
        return Written(record.value, live)
    if tracked:
        tracking.track(resource, live, new, actor, env.timestamp(), subresource)
    release = await env.hook(resource).before_update(new, live, actor) if check else None
    try:
        if check:
            _validate(resource, new, live, actor, subresource)
        if admit and (waiting := env.admission.validate(request)) is not None:
            await waiting
        value = await stored_form(env, resource, new)
        if value == objects.unversioned(record.value):
            return Written(record.value, live)
        if is_finished(resource, new):
            return await _finish(env, resource, key, record, new, actor)
        if actor.dry_run:
            return Written(objects.stamp(value, record.mod_revision), new)
        committed = await env.store.commit(key, value, expect=record.mod_revision)
        return Written(committed.value, new)
    except Mismatch:
        await env.store.settle()
        return None
    finally:
        if release is not None:
            release()


def _validate(resource: Resource, new: Object, live: Object, actor: Actor, subresource: str) -> None:
    errors = metadata.validate_update(resource, new, live)
    if subresource == "status":
        errors += resource.strategy.validate_status_update(new, live)
    else:
        errors += resource.strategy.validate_update(new, live)
    if errors:
        raise status.invalid(resource.kind, resource.group, objects.name_of(new), errors)
    for text in resource.strategy.warnings(new, live):
        actor.warn(text)


def is_finished(resource: Resource, obj: Object) -> bool:
    """Whether the object's deletion has begun and nothing holds it any more."""
    found: dict[str, Any] = obj["metadata"]
    return bool(
        found.get("deletionTimestamp")
        and not found.get("finalizers")
        and not found.get("deletionGracePeriodSeconds")
        and not resource.strategy.holds(obj)
    )


async def _finish(
    env: Environment, resource: Resource, key: bytes, record: Record, new: Object, actor: Actor
) -> Written:
    value = objects.stamp(await stored_form(env, resource, new), record.mod_revision)
    if not actor.dry_run:
        await env.store.commit(key, None, expect=record.mod_revision)
    return Written(value, new, deleted=True)


__all__ = ["UPDATE", "Change", "convert", "is_finished", "update"]
