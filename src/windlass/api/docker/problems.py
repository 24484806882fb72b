"""Errors as clients see them: a status and `{"message"}`. Translated here and nowhere else."""

from __future__ import annotations

import logging
import os
from http import HTTPStatus
from typing import Final

import orjson

from windlass import errors
from windlass.http import Request, Response
from windlass.http.framing import FramingError
from windlass.http.message import BodyTimeoutError, BodyTooLarge

_log = logging.getLogger("windlass.api")

# The first match counts, so special cases stand before their bases.
_STATUS: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (BodyTooLarge, 413),
    (BodyTimeoutError, 408),
    (FramingError, 400),
    (errors.NotFound, 404),
    (errors.InvalidParameter, 400),
    (errors.Conflict, 409),
    (errors.Unauthorized, 401),
    (errors.Unavailable, 503),
    (errors.Forbidden, 403),
    (errors.NotModified, 304),
    (errors.NotImplementedByEngine, 501),
)


def status_of(error: BaseException) -> int:
    """The status that says what `error` means for the client."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def message_of(error: BaseException) -> str:
    """What the client reads."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, TimeoutError):
        name = error.filename
        where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) and name else ""
        return f"{where}{error.strerror.lower()}"
    return str(error) or type(error).__name__


def json_error(status: int, message: str) -> Response:
    """An error answer."""
    if status == HTTPStatus.NOT_MODIFIED:
        return Response(status)  # carries no body (RFC 9110, section 15.4.5)
    return Response(status, JSON, orjson.dumps({"message": message}) + b"\n")


def answer(request: Request, error: Exception) -> Response:
    """The answer for an exception of a handler; failures of ours are logged."""
    status, message = status_of(error), message_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        unexpected = not isinstance(error, errors.WindlassError | OSError)
        _log.error(
            "Handler for %s %s returned error: %s",
            request.method,
            request.target.partition("?")[0],
            message,
            exc_info=error if unexpected else None,
        )
    return json_error(status, message)


JSON: Final = (("Content-Type", "application/json"),)
