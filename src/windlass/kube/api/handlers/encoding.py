"""Answers in the form that was negotiated: the stored bytes where they are the answer, else decoded and encoded anew.

    JSON           the stored bytes; a list is a join of them
    Table          columns by the resource's printer
    PartialObjectMetadata
    protobuf, YAML

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from windlass.http import Response
from windlass.kube import protobuf
from windlass.kube.api import objects, yamlform
from windlass.kube.api.negotiation import JSON, PROTOBUF, YAML, Form
from windlass.kube.api.operations.environment import convert
from windlass.kube.api.printers import table
from windlass.kube.api.resource import Object, Resource
from windlass.kube.api.status import StatusError

if TYPE_CHECKING:
    from windlass.kube.api.handlers.call import Call

INITIAL_END = "k8s.io/initial-events-end"


def respond(call: Call, code: int, body: bytes) -> Response:
    """An answer in the call's form with the headers that arose on the way."""
    headers = [("Content-Type", call.form.content_type), *call.extras]
    headers += [("Warning", f"299 - {_quoted(text)}") for text in call.actor.warnings]
    return Response(code, headers, body)


def _quoted(text: str) -> str:
    """A quoted-string of a header (RFC 9110, section 5.6.4), without line breaks."""
    flat = " ".join(text.split())
    return '"' + flat.replace("\\", "\\\\").replace('"', '\\"') + '"'


def encode(form: Form, obj: Object) -> bytes:
    """Any object (no Table, no metadata alone) in a form's format."""
    if form.format == JSON:
        if form.pretty:
            return orjson.dumps(obj, option=orjson.OPT_INDENT_2) + b"\n"
        return orjson.dumps(obj)
    if form.format == YAML:
        return yamlform.dump(obj)
    return protobuf.encode(obj)


async def one(call: Call, value: bytes, resource: Resource | None = None) -> bytes:
    """A stored object in the call's form."""
    resource = resource or call.resource
    form = call.form
    if form.is_plain and resource.reads_plain:
        return value
    obj = await convert(resource, objects.decode(value))
    return shaped(call, resource, obj)


def shaped(call: Call, resource: Resource, obj: Object) -> bytes:
    """An object in the call's form."""
    form = call.form
    if form.kind == "Table":
        include = call.options.text("includeObject")
        return encode(form, table.of_objects(resource, [obj], time.time(), include=include, version=form.version))
    if form.kind:
        return encode(form, table.partial_metadata(obj, form.version))
    return encode(form, obj)


async def many(call: Call, page: Any) -> bytes:
    """A page of a list in the call's form."""
    resource, form = call.resource, call.form
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
    if page.continue_token:
        metadata["continue"] = page.continue_token
        if page.remaining is not None:
            metadata["remainingItemCount"] = page.remaining
    values = [record.value for record in page.records]
    if form.is_plain and resource.reads_plain:
        head = {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata}
        return b"".join((orjson.dumps(head)[:-1], b',"items":[', b",".join(values), b"]}"))
    items = await converted(resource, values)
    if form.kind == "Table":
        include = call.options.text("includeObject")
        found = table.of_objects(resource, items, time.time(), include=include, version=form.version)
        found["metadata"] = metadata
        return encode(form, found)
    if form.kind:
        return encode(form, table.partial_list(items, metadata, form.version))
    body = {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata, "items": items}
    return encode(form, body)


async def converted(resource: Resource, values: Sequence[bytes]) -> list[Object]:
    """Stored objects in the version of `resource`."""
    items = [objects.decode(value) for value in values]
    others = [index for index, obj in enumerate(items) if obj.get("apiVersion") != resource.api_version]
    if others and resource.convert is not None:
        changed = resource.convert([items[index] for index in others], resource)
        if not isinstance(changed, list):
            changed = await changed
        for index, obj in zip(others, changed, strict=True):
            items[index] = obj
    if resource.on_read is not None:
        for obj in items:
            resource.on_read(obj)
    return items


def json_frame(type: str, value: bytes) -> bytes:
    """One watch event as a line of JSON."""
    return b'{"type":"%s","object":%s}\n' % (type.encode(), value)


def stream_type(form: Form) -> str:
    """The media type of a watch's answer."""
    return f"{PROTOBUF};stream=watch" if form.format == PROTOBUF else form.content_type


class StreamEncoder:
    """Frames of one watch. `is_shared`: its frames are the same for all who watch in this form."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._resource = call.resource
        self._form = call.form
        self._has_columns = False
        self.is_shared = call.form.is_plain and call.resource.reads_plain

    async def frames(self, changes: Sequence[tuple[str, bytes]]) -> bytes:
        """The frames of some changes: types and stored bytes."""
        if self.is_shared:
            return b"".join([json_frame(type, value) for type, value in changes])
        items = await converted(self._resource, [value for _, value in changes])
        return b"".join([self._frame(type, obj) for (type, _), obj in zip(changes, items, strict=True)])

    def _frame(self, type: str, obj: Object) -> bytes:
        form = self._form
        if form.kind == "Table":
            include = self._call.options.text("includeObject")
            obj = table.of_objects(self._resource, [obj], time.time(), include=include, version=form.version)
            if self._has_columns:
                obj["columnDefinitions"] = None
            self._has_columns = True
        elif form.kind:
            obj = table.partial_metadata(obj, form.version)
        return self._event(type, obj)

    def _event(self, type: str, obj: Object) -> bytes:
        if self._form.format == PROTOBUF:
            return protobuf.encode_event(type, obj)
        if self._form.format == YAML:
            return b"---\n" + yamlform.dump({"type": type, "object": obj})
        return json_frame(type, orjson.dumps(obj))

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        """A frame that says up to which revision the watcher has seen everything."""
        metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {INITIAL_END: "true"}
        obj: Object = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}
        if self._form.kind == "Table":
            obj = {
                "kind": "Table",
                "apiVersion": f"meta.k8s.io/{self._form.version}",
                "metadata": metadata,
                "columnDefinitions": None,
                "rows": [],
            }
        elif self._form.kind:
            obj["kind"], obj["apiVersion"] = "PartialObjectMetadata", f"meta.k8s.io/{self._form.version}"
        elif self._form.format == PROTOBUF:
            del metadata["creationTimestamp"]
        return self._event("BOOKMARK", obj)

    def error(self, error: StatusError) -> bytes:
        """The frame that ends a stream."""
        return self._event("ERROR", error.to_json())
