"""What goes wrong between us and a registry, with the texts that dockerd's users know.

    ApiError             the registry answered with its error document: {"errors": [{"code", "message", "detail"}]}
    UnexpectedAnswer     an answer that is not what the protocol says
    ConnectionFailure    no answer: name, connection, TLS, time
    AuthorizationFailure no token or no credentials, before the request itself was sent

`for_pull` and `for_push` translate once, at the edge of this room, into the project's typed errors.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import orjson

from windlass.errors import InvalidParameter, NotFound, SystemFailure, Unauthorized, WindlassError
from windlass.oci.reference import Reference

KNOWN_CODES: Final = {
    "UNKNOWN": "unknown error",
    "UNSUPPORTED": "The operation is unsupported.",
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "UNAVAILABLE": "service unavailable",
    "TOOMANYREQUESTS": "too many requests",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "SIZE_INVALID": "provided length did not match content length",
    "NAME_INVALID": "invalid repository name",
    "TAG_INVALID": "manifest tag did not match URI",
    "NAME_UNKNOWN": "repository name not known to registry",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_UNVERIFIED": "manifest failed signature verification",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "BLOB_UPLOAD_INVALID": "blob upload invalid",
    "RANGE_INVALID": "invalid content range",
    "PAGINATION_NUMBER_INVALID": "invalid number of results requested",
}
"""Error codes of the distribution specification and their default messages."""

_MAX_QUOTED: Final = 1000
_ADDRESS: Final = re.compile(r"\('([^']+)', (\d+)")
_SSL_REASON: Final = re.compile(r"\[SSL: ([A-Z0-9_]+)\]")
_UNTRUSTED: Final = frozenset({18, 19, 20, 21})
_EXPIRED: Final = frozenset({9, 10})
_WRONG_NAME: Final = frozenset({62, 64})


class RegistryFailure(SystemFailure):
    """Base of this room's failures."""


class ApiError(RegistryFailure):
    """The registry said no, in its own words; `code` is upper case, as in `KNOWN_CODES`."""

    def __init__(self, status: int, entries: Sequence[tuple[str, str]]) -> None:
        self.status = status
        self.entries = [(code, message or KNOWN_CODES[code]) for code, message in entries]
        self.code, self.message = self.entries[0]
        texts = [f"{code.lower().replace('_', ' ')}: {message}" for code, message in self.entries]
        super().__init__(texts[0] if len(texts) == 1 else "errors:\n" + "\n".join(texts) + "\n")


