"""list and deletecollection."""

from __future__ import annotations

import asyncio

from windlass.http import Response
from windlass.kube.api import objects, selectors, status
from windlass.kube.api.handlers import bodies, encoding
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.negotiation import negotiate
from windlass.kube.api.operations import deletion, reading
from windlass.kube.api.operations.reading import Selection

LIST_TRANSFORMS = frozenset({"Table", "PartialObjectMetadataList"})
WATCH_TRANSFORMS = frozenset({"Table", "PartialObjectMetadata"})
_DELETES_AT_ONCE = 16
_PAGE = 500


def selection_of(call: Call) -> Selection:
    """The selection that path and selectors of a request name.

    Raises:
        StatusError: 400, a selector is malformed or the kind has no such field.
    """
    options, resource = call.options, call.resource
    name = call.info.name
    matcher = None
    if text := options.text("labelSelector"):
        matcher = selectors.label_matcher(selectors.parse_labels(text))
    rest = []
    namespace = call.namespace
    if text := options.text("fieldSelector"):
        known = (
            resource.strategy.field_labels()
            | {"metadata.name"}
            | ({"metadata.namespace"} if resource.namespaced else set())
        )
        for requirement in selectors.parse_fields(text):
            if requirement.key not in known:
                raise status.bad_request(
                    f'Unable to find "{resource.api_version}, Resource={resource.plural}" that match label selector '
                    f'"{options.text("labelSelector")}", field selector "{text}": '
                    f"field label not supported: {requirement.key}"
                )
            if requirement.key == "metadata.name" and requirement.operator == "In" and not name:
                name = requirement.values[0]
            else:
                rest.append(requirement)
    return Selection(namespace, name, matcher, tuple(rest) + _name_requirement(call, name, namespace))


def _name_requirement(call: Call, name: str, namespace: str) -> tuple[selectors.Requirement, ...]:
    """A name in all namespaces is no key: there it is one more requirement."""
    if name and call.resource.namespaced and not namespace:
        return (selectors.Requirement("metadata.name", "In", (name,)),)
    return ()


async def list_objects(call: Call) -> Response:
    """GET of a collection."""
    call.form = negotiate(call.request.headers.get("accept", ""), LIST_TRANSFORMS, not call.resource.is_custom)
    options = call.options
    version, match = options.text("resourceVersion"), options.text("resourceVersionMatch")
    limit = options.number("limit") or 0
    token = options.text("continue")
    _check_options(call, version, match, token)
    page = await reading.page(
        call.env,
        call.resource,
        selection_of(call),
        version=version,
        match=match,
        limit=max(limit, 0),
        continue_token=token,
    )
    return encoding.respond(call, 200, await encoding.many(call, page))


def _check_options(call: Call, version: str, match: str, token: str) -> None:
    errors = []
    if call.options.given("sendInitialEvents"):
        errors.append(status.forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if match:
        if match not in (reading.EXACT, reading.NOT_OLDER):
            errors.append(status.not_supported("resourceVersionMatch", match, [reading.EXACT, reading.NOT_OLDER, ""]))
        elif token:
            errors.append(
                status.forbidden_field(
                    "resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided"
                )
            )
        elif not version:
            errors.append(
                status.forbidden_field(
                    "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
                )
            )
        elif match == reading.EXACT and version == "0":
            errors.append(
                status.forbidden_field(
                    "resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
                )
            )
    if errors:
        raise status.invalid("ListOptions", "meta.k8s.io", "", errors)


async def delete_collection(call: Call) -> Response:
    """DELETE of a collection: the objects that were there, each deleted as if by its own request."""
    call.form = negotiate(call.request.headers.get("accept", ""), LIST_TRANSFORMS, not call.resource.is_custom)
    call.begin_write("DeleteOptions")
    options = deletion.DeleteOptions.from_json(await bodies.delete_options(call))
    page = await reading.page(
        call.env,
        call.resource,
        selection_of(call),
        version=call.options.text("resourceVersion"),
        limit=max(call.options.number("limit") or 0, 0),
        continue_token=call.options.text("continue"),
    )
    gate = asyncio.Semaphore(_DELETES_AT_ONCE)

    async def delete(value: bytes) -> None:
        obj = objects.decode(value)
        namespace, name = objects.namespace_of(obj), objects.name_of(obj)
        async with gate:
            try:
                await deletion.delete(call.env, call.resource, namespace, name, options, call.actor)
            except status.StatusError as error:
                if error.code != 404:  # somebody was faster
                    raise

    async with asyncio.TaskGroup() as group:
        for record in page.records:
            group.create_task(delete(record.value))
    return encoding.respond(call, 200, await encoding.many(call, page))
