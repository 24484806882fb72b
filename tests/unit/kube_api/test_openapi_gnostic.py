"""OpenAPI v2 as protobuf, decoded again by hand. Oracle: gnostic's OpenAPIv2.proto."""

from __future__ import annotations

from windlass.kube.openapi import gnostic
from windlass.kube.protobuf import wire


def fields(data: bytes) -> dict[int, list[int | bytes]]:
    found: dict[int, list[int | bytes]] = {}
    for number, _, value in wire.fields(data):
        found.setdefault(number, []).append(value)
    return found


def inner(data: bytes, *path: int) -> bytes:
    for number in path:
        value = fields(data)[number][0]
        assert isinstance(value, bytes)
        data = value
    return data


def test_a_document_is_what_it_was() -> None:
    schema = {
        "type": "object",
        "description": "a thing",
        "required": ["a", "b"],
        "properties": {"a": {"type": "integer", "format": "int32", "default": 3}, "b": {"$ref": "#/definitions/B"}},
        "additionalProperties": {"type": "string"},
        "x-kubernetes-group-version-kind": [{"group": "", "kind": "A", "version": "v1"}],
    }
    operation = {
        "operationId": "read",
        "parameters": [
            {"name": "name", "in": "path", "required": True, "type": "string"},
            {"name": "limit", "in": "query", "type": "integer", "uniqueItems": True},
            {"name": "body", "in": "body", "schema": {"$ref": "#/definitions/A"}},
        ],
        "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/A"}}},
    }
    data = gnostic.encode(
        {
            "swagger": "2.0",
            "info": {"title": "T", "version": "v1"},
            "paths": {"/a": {"get": operation}},
            "definitions": {"A": schema, "B": {"type": "string", "x-kubernetes-int-or-string": True}},
        }
    )
    document = fields(data)
    assert document[1] == [b"2.0"]
    assert fields(inner(data, 2)) == {1: [b"T"], 2: [b"v1"]}
    first, second = (fields(each) for each in fields(inner(data, 9))[1] if isinstance(each, bytes))
    assert (first[1], second[1]) == ([b"A"], [b"B"])
    assert isinstance(first[2][0], bytes)
    found = fields(first[2][0])
    assert found[4] == [b"a thing"] and found[19] == [b"a", b"b"]
    assert inner(first[2][0], 22) == b"\x0a\x06object"
    properties = [each for each in fields(inner(first[2][0], 25))[1] if isinstance(each, bytes)]
    assert [fields(each)[1] for each in properties] == [[b"a"], [b"b"]]
    assert inner(properties[0], 2, 5, 2) == b"3\n"
    assert inner(properties[1], 2, 1) == b"#/definitions/B"
    extension = fields(inner(first[2][0], 31))
    assert extension[1] == [b"x-kubernetes-group-version-kind"]
    assert inner(first[2][0], 31, 2, 2) == b'[{"group":"","kind":"A","version":"v1"}]\n'

    path = inner(data, 8, 2)
    assert fields(path)[1] == [b"/a"]
    got = fields(inner(path, 2, 2))
    assert got[5] == [b"read"]
    of_path, of_query, of_body = (each for each in got[8] if isinstance(each, bytes))
    assert fields(inner(of_path, 1, 2, 4)) == {1: [1], 2: [b"path"], 4: [b"name"], 5: [b"string"]}
    assert fields(inner(of_query, 1, 2, 3)) == {2: [b"query"], 4: [b"limit"], 6: [b"integer"], 20: [1]}
    assert inner(of_body, 1, 1, 5, 1) == b"#/definitions/A"
    response = inner(path, 2, 2, 9, 1)
    assert fields(response)[1] == [b"200"]
    assert inner(response, 2, 1, 2, 1, 1) == b"#/definitions/A"
