"""get, create, update, patch and delete of one object (or of its status)."""

from __future__ import annotations

from windlass.http import Response
from windlass.kube.api import objects, status
from windlass.kube.api.handlers import bodies, encoding, patching
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.negotiation import Form, negotiate
from windlass.kube.api.operations import creation, deletion, reading, updating
from windlass.kube.api.operations.environment import Written
from windlass.kube.api.resource import Object

OBJECT_TRANSFORMS = frozenset({"Table", "PartialObjectMetadata"})


def negotiate_object(call: Call) -> None:
    """Settle the form of an answer that is one object. Raises StatusError: 406."""
    accept = call.request.headers.get("accept", "")
    call.form = negotiate(accept, OBJECT_TRANSFORMS, not call.resource.is_custom)


async def get(call: Call) -> Response:
    """GET of an object."""
    negotiate_object(call)
    if version := call.options.text("resourceVersion"):
        if version != "0":
            await reading.wait_until_fresh(call.env, version)
    elif not call.env.store.is_current:
        await call.env.store.sync()
    record = reading.find(call.env, call.resource, call.namespace, call.info.name)
    return encoding.respond(call, 200, await encoding.one(call, record.value))


async def create(call: Call) -> Response:
    """POST to a collection."""
    negotiate_object(call)
    call.begin_write("CreateOptions")
    obj = await bodies.read_object(call)
    written = await creation.create(call.env, call.resource, call.namespace, obj, call.actor)
    return await answer(call, written)


async def update(call: Call) -> Response:
    """PUT of an object or its status."""
    negotiate_object(call)
    call.begin_write("UpdateOptions")
    wanted = await bodies.read_object(call)
    name = call.info.name

    def change(live: Object) -> Object:
        return objects.copy(wanted)

    may_create = call.resource.strategy.create_on_update and not call.info.subresource
    written = await updating.update(
        call.env,
        call.resource,
        call.namespace,
        name,
        change,
        call.actor,
        subresource=call.info.subresource,
        create=(lambda: objects.copy(wanted)) if may_create else None,
    )
    return await answer(call, written)


async def patch(call: Call) -> Response:
    """PATCH of an object or its status."""
    negotiate_object(call)
    call.begin_write("PatchOptions")
    plan = await patching.read_patch(call)
    written = await updating.update(
        call.env,
        call.resource,
        call.namespace,
        call.info.name,
        plan.change,
        call.actor,
        subresource=call.info.subresource,
        create=plan.create,
        tracked=not plan.is_apply,
    )
    return await answer(call, written)


async def delete(call: Call) -> Response:
    """DELETE of an object."""
    negotiate_object(call)
    call.begin_write("DeleteOptions")
    options = deletion.DeleteOptions.from_json(await bodies.delete_options(call))
    written = await deletion.delete(call.env, call.resource, call.namespace, call.info.name, options, call.actor)
    if written.deleted and not call.resource.strategy.returns_deleted:
        return encoding.respond(call, 200, encoding.encode(call.form, success(call, written.obj)))
    code = 202 if not written.deleted and options.orphan_dependents is False else 200
    return encoding.respond(call, code, await encoding.one(call, written.value))


def success(call: Call, obj: Object) -> Object:
    """The Status that says that an object is gone."""
    details: dict[str, str] = {"name": objects.name_of(obj)}
    if call.resource.group:
        details["group"] = call.resource.group
    details["kind"] = call.resource.plural
    details["uid"] = obj["metadata"].get("uid", "")
    call.form = Form(call.form.format)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


async def answer(call: Call, written: Written) -> Response:
    """The answer to a write."""
    call.result = written
    return encoding.respond(call, 201 if written.created else 200, await encoding.one(call, written.value))


__all__ = ["create", "delete", "get", "patch", "status", "update"]
