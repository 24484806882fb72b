"""scale: replicas of a workload or custom resource through one small kind, autoscaling/v1 Scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from windlass.http import Response
from windlass.kube.api import objects, selectors, status
from windlass.kube.api.handlers import bodies, encoding, patching
from windlass.kube.api.handlers.call import Call
from windlass.kube.api.negotiation import negotiate
from windlass.kube.api.operations import reading, updating
from windlass.kube.api.operations.environment import convert
from windlass.kube.api.patch import json_patch, merge_patch
from windlass.kube.api.resource import Object, ScalePaths


def _at(obj: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = obj
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def scale_of(obj: Object, paths: ScalePaths, *, is_custom: bool) -> Object:
    """The Scale of an object."""
    metadata = obj["metadata"]
    kept = {
        name: metadata[name]
        for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if name in metadata
    }
    replicas = _at(obj, paths.spec_replicas)
    found: Object = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": kept,
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": _at(obj, paths.status_replicas) or 0},
    }
    selector = _at(obj, paths.selector) if paths.selector else None
    if isinstance(selector, str):
        found["status"]["selector"] = selector
    elif isinstance(selector, Mapping):
        if not is_custom and not {"matchLabels", "matchExpressions"} & selector.keys():
            selector = {"matchLabels": selector}
        found["status"]["selector"] = selectors.format_labels(selectors.from_label_selector(selector) or [])
    return found


async def handle(call: Call) -> Response:
    """GET, PUT or PATCH of a scale.

    Raises:
        StatusError
    """
    resource = call.resource
    assert resource.scale is not None
    paths = resource.scale
    call.form = negotiate(call.request.headers.get("accept", ""), frozenset(), not resource.is_custom)
    if call.info.verb == "get":
        obj = await reading.find_object(call.env, resource, call.namespace, call.info.name)
        return _answer(call, obj)
    call.begin_write("UpdateOptions" if call.info.verb == "update" else "PatchOptions")
    body = await bodies.read_bytes(call)
    type = bodies.media_type(call)

    def change(live: Object) -> Object:
        scale = scale_of(live, paths, is_custom=resource.is_custom)
        if call.info.verb == "update":
            wanted = bodies.decode(body, type, None)
        elif type == patching.JSON_PATCH:
            wanted = json_patch.apply(scale, orjson.loads(body))
        elif type in (patching.MERGE_PATCH, patching.STRATEGIC_PATCH):
            wanted = merge_patch.apply(scale, orjson.loads(body))
        elif type == patching.APPLY_PATCH:
            wanted = merge_patch.apply(scale, bodies.decode(body, "application/yaml", None))
        else:
            raise status.unsupported_media_type(f"the body of the request was in an unknown format: {type}")
        return _scaled(call, live, wanted, paths)

    written = await updating.update(
        call.env, resource, call.namespace, call.info.name, change, call.actor, subresource="scale"
    )
    call.result = written
    return _answer(call, await convert(resource, objects.decode(written.value)))


def _scaled(call: Call, live: Object, wanted: Object, paths: ScalePaths) -> Object:
    metadata = wanted.get("metadata") or {}
    if metadata.get("name") not in (None, "", call.info.name):
        raise status.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.info.name})"
        )
    replicas = (wanted.get("spec") or {}).get("replicas") or 0
    errors = []
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise status.bad_request("json: cannot unmarshal into Go struct field ScaleSpec.spec.replicas of type int32")
    if replicas < 0:
        errors.append(status.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0"))
    if errors:
        raise status.invalid("Scale", "autoscaling", call.info.name, errors)
    place: Any = live
    for name in paths.spec_replicas[:-1]:
        place = place.setdefault(name, {})
    place[paths.spec_replicas[-1]] = replicas
    for name in ("resourceVersion", "uid"):
        if metadata.get(name):
            live["metadata"][name] = metadata[name]
        elif name == "resourceVersion":
            live["metadata"].pop(name, None)
    return live


def _answer(call: Call, obj: Object) -> Response:
    assert call.resource.scale is not None
    scale = scale_of(obj, call.resource.scale, is_custom=call.resource.is_custom)
    return encoding.respond(call, 200, encoding.encode(call.form, scale))
