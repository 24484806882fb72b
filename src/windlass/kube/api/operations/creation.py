"""Create an object.

namespace ─ defaults ─ admission mutates ─ what the server sets ─ validation ─ admission validates ─ allocate ─ commit
"""

from __future__ import annotations

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.api import objects, status
from windlass.kube.api.operations import metadata, tracking
from windlass.kube.api.operations.environment import Actor, Environment, Written, stored_form
from windlass.kube.api.resource import Object, Resource
from windlass.store import Mismatch

CREATE = "CREATE"


async def create(
    env: Environment,
    resource: Resource,
    namespace: str,
    obj: Object,
    actor: Actor,
    *,
    name: str = "",
    tracked: bool = True,
) -> Written:
    """Store a new object. `obj` is the caller's no longer; `name` is the path's where it has one.

    `tracked`: note the actor's manager for all fields; False where the object says already who manages them.

    Raises:
        StatusError: 400 (another namespace), 403 (admission), 409 (exists), 422 (invalid).
    """
    metadata.match_namespace(resource, namespace, obj)
    if name:
        metadata.match_name(name, obj)
    strategy = resource.strategy
    strategy.default(obj)
    own_name = objects.name_of(obj)
    request = AdmissionRequest(CREATE, resource, "", namespace, own_name, obj, None, actor)
    if (waiting := env.admission.mutate(request)) is not None:
        await waiting
    assert request.obj is not None
    obj = request.obj
    attempts = 1
    base = ""
    if not own_name and (base := objects.meta(obj).get("generateName") or ""):
        attempts = strategy.generate_name_attempts
    draft = objects.encode(obj) if attempts > 1 else b""
    for attempt in range(attempts):
        if attempt:
            obj = request.obj = objects.decode(draft)
        if base:
            obj["metadata"]["name"] = objects.generated_name(base)
        try:
            return await _create_named(env, request, obj, tracked=tracked)
        except status.StatusError as error:
            if error.reason != "AlreadyExists" or attempt + 1 == attempts:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _create_named(env: Environment, request: AdmissionRequest, obj: Object, *, tracked: bool) -> Written:
    """From the name on: strategies derive labels and fields from it."""
    resource, actor = request.resource, request.actor
    now = env.timestamp()
    metadata.begin(resource, obj, now)
    resource.strategy.prepare_for_create(obj, actor.user)
    release = await env.hook(resource).before_create(obj, actor)
    try:
        if tracked:
            tracking.track(resource, None, obj, actor, now)
        _validate(resource, obj, actor)
        request.name = objects.name_of(obj)
        if (waiting := env.admission.validate(request)) is not None:
            await waiting
        value = await _commit(env, resource, obj, dry_run=actor.dry_run)
        return Written(value, obj, created=True)
    finally:
        if release is not None:
            release()


def _validate(resource: Resource, obj: Object, actor: Actor) -> None:
    errors = [*metadata.validate(resource, obj), *resource.strategy.validate(obj)]
    if errors:
        raise status.invalid(resource.kind, resource.group, objects.name_of(obj), errors)
    for text in resource.strategy.warnings(obj, None):
        actor.warn(text)


async def _commit(env: Environment, resource: Resource, obj: Object, *, dry_run: bool) -> bytes:
    name = objects.name_of(obj)
    key = resource.storage.key(objects.namespace_of(obj), name)
    value = await stored_form(env, resource, obj)
    if dry_run:
        if env.store.get(key) is not None:
            raise status.already_exists(resource.plural, resource.group, name)
        return objects.unstamped(value)
    try:
        record = await env.store.commit(key, value, expect=0)
    except Mismatch:
        raise status.already_exists(resource.plural, resource.group, name) from None
    return record.value
