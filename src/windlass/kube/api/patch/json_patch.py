"""JSON patch (RFC 6902) with the limits and words of the API server.

Source: https://www.rfc-editor.org/rfc/rfc6902, https://www.rfc-editor.org/rfc/rfc6901 (pointers)
"""

from __future__ import annotations

from typing import Any

import orjson

from windlass.kube.api import status

_MOST_OPERATIONS = 10_000
_MOST_BYTES = 3 * 1024 * 1024  # of all values that copies add


class _Missing(Exception):  # a signal within this module
    """A path leads nowhere."""


def apply(document: Any, operations: Any) -> Any:
    """The document after all operations; it is changed in place where its root stays.

    Raises:
        StatusError: 400 (no patch), 413 (too many operations), 422 (an operation fails).
    """
    if not isinstance(operations, list):
        raise status.bad_request("error decoding patch: json: cannot unmarshal into Go value of type jsonpatch.Patch")
    if len(operations) > _MOST_OPERATIONS:
        raise status.too_large(
            f"The allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}, got {len(operations)}"
        )
    copied = 0
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise status.bad_request("error decoding patch: an operation is an object with op and path")
        name, path = operation.get("op"), operation["path"]
        try:
            if name == "copy":
                value = _get(document, _pointer(operation.get("from")))
                text = orjson.dumps(value)
                copied += len(text)
                if copied > _MOST_BYTES:
                    raise status.too_large(
                        "Unable to complete copy, the accumulated size increase of copy is too large"
                    )
                document = _add(document, _pointer(path), orjson.loads(text))
            elif name == "move":
                source = _pointer(operation.get("from"))
                value = _get(document, source)
                document = _add(_remove(document, source), _pointer(path), value)
            elif name == "add":
                document = _add(document, _pointer(path), _value(operation))
            elif name == "remove":
                document = _remove(document, _pointer(path))
            elif name == "replace":
                _get(document, _pointer(path))
                document = _add(_remove(document, _pointer(path)), _pointer(path), _value(operation))
            elif name == "test":
                _test(document, path, operation)
            else:
                raise status.bad_request(f"Unexpected kind: {name}")
        except _Missing as error:
            raise _unprocessable(f"{name} operation does not apply: doc is missing {error}: missing value") from None
        except RecursionError:
            raise status.bad_request("the patch is nested too deeply") from None
    return document


def _unprocessable(message: str) -> status.StatusError:
    return status.StatusError(
        422, "Invalid", f"the server rejected our request due to an error in our request: {message}"
    )


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise _unprocessable(f"{operation['op']} operation has no value: missing value")
    return operation["value"]


def _test(document: Any, path: str, operation: dict[str, Any]) -> None:
    try:
        found = _get(document, _pointer(path))
    except _Missing:
        found = None  # an absent value equals null, as upstream's library has it
    wanted = operation.get("value")
    if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
        raise _unprocessable(f"testing value {path} failed: test failed")


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str):
        raise status.bad_request("error decoding patch: a pointer is a string")
    if not text:
        return []
    if not text.startswith("/"):
        raise _Missing(f"path: {text}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _index(items: list[Any], part: str, *, end: int) -> int:
    if not (part.isascii() and part.lstrip("-").isdigit() and len(part) < 10) or (len(part) > 1 and part[0] == "0"):
        raise _Missing(f"key: {part}")
    number = int(part)
    if number < 0:
        number += len(items)
    if not 0 <= number < end:
        raise _unprocessable(f"Unable to access invalid index: {part}: invalid index referenced")
    return number


def _get(document: Any, pointer: list[str]) -> Any:
    for part in pointer:
        if isinstance(document, dict):
            if part not in document:
                raise _Missing(f"key: {part}")
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(document, part, end=len(document))]
        else:
            raise _Missing(f"path: /{'/'.join(pointer)}")
    return document


def _add(document: Any, pointer: list[str], value: Any) -> Any:
    if not pointer:
        return value
    parent = _get(document, pointer[:-1])
    part = pointer[-1]
    if isinstance(parent, dict):
        parent[part] = value
    elif isinstance(parent, list):
        if part == "-":
            parent.append(value)
        else:
            parent.insert(_index(parent, part, end=len(parent) + 1), value)
    else:
        raise _Missing(f"path: /{'/'.join(pointer)}")
    return document


def _remove(document: Any, pointer: list[str]) -> Any:
    if not pointer:
        return None
    parent = _get(document, pointer[:-1])
    part = pointer[-1]
    if isinstance(parent, dict):
        if part not in parent:
            raise _Missing(f"key: {part}")
        del parent[part]
    elif isinstance(parent, list):
        del parent[_index(parent, part, end=len(parent))]
    else:
        raise _Missing(f"path: /{'/'.join(pointer)}")
    return document
