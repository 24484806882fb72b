"""JSON bodies, read as strictly as dockerd reads them, refused with its words."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from windlass.api.docker.gojson import EmptyDocumentError, GoSyntaxError, first_value_end
from windlass.errors import InvalidParameter
from windlass.http import Request

BODY_LIMIT: Final = 8 * 1024 * 1024  # bytes of a JSON body; the largest honest ones are some hundred kilobytes
_EXPLAIN_LIMIT: Final = 256 * 1024  # above, looking for the reason would keep the loop too long

_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def media_type(text: str) -> str:
    """The type of a Content-Type header, without its parameters. Raises `InvalidParameter`."""
    kind, separator, parameters = text.partition(";")
    kind = kind.strip().lower()
    problem = ""
    if not kind:
        problem = "mime: no media type"
    elif kind.count("/") > 1 or not all(part and set(part) <= _TOKEN for part in kind.split("/")):
        problem = "mime: expected token after slash" if "/" in kind else "mime: expected slash after first token"
    elif separator and parameters.strip() and "=" not in parameters:
        problem = "mime: invalid media parameter"
    if problem:
        raise InvalidParameter(f"malformed Content-Type header ({text}): {problem}")
    return kind


def check_json_type(request: Request) -> None:
    """A body must say that it is JSON; without a body nothing must be said. Raises `InvalidParameter`."""
    text = request.headers.get("content-type", "")
    if not text and not request.has_body:
        return
    if media_type(text) != "application/json":
        raise InvalidParameter(f"unsupported Content-Type header ({text}): must be 'application/json'")


def parse(data: bytes) -> Any:
    """The JSON value of a body. Raises `InvalidParameter` with the message of Go's decoder."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _second_look(data, str(error))


def _second_look(data: bytes, reason: str) -> Any:
    """Say why, or accept what Go accepts and orjson does not: a stray end bracket behind the value, bad UTF-8."""
    if len(data) > _EXPLAIN_LIMIT:
        raise InvalidParameter(f"invalid JSON: {reason}")
    try:
        end = first_value_end(data)
    except EmptyDocumentError:
        raise InvalidParameter("invalid JSON: got EOF while reading request body") from None
    except GoSyntaxError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None
    rest = data[end:].strip(b" \t\r\n")
    if rest and rest[:1] not in b"]}":
        raise InvalidParameter("unexpected content after JSON")
    try:
        value = json.loads(data[:end].decode("utf-8", "replace"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise InvalidParameter(f"invalid JSON: {reason}") from None
    return _without_surrogates(value)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _without_surrogates(value: Any) -> Any:
    """Half of a surrogate pair becomes the replacement character, as in Go."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


async def read_object(request: Request, type_name: str, *, required: bool = False) -> dict[str, Any]:
    """The JSON object in the body; `{}` when there is no body, unless it is `required`.

    `type_name` is how dockerd calls the type that was expected. Raises `InvalidParameter`, `BodyTooLarge`.
    """
    check_json_type(request)
    if not request.has_body and not required:
        return {}
    value = parse(await request.read(BODY_LIMIT))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidParameter(f"invalid JSON: json: cannot unmarshal {_kind(value)} into Go value of type {type_name}")
    return value


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "number"
