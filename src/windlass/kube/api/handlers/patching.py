"""PATCH bodies: by their media type a change of the live object.

application/json-patch+json               RFC 6902
application/merge-patch+json              RFC 7386
application/strategic-merge-patch+json    built-in kinds alone
application/apply-patch+yaml              server-side apply
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import orjson

from windlass.kube.api import objects, status, yamlform
from windlass.kube.api.apply.apply import apply as apply_fields
from windlass.kube.api.handlers import bodies
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.patch import json_patch, merge_patch, strategic
from windlass.kube.api.resource import Object
from windlass.kube.api.shaping import shape
from windlass.kube.schema.conform import TypeMismatch

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class Plan(NamedTuple):
    """What a patch does: to a live object, and where there is none."""

    change: Callable[[Object], Object]
    create: Callable[[], Object] | None = None
    is_apply: bool = False


async def read_patch(call: Call) -> Plan:
    """The plan that a request's body is.

    Raises:
        StatusError: 400, 413, 415, 422.
    """
    type = bodies.media_type(call)
    known = [JSON_PATCH, MERGE_PATCH, *([] if call.resource.is_custom else [STRATEGIC_PATCH]), APPLY_PATCH]
    if type not in known:
        raise status.unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(known)}"
        )
    body = await bodies.read_bytes(call)
    if type == APPLY_PATCH:
        return _apply(call, body)
    if call.options.given("force"):
        error = status.forbidden_field("force", "may not be specified for non-apply patch")
        raise status.invalid("PatchOptions", "meta.k8s.io", "", [error])
    try:
        patch = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise status.bad_request(f"error decoding patch: {error}") from None
    mode = bodies.validation_mode(call)

    def change(live: Object) -> Object:
        if type == JSON_PATCH:
            patched = json_patch.apply(live, orjson.loads(body))
        elif type == MERGE_PATCH:
            patched = merge_patch.apply(live, orjson.loads(body))
        else:
            patched = strategic.apply(live, orjson.loads(body), call.resource.schema)
        return _checked(call, patched, mode)

    if type != JSON_PATCH and not isinstance(patch, dict):
        raise status.bad_request("error decoding patch: json: cannot unmarshal into Go value of type map")
    return Plan(change)


def _checked(call: Call, patched: object, mode: str) -> Object:
    if not isinstance(patched, dict):
        raise status.bad_request("the patch leaves no object")
    bodies.check_kind(patched, call.resource)
    try:
        unknown = shape(patched, call.resource)
    except (status.StatusError, TypeMismatch) as error:
        raise status.StatusError(
            422, "Invalid", f'{call.resource.kind} "{call.info.name}" is invalid: {error}'
        ) from None
    if mode == "Strict" and unknown:
        texts = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise status.StatusError(
            422, "Invalid", f' "" is invalid: patch: Invalid value: strict decoding error: {texts}'
        )
    if mode == "Warn":
        for path in unknown:
            call.actor.warn(f'unknown field "{path}"')
    return patched


def _apply(call: Call, body: bytes) -> Plan:
    resource = call.resource
    manager = call.options.text("fieldManager")
    if not manager:
        error = status.required("fieldManager", "is required for apply patch")
        raise status.invalid("PatchOptions", "meta.k8s.io", "", [error])
    duplicates: list[str] = []
    mode = bodies.validation_mode(call)
    try:
        wanted = yamlform.load(body, duplicates)
    except yamlform.BadYAML as error:
        raise status.bad_request(f"error decoding YAML: {error}") from None
    if not isinstance(wanted, dict):
        raise status.bad_request("error decoding YAML: the configuration is no object")
    bodies.check_kind(wanted, resource)
    bodies.complain(call, resource, mode, shape(wanted, resource), duplicates)
    metadata = objects.meta(wanted)
    if metadata.get("managedFields"):
        raise status.bad_request("metadata.managedFields must be nil")
    metadata.pop("managedFields", None)
    force = call.options.flag("force")
    reset = resource.reset_fields.get(call.info.subresource, ())

    def change(live: Object) -> Object:
        given = {**wanted, "metadata": {**metadata}}
        version = given["metadata"].pop("resourceVersion", None)
        given["metadata"].pop("creationTimestamp", None)
        result = apply_fields(
            live,
            given,
            schema=resource.schema,
            manager=manager,
            api_version=resource.api_version,
            subresource=call.info.subresource,
            now=call.env.timestamp(),
            force=force,
            reset=reset,
        )
        result = objects.copy(result)
        result["metadata"].pop("resourceVersion", None)
        if version:
            result["metadata"]["resourceVersion"] = version
        return result

    def create() -> Object:
        if call.info.subresource:
            raise status.not_found(resource.plural, resource.group, call.info.name)
        namespace = {"namespace": call.namespace} if resource.namespaced else {}
        empty: Object = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": call.info.name, **namespace},
        }
        return change(empty)

    return Plan(change, create, is_apply=True)
