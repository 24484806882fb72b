"""OpenAPI v2 as protobuf: the form in which older clients, and kubectl for lists, want the document.

The messages are those of gnostic's OpenAPIv2.proto; each field is named here as it is in JSON. What is free there (a
default, an extension) is a text of YAML: JSON is one.

Source: https://github.com/google/gnostic/blob/main/openapiv2/OpenAPIv2.proto
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from windlass.kube.protobuf import wire

MEDIA_TYPE: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
CONTENT_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

Encode = Callable[[Any], bytes]


def encode(document: Mapping[str, Any]) -> bytes:
    """A document of OpenAPI v2 as a message `Document`."""
    return _message(_DOCUMENT, document)


# Values ----------------------------------------------------------------------------------------------------------


def _text(value: Any) -> bytes:
    return str(value).encode()


def _any(value: Any) -> bytes:
    return wire.put_bytes(2, orjson.dumps(value) + b"\n")


def _named(value: Encode) -> Encode:
    """A map as a list of names with values."""

    def encode_pair(pair: tuple[str, Any]) -> bytes:
        return wire.put_bytes(1, pair[0].encode()) + wire.put_bytes(2, value(pair[1]))

    return encode_pair


def _of(fields: Mapping[str, tuple[int, str, Any]]) -> Encode:
    return lambda value: _message(fields, value)


def _message(fields: Mapping[str, tuple[int, str, Any]], value: Mapping[str, Any]) -> bytes:
    """A message: its fields by number, as proto3 leaves out what is empty."""
    parts: list[tuple[int, bytes]] = []
    for name, found in value.items():
        number, kind, encode_one = fields.get(name) or (0, "", None)
        if not number:
            if name.startswith("x-") and "x-" in fields:
                number = fields["x-"][0]
                parts.append((number, wire.put_bytes(number, _named(_any)((name, found)))))
            continue
        parts.append((number, _field(number, kind, encode_one, found)))
    return b"".join(part for _, part in sorted(parts, key=lambda each: each[0]))


def _field(number: int, kind: str, encode_one: Any, value: Any) -> bytes:
    match kind:
        case "text":
            return wire.put_bytes(number, _text(value)) if value else b""
        case "flag":
            return wire.put_number(number, 1) if value else b""
        case "integer":
            return wire.put_number(number, int(value)) if value else b""
        case "number":
            return wire.put_double(number, value) if value else b""
        case "one":
            return wire.put_bytes(number, encode_one(value))
        case "map":
            return b"".join(wire.put_bytes(number, encode_one(pair)) for pair in value.items())
        case _:
            return b"".join(wire.put_bytes(number, encode_one(each)) for each in value)


def _wrapped(number: int, inner: Encode) -> Encode:
    """A message with one field."""
    return lambda value: wire.put_bytes(number, inner(value))


def _strings(values: str | Iterable[str]) -> bytes:
    return b"".join(wire.put_bytes(1, _text(each)) for each in ([values] if isinstance(values, str) else values))


# Messages --------------------------------------------------------------------------------------------------------

_SCHEMA: Final[dict[str, tuple[int, str, Any]]] = {
    "$ref": (1, "text", None),
    "format": (2, "text", None),
    "title": (3, "text", None),
    "description": (4, "text", None),
    "default": (5, "one", _any),
    "multipleOf": (6, "number", None),
    "maximum": (7, "number", None),
    "exclusiveMaximum": (8, "flag", None),
    "minimum": (9, "number", None),
    "exclusiveMinimum": (10, "flag", None),
    "maxLength": (11, "integer", None),
    "minLength": (12, "integer", None),
    "pattern": (13, "text", None),
    "maxItems": (14, "integer", None),
    "minItems": (15, "integer", None),
    "uniqueItems": (16, "flag", None),
    "maxProperties": (17, "integer", None),
    "minProperties": (18, "integer", None),
    "required": (19, "list", _text),
    "enum": (20, "list", _any),
    "type": (22, "one", _strings),
    "discriminator": (26, "text", None),
    "readOnly": (27, "flag", None),
    "example": (30, "one", _any),
    "x-": (31, "list", None),
}
_schema = _of(_SCHEMA)


def _additional(value: Any) -> bytes:
    if isinstance(value, bool):
        return wire.put_number(2, int(value))
    return wire.put_bytes(1, _schema(value))


def _items(value: Any) -> bytes:
    return b"".join(wire.put_bytes(1, _schema(each)) for each in (value if isinstance(value, list) else [value]))


_SCHEMA["additionalProperties"] = (21, "one", _additional)
_SCHEMA["items"] = (23, "one", _items)
_SCHEMA["allOf"] = (24, "list", _schema)
_SCHEMA["properties"] = (
    25,
    "one",
    lambda value: b"".join(wire.put_bytes(1, _named(_schema)(pair)) for pair in value.items()),
)


def _parameter_fields(first: int) -> dict[str, tuple[int, str, Any]]:
    """A parameter that is no body; those of queries may be empty, which moves all other fields by one."""
    names = {
        "required": "flag",
        "in": "text",
        "description": "text",
        "name": "text",
    }
    found: dict[str, tuple[int, str, Any]] = {name: (i, kind, None) for i, (name, kind) in enumerate(names.items(), 1)}
    found |= {
        "type": (first, "text", None),
        "format": (first + 1, "text", None),
        "collectionFormat": (first + 3, "text", None),
        "default": (first + 4, "one", _any),
        "maximum": (first + 5, "number", None),
        "minimum": (first + 7, "number", None),
        "pattern": (first + 11, "text", None),
        "uniqueItems": (first + 14, "flag", None),
        "enum": (first + 15, "list", _any),
        "x-": (first + 17, "list", None),
    }
    return found


_BODY: Final[dict[str, tuple[int, str, Any]]] = {
    "description": (1, "text", None),
    "name": (2, "text", None),
    "in": (3, "text", None),
    "required": (4, "flag", None),
    "schema": (5, "one", _schema),
    "x-": (6, "list", None),
}
_PLACES: Final = {
    "header": (1, _of(_parameter_fields(5))),
    "formData": (2, _of(_parameter_fields(6))),
    "query": (3, _of(_parameter_fields(6))),
    "path": (4, _of(_parameter_fields(5))),
}


def _parameter(value: Mapping[str, Any]) -> bytes:
    if "$ref" in value:
        return wire.put_bytes(2, wire.put_bytes(1, _text(value["$ref"])))
    if value["in"] == "body":
        return wire.put_bytes(1, wire.put_bytes(1, _message(_BODY, value)))
    number, encode_one = _PLACES[value["in"]]
    return wire.put_bytes(1, wire.put_bytes(2, wire.put_bytes(number, encode_one(value))))


_RESPONSE: Final[dict[str, tuple[int, str, Any]]] = {
    "description": (1, "text", None),
    "schema": (2, "one", _wrapped(1, _schema)),
    "x-": (5, "list", None),
}


def _responses(value: Mapping[str, Any]) -> bytes:
    one = _named(_wrapped(1, _of(_RESPONSE)))
    return b"".join(wire.put_bytes(1, one(pair)) for pair in value.items())


def _security(value: Mapping[str, Any]) -> bytes:
    return b"".join(wire.put_bytes(1, _named(_strings)(pair)) for pair in value.items())


_OPERATION: Final[dict[str, tuple[int, str, Any]]] = {
    "tags": (1, "list", _text),
    "summary": (2, "text", None),
    "description": (3, "text", None),
    "operationId": (5, "text", None),
    "produces": (6, "list", _text),
    "consumes": (7, "list", _text),
    "parameters": (8, "list", _parameter),
    "responses": (9, "one", _responses),
    "schemes": (10, "list", _text),
    "deprecated": (11, "flag", None),
    "security": (12, "list", _security),
    "x-": (13, "list", None),
}
_operation = _of(_OPERATION)
_PATH: Final[dict[str, tuple[int, str, Any]]] = {
    "$ref": (1, "text", None),
    "get": (2, "one", _operation),
    "put": (3, "one", _operation),
    "post": (4, "one", _operation),
    "delete": (5, "one", _operation),
    "options": (6, "one", _operation),
    "head": (7, "one", _operation),
    "patch": (8, "one", _operation),
    "parameters": (9, "list", _parameter),
    "x-": (10, "list", None),
}
_INFO: Final[dict[str, tuple[int, str, Any]]] = {
    "title": (1, "text", None),
    "version": (2, "text", None),
    "description": (3, "text", None),
}
_API_KEY: Final[dict[str, tuple[int, str, Any]]] = {
    "type": (1, "text", None),
    "name": (2, "text", None),
    "in": (3, "text", None),
    "description": (4, "text", None),
}


def _map(number: int, one: Encode) -> Encode:
    pair = _named(one)
    return lambda value: b"".join(wire.put_bytes(number, pair(each)) for each in value.items())


_DOCUMENT: Final[dict[str, tuple[int, str, Any]]] = {
    "swagger": (1, "text", None),
    "info": (2, "one", _of(_INFO)),
    "schemes": (5, "list", _text),
    "consumes": (6, "list", _text),
    "produces": (7, "list", _text),
    "paths": (8, "one", _map(2, _of(_PATH))),
    "definitions": (9, "one", _map(1, _schema)),
    "security": (12, "list", _security),
    "securityDefinitions": (13, "one", _map(1, _wrapped(2, _of(_API_KEY)))),
    "x-": (16, "list", None),
}