class UnexpectedAnswer(RegistryFailure):
    """The registry's answer is not of the protocol."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ConnectionFailure(RegistryFailure):
    """No answer at all; a retry may help."""


class AuthorizationFailure(RegistryFailure):
    """We could not get permission to send the request; `cause` is the bare reason."""

    def __init__(self, request: str, cause: WindlassError) -> None:
        super().__init__(f"{request}: {cause}")
        self.cause = cause


class VerificationFailure(RegistryFailure):
    """Content is not what its digest or size says: the registry or the way to it is broken or hostile."""


class UnsupportedContent(InvalidParameter):
    """The content is well-formed, but no image that this engine runs."""


def failure_of_answer(status: int, body: bytes, content_type: str, challenges: Sequence[Any] = ()) -> RegistryFailure:
    """The failure that an unsuccessful answer stands for. `challenges` are those of `WWW-Authenticate`."""
    if not 400 <= status < 500:
        return UnexpectedAnswer(f"received unexpected HTTP status: {status} {_phrase(status)}", status=status)
    for challenge in challenges:
        code = {"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}.get(
            challenge.parameters.get("error", "") if challenge.scheme == "bearer" else ""
        )
        if code:
            rest = _failure_of_document(status, body, content_type)
            first = (code, str(challenge.parameters.get("error_description", "")))
            return ApiError(status, [first, *(rest.entries if isinstance(rest, ApiError) else [])])
    failure = _failure_of_document(status, body, content_type)
    if status == HTTPStatus.UNAUTHORIZED and isinstance(failure, UnexpectedAnswer):
        return ApiError(status, [("UNAUTHORIZED", "")])
    return failure


def failure_of_connection(method: str, url: str, error: BaseException) -> ConnectionFailure:
    """Put the HTTP library's exception in the words of Go's `net/http`, which tools and people search for."""
    return ConnectionFailure(f"{describe_request(method, url)}: {_cause(error)}")


def describe_request(method: str, url: str) -> str:
    """`Get "https://…"`."""
    return f'{method.capitalize()} "{url}"'


def for_pull(error: WindlassError, reference: Reference) -> WindlassError:
    """The error that the client of a pull reads."""
    if not isinstance(error, ApiError):
        return error
    name = reference.familiar_name()
    first = f"{error.code.lower().replace('_', ' ')}: {error.message}"
    match error.code:
        case "DENIED":
            text = f"pull access denied for {name}, repository does not exist or may require 'docker login': {first}"
            return NotFound(text)
        case "MANIFEST_UNKNOWN":
            return NotFound(f"manifest for {reference.familiar()} not found: {first}")
        case "NAME_UNKNOWN":
            return NotFound(f"repository {name} not found: {first}")
        case "UNAUTHORIZED":
            return Unauthorized(first)
    return SystemFailure(first)


def for_push(error: WindlassError) -> WindlassError:
    """The error that the client of a push reads: authorization without the request around it."""
    return error.cause if isinstance(error, AuthorizationFailure) else error


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _failure_of_document(status: int, body: bytes, content_type: str) -> RegistryFailure:
    text = body.decode("utf-8", "replace")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in ("application/json", "application/vnd.api+json"):
        code = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}.get(status, "UNKNOWN")
        return ApiError(status, [(code, text.strip()[:_MAX_QUOTED])])
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _unparsed(status, str(error), text)
    if not isinstance(document, dict):
        return _unparsed(status, "not an object", text)
    if isinstance(details := document.get("details"), str) and details:
        code = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}.get(status, "UNKNOWN")
        return ApiError(status, [(code, details[:_MAX_QUOTED])])
    entries = document.get("errors")
    parsed = [_entry(entry) for entry in entries[:16]] if isinstance(entries, list) else []
    if not parsed:
        return _unparsed(status, "no error details found in HTTP response body", text)
    return ApiError(status, parsed)


def _entry(entry: Any) -> tuple[str, str]:
    if not isinstance(entry, dict):
        return "UNKNOWN", str(entry)[:_MAX_QUOTED]
    code, message = entry.get("code"), entry.get("message")
    code = code if isinstance(code, str) and code in KNOWN_CODES else "UNKNOWN"
    return code, message[:_MAX_QUOTED] if isinstance(message, str) else ""


def _unparsed(status: int, why: str, text: str) -> UnexpectedAnswer:
    quoted = orjson.dumps(text[:_MAX_QUOTED]).decode()
    return UnexpectedAnswer(f"error parsing HTTP {status} response body: {why}: {quoted}", status=status)


def _cause(error: BaseException) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"dial tcp: lookup {error.host}: {_dns_reason(error.os_error)}"
        case aiohttp.ClientConnectorCertificateError():
            return _certificate_reason(error.certificate_error, error.host)
        case aiohttp.ClientSSLError():
            return _tls_reason(error)
        case aiohttp.ClientProxyConnectionError():
            return f"proxyconnect tcp: dial tcp {error.host}:{error.port}: {_os_reason(error.os_error)}"
        case aiohttp.ClientConnectorError():
            return f"dial tcp {_address(error)}: connect: {_os_reason(error.os_error)}"
        case aiohttp.ConnectionTimeoutError():
            return "dial tcp: i/o timeout"
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
        case aiohttp.ServerDisconnectedError():
            return "EOF"
        case aiohttp.ClientPayloadError():
            return "unexpected EOF"
        case ssl.SSLError():
            return _tls_reason(error)
        case OSError():
            return _tls_reason(error) if _SSL_REASON.search(str(error)) else _os_reason(error)
    return str(error) or type(error).__name__


def _address(error: aiohttp.ClientConnectorError) -> str:
    found = _ADDRESS.search(str(error.os_error))
    if found is None:
        return f"{error.host}:{error.port}"
    return f"[{found[1]}]:{found[2]}" if ":" in found[1] else f"{found[1]}:{found[2]}"


def _os_reason(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError):
        return "connection reset by peer"
    if isinstance(error, ssl.SSLError):
        return _tls_reason(error)
    text = getattr(error, "strerror", None) or str(error)
    return str(text)[:1].lower() + str(text)[1:]


def _dns_reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) and error.errno in (socket.EAI_AGAIN,):
        return "server misbehaving"
    return "no such host"


def _certificate_reason(error: Exception, host: str) -> str:
    code = getattr(error, "verify_code", 0)
    if code in _UNTRUSTED:
        reason = "certificate signed by unknown authority"
    elif code in _EXPIRED:
        reason = "certificate has expired or is not yet valid"
    elif code in _WRONG_NAME:
        reason = f"certificate is not valid for {host}"
    else:
        reason = str(getattr(error, "verify_message", "") or error)
    return f"tls: failed to verify certificate: x509: {reason}"


def _tls_reason(error: BaseException) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _certificate_reason(cause, "")
    stated = _SSL_REASON.search(str(cause))
    reason = stated[1] if stated else str(getattr(cause, "reason", "") or cause)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "http: server gave HTTP response to HTTPS client"
    if "ALERT" in reason:
        return "remote error: tls: " + re.sub(r"^.*ALERT_", "", reason).lower().replace("_", " ")
    return f"tls: {reason.lower().replace('_', ' ')}"
