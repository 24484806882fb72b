"""`Status` errors: the one way in which the API says what went wrong, and its field errors.

Every refusal is a `StatusError`. It carries what a client reads: HTTP code, `reason`, `message`, `details` with one
cause for each field. The constructors below have the names and the words of apimachinery's, because programs and people
match on them (`AlreadyExists`, `pods "web" not found`).

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/ and the API conventions,
"Response Status Kind".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from windlass.errors import WindlassError


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of a refusal: `reason` is a CauseType ("FieldValueInvalid"), `field` a path ("spec.ports[0]")."""

    reason: str
    message: str
    field: str = ""

    def to_json(self) -> dict[str, str]:
        """As it stands in `details.causes`."""
        found = {"reason": self.reason, "message": self.message}
        if self.field:
            found["field"] = self.field
        return found


class StatusError(WindlassError):
    """A refusal as the client sees it.

    Attributes:
        code: the HTTP status.
        reason: the machine-readable reason ("NotFound", "Conflict", …).
        details: `details` of the Status object, without empty fields.
        retry_after: seconds for the header Retry-After, 0 for none.
        continue_token: `metadata.continue`, for an expired list that may go on inconsistently.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: int = 0,
        continue_token: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.retry_after = retry_after
        self.continue_token = continue_token
        if retry_after:
            self.details["retryAfterSeconds"] = retry_after

    def to_json(self) -> dict[str, Any]:
        """The Status object."""
        metadata = {"continue": self.continue_token} if self.continue_token else {}
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status

    def encode(self) -> bytes:
        """The Status object as a body."""
        return orjson.dumps(self.to_json(), option=orjson.OPT_APPEND_NEWLINE)


def _details(group: str, kind: str, name: str, causes: Sequence[Cause] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in (("name", name), ("group", group), ("kind", kind)):
        if value:
            found[key] = value
    if causes:
        found["causes"] = [cause.to_json() for cause in causes]
    return found


def qualified(resource: str, group: str) -> str:
    """`deployments.apps`, or `pods` in the core group: how messages name a resource."""
    return f"{resource}.{group}" if group else resource


def not_found(resource: str, group: str, name: str) -> StatusError:
    """404: the named object does not exist."""
    message = f'{qualified(resource, group)} "{name}" not found'
    return StatusError(404, "NotFound", message, details=_details(group, resource, name))


def already_exists(resource: str, group: str, name: str) -> StatusError:
    """409: an object of that name exists."""
    message = f'{qualified(resource, group)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, details=_details(group, resource, name))


def conflict(resource: str, group: str, name: str, why: str) -> StatusError:
    """409: the object is not as the request expects."""
    message = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return StatusError(409, "Conflict", message, details=_details(group, resource, name))


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def apply_conflict(causes: Sequence[Cause], message: str) -> StatusError:
    """409: fields belong to other managers (server-side apply)."""
    return StatusError(409, "Conflict", message, details=_details("", "", "", causes))


def invalid(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> StatusError:
    """422: the object breaks rules, one cause for each field."""
    texts = [str(error) for error in errors]
    if len(texts) == 1:
        text = texts[0]
    else:
        text = "[" + ", ".join(dict.fromkeys(texts)) + "]"
    message = f'{qualified(kind, group)} "{name}" is invalid' + (f": {text}" if texts else "")
    causes = [Cause(error.cause, error.body(), error.field) for error in errors]
    return StatusError(422, "Invalid", message, details=_details(group, kind, name, causes))


def bad_request(message: str) -> StatusError:
    """400: the request itself is wrong."""
    return StatusError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> StatusError:
    """401: no valid credentials."""
    return StatusError(401, "Unauthorized", message)


def forbidden(resource: str, group: str, name: str, why: str) -> StatusError:
    """403: understood and refused."""
    subject = (
        f'{qualified(resource, group)} "{name}" is forbidden' if name else f"{qualified(resource, group)} is forbidden"
    )
    message = f"{subject}: {why}" if resource else f"forbidden: {why}"
    return StatusError(403, "Forbidden", message, details=_details(group, resource, name))


def method_not_supported(resource: str, group: str, action: str) -> StatusError:
    """405: the resource has no such verb."""
    message = f'{action} is not supported on resources of kind "{qualified(resource, group)}"'
    return StatusError(405, "MethodNotAllowed", message, details=_details(group, resource, ""))


def gone(message: str, *, continue_token: str = "") -> StatusError:
    """410 Expired: the revision asked for is compacted."""
    return StatusError(410, "Expired", message, continue_token=continue_token)


def too_many_requests(message: str, seconds: int) -> StatusError:
    """429: come again later."""
    return StatusError(429, "TooManyRequests", message, retry_after=seconds)


def timeout(resource: str, group: str, message: str, seconds: int = 0) -> StatusError:
    """504: not done in time."""
    return StatusError(
        504, "Timeout", f"Timeout: {message}", details=_details(group, resource, ""), retry_after=seconds
    )


def internal_error(why: str) -> StatusError:
    """500: our own failure."""
    return StatusError(500, "InternalError", f"Internal error occurred: {why}", details={"causes": [{"message": why}]})


def service_unavailable(message: str) -> StatusError:
    """503: a needed part is not there now."""
    return StatusError(503, "ServiceUnavailable", message)


def unsupported_media_type(message: str) -> StatusError:
    """415: the body's format is none of ours."""
    return StatusError(415, "UnsupportedMediaType", message)


