"""finalize of namespaces, approval of certificate requests."""

from __future__ import annotations

from windlass.http import Response
from windlass.kube.api import objects, status
from windlass.kube.api.handlers import bodies, patching, single
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.operations import updating
from windlass.kube.api.resource import Object


async def finalize(call: Call) -> Response:
    """PUT of a namespace's finalizers; the last one's end is the namespace's."""
    single.negotiate_object(call)
    call.begin_write("UpdateOptions")
    wanted = await bodies.read_object(call)

    def change(live: Object) -> Object:
        live["spec"] = {**(live.get("spec") or {}), "finalizers": (wanted.get("spec") or {}).get("finalizers") or []}
        live["metadata"]["resourceVersion"] = objects.meta(wanted).get("resourceVersion") or ""
        return live

    written = await updating.update(
        call.env, call.resource, "", call.info.name, change, call.actor, subresource="finalize", check=False
    )
    return await single.answer(call, written)


async def approve(call: Call) -> Response:
    """GET, PUT and PATCH of a certificate request's decision."""
    if call.info.verb == "get":
        return await single.get(call)
    single.negotiate_object(call)
    call.begin_write("UpdateOptions" if call.info.verb == "update" else "PatchOptions")
    if call.info.verb == "update":
        body = await bodies.read_object(call)
        plan = None
    else:
        plan = await patching.read_patch(call)

    def change(live: Object) -> Object:
        wanted = objects.copy(body) if plan is None else plan.change(objects.copy(live))
        decisions = [
            each
            for each in (wanted.get("status") or {}).get("conditions") or ()
            if each.get("type") in ("Approved", "Denied")
        ]
        if len({each["type"] for each in decisions}) > 1:
            error = status.invalid_value(
                "status.conditions", "", "Approved and Denied conditions are mutually exclusive"
            )
            raise status.invalid("CertificateSigningRequest", "certificates.k8s.io", call.info.name, [error])
        others = [
            each
            for each in (live.get("status") or {}).get("conditions") or ()
            if each.get("type") not in ("Approved", "Denied")
        ]
        now = call.env.timestamp()
        for each in decisions:
            each.setdefault("lastUpdateTime", now)
            each.setdefault("lastTransitionTime", now)
        live["status"] = {**(live.get("status") or {}), "conditions": [*others, *decisions]}
        live["metadata"]["resourceVersion"] = objects.meta(wanted).get("resourceVersion") or ""
        return live

    written = await updating.update(
        call.env,
        call.resource,
        "",
        call.info.name,
        change,
        call.actor,
        subresource="approval",
        check=False,
        admit=True,
    )
    return await single.answer(call, written)
