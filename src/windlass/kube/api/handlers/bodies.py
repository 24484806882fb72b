"""Request bodies: JSON, YAML or protobuf into objects, as strict as the client asks.

fieldValidation   Strict   unknown and duplicate fields are errors
                  Warn     … are warnings (what is done where nothing is said)
                  Ignore   … are dropped in silence
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from windlass.http.message import BodyTooLarge
from windlass.kube import protobuf
from windlass.kube.api import status, yamlform
from windlass.kube.api.handlers.call import MAX_BODY, Call
from windlass.kube.api.negotiation import JSON, PROTOBUF, YAML
from windlass.kube.api.resource import Object, Resource
from windlass.kube.api.shaping import shape

_YAML_TYPES = frozenset({YAML, "application/x-yaml", "text/yaml"})
_MODES = ("Ignore", "Strict", "Warn")
_MARGIN = 8
"""The levels that an answer, an event or a review may put around an object that can just be encoded."""


def media_type(call: Call) -> str:
    """The body's media type without parameters; JSON where the client says nothing."""
    return call.request.headers.get("content-type", "").partition(";")[0].strip().lower() or JSON


async def read_bytes(call: Call) -> bytes:
    """The body.

    Raises:
        StatusError: 413.
    """
    try:
        return await call.request.read(MAX_BODY)
    except BodyTooLarge:
        raise status.too_large(f"limit is {MAX_BODY}") from None


def validation_mode(call: Call) -> str:
    """What to do about unknown fields.

    Raises:
        StatusError: 422.
    """
    mode = call.options.text("fieldValidation") or "Warn"
    if mode not in _MODES:
        error = status.not_supported("fieldValidation", mode, ["", *_MODES])
        raise status.invalid("CreateOptions", "meta.k8s.io", "", [error])
    return mode


async def read_object(call: Call, resource: Resource | None = None) -> Object:
    """The object in a request's body, in the version and of the kind that the path names.

    Args:
        resource: what the body is read as, the call's own resource by default.

    Raises:
        StatusError: 400 (malformed, another kind or version, strictly refused), 413, 415.
    """
    resource = resource or call.resource
    body = await read_bytes(call)
    mode = validation_mode(call)
    duplicates: list[str] = []
    obj = call.body = decode(body, media_type(call), None if mode == "Ignore" else duplicates)
    check_kind(obj, resource)
    complain(call, resource, mode, shape(obj, resource), duplicates)
    return obj


def decode(body: bytes, type: str, duplicates: list[str] | None) -> Object:
    """Bytes of a media type into a JSON object. Paths of duplicate keys go to `duplicates`.

    Raises:
        StatusError: 400, 415.
    """
    if type == PROTOBUF:
        return protobuf.decode(body)
    if type in _YAML_TYPES:
        try:
            found = yamlform.load(body, duplicates)
        except yamlform.BadYAML as error:
            raise status.bad_request(f"couldn't get version/kind; json parse error: {error}") from None
    elif type == JSON:
        found = _json(body, duplicates)
    else:
        listed = ", ".join((JSON, YAML, PROTOBUF))
        raise status.unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {listed}"
        )
    if not isinstance(found, dict):
        raise status.bad_request(
            "couldn't get version/kind; json parse error: json: cannot unmarshal into Go value of type struct"
        )
    return found


def _json(body: bytes, duplicates: list[str] | None) -> Any:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise status.bad_request(
                "couldn't get version/kind; json parse error: unexpected end of JSON input"
            ) from None
        raise status.bad_request(f"couldn't get version/kind; json parse error: {error}") from None
    try:
        wrapped = found
        for _ in range(_MARGIN):
            wrapped = [wrapped]
        if orjson.dumps(wrapped)[_MARGIN:-_MARGIN] != body and duplicates is not None:
            # Not as we would write it: only then keys may have been lost.
            _find_duplicates(json.loads(body, object_pairs_hook=_Pairs), "", duplicates)
    except (RecursionError, orjson.JSONEncodeError):
        raise status.bad_request("json: exceeded max depth") from None
    return found


class _Pairs(list[tuple[str, Any]]):
    """An object with all its keys."""


def _find_duplicates(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, child in value:
            where = f"{path}.{name}" if path else name
            if name in seen and where not in found:
                found.append(where)
            seen.add(name)
            _find_duplicates(child, where, found)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _find_duplicates(child, f"{path}[{index}]", found)


def check_kind(obj: Object, resource: Resource) -> None:
    """Whether an object says of itself what the path says of it; where it says nothing, the path is right.

    Raises:
        StatusError: 400.
    """
    version, kind = obj.get("apiVersion"), obj.get("kind")
    if version in (None, ""):
        obj["apiVersion"] = resource.api_version
    elif version != resource.api_version:
        raise status.bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    if kind in (None, ""):
        obj["kind"] = resource.kind
    elif kind != resource.kind:
        raise status.bad_request(
            f"{kind} in version {status.show_value(resource.version)} cannot be handled as a {resource.kind}: "
            f"no kind {status.show_value(kind)} is registered for version "
            f"{status.show_value(resource.api_version)}"
        )


def complain(call: Call, resource: Resource, mode: str, unknown: list[str], duplicates: list[str]) -> None:
    """Refuse or warn about fields that nobody knows or that occur twice.

    Raises:
        StatusError: 400 in strict mode.
    """
    if mode == "Ignore" or not (unknown or duplicates):
        return
    texts = [f'duplicate field "{path}"' for path in duplicates] + [f'unknown field "{path}"' for path in unknown]
    if mode == "Strict":
        raise status.bad_request(
            f"{resource.kind} in version {status.show_value(resource.version)} cannot be handled as a "
            f"{resource.kind}: strict decoding error: {', '.join(texts)}"
        )
    for text in texts:
        call.actor.warn(text)


async def delete_options(call: Call) -> dict[str, Any]:
    """The DeleteOptions of a request: its body, or its query.

    Raises:
        StatusError: 400, 413, 415.
    """
    body = await read_bytes(call)
    options: dict[str, Any] = {}
    if body:
        options = decode(body, media_type(call), None)
        if options.get("kind", "DeleteOptions") != "DeleteOptions":
            raise status.bad_request(
                f"decoded object cannot be converted to DeleteOptions: unexpected kind {options['kind']}"
            )
    query = call.options
    if (seconds := query.number("gracePeriodSeconds")) is not None:
        options.setdefault("gracePeriodSeconds", seconds)
    if policy := query.text("propagationPolicy"):
        options.setdefault("propagationPolicy", policy)
    if query.given("orphanDependents"):
        options.setdefault("orphanDependents", query.flag("orphanDependents"))
    if dry_run := options.get("dryRun"):
        if dry_run != ["All"]:
            error = status.not_supported("dryRun", dry_run, ["All"])
            raise status.invalid("DeleteOptions", "meta.k8s.io", "", [error])
        call.actor.dry_run = True
    return options