def not_acceptable(message: str) -> StatusError:
    """406: none of the formats that the client accepts can be produced."""
    return StatusError(406, "NotAcceptable", message)


def too_large(message: str) -> StatusError:
    """413: the body is larger than the server takes."""
    return StatusError(413, "RequestEntityTooLarge", message)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One rule that one field breaks (field.Error of apimachinery).

    Attributes:
        kind: how the message begins: "Required value", "Invalid value", "Unsupported value", "Forbidden",
            "Duplicate value", "Not found", "Too long", "Too many", "Internal error".
        field: the path, such as `spec.template.spec.containers[0].image`.
        detail: what is wrong, may be empty.
        value: the offending value where the kind shows it.
    """

    kind: str
    field: str
    detail: str
    value: Any = None
    shows_value: bool = False

    @property
    def cause(self) -> str:
        """The CauseType."""
        return _CAUSES[self.kind]

    def body(self) -> str:
        """The message without the field."""
        text = self.kind
        if self.shows_value:
            text += ": " + show_value(self.value)
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body()}"


_CAUSES = {
    "Required value": "FieldValueRequired",
    "Invalid value": "FieldValueInvalid",
    "Unsupported value": "FieldValueNotSupported",
    "Forbidden": "FieldValueForbidden",
    "Duplicate value": "FieldValueDuplicate",
    "Not found": "FieldValueNotFound",
    "Too long": "FieldValueTooLong",
    "Too many": "FieldValueTooMany",
    "Internal error": "InternalError",
    "Type invalid": "FieldValueTypeInvalid",
}


def show_value(value: Any) -> str:
    """A value as apimachinery prints it: strings quoted as Go does, everything else as JSON."""
    if isinstance(value, str):
        return orjson.dumps(value).decode()
    if value is None:
        return "null"
    return orjson.dumps(value).decode()


def required(field: str, detail: str = "") -> FieldError:
    """A value must be given."""
    return FieldError("Required value", field, detail)


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    """The value breaks a rule."""
    return FieldError("Invalid value", field, detail, value, shows_value=True)


def not_supported(field: str, value: Any, supported: Sequence[str]) -> FieldError:
    """The value is none of the allowed ones."""
    detail = "supported values: " + ", ".join(show_value(item) for item in sorted(supported)) if supported else ""
    return FieldError("Unsupported value", field, detail, value, shows_value=True)


def forbidden_field(field: str, detail: str) -> FieldError:
    """The field may not be set here."""
    return FieldError("Forbidden", field, detail)


def duplicate(field: str, value: Any) -> FieldError:
    """The value occurs twice."""
    return FieldError("Duplicate value", field, "", value, shows_value=True)


def field_not_found(field: str, value: Any) -> FieldError:
    """What the value names is not there."""
    return FieldError("Not found", field, "", value, shows_value=True)


def too_long(field: str, maximum: int) -> FieldError:
    """The value is longer than allowed (bytes)."""
    return FieldError("Too long", field, f"may not be more than {maximum} bytes")


def too_many(field: str, count: int, maximum: int) -> FieldError:
    """There are more items than allowed."""
    return FieldError("Too many", field, f"must have at most {maximum} items", count, shows_value=True)
