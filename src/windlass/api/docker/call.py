"""One call of an operation: the request with its path's variables, version and engine, and typed query values."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from windlass.api.docker import credentials
from windlass.api.docker.backend import Backend, Document, RegistryAuth
from windlass.api.docker.filters import Filters, parse_filters
from windlass.api.docker.jsonbody import read_object
from windlass.api.docker.problems import JSON
from windlass.api.docker.versions import Version
from windlass.errors import InvalidParameter
from windlass.http import Request, Response, StreamResponse

if TYPE_CHECKING:
    from windlass.http.message import Headers

_FALSE: Final = frozenset(("", "0", "no", "false", "none"))
_GO_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_GO_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))
NO_CONTENT: Final = Response(204)


class Call:
    """What a route's handler gets."""

    __slots__ = ("_form", "engine", "name", "request", "version")

    def __init__(self, engine: Backend, request: Request, name: str, version: Version) -> None:
        self.engine = engine
        self.request = request
        self.name = name  # the variable part of the path: an object's name or identifier
        self.version = version
        self._form: dict[str, list[str]] | None = None

    @property
    def form(self) -> dict[str, list[str]]:
        """Query values by name. Raises `InvalidParameter` for a malformed query."""
        if self._form is None:
            form: dict[str, list[str]] = {}
            for key, value in self.request.query:
                form.setdefault(key, []).append(value)
            self._form = form
        return self._form

    def text(self, key: str) -> str:
        """The first value, or `""`."""
        values = self.form.get(key)
        return values[0] if values else ""

    def texts(self, key: str) -> list[str]:
        """All values in their order."""
        return self.form.get(key, [])

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True unless absent (`default`), empty, 0, no, false or none: dockerd's `BoolValue`."""
        values = self.form.get(key)
        return values[0].strip().lower() not in _FALSE if values else default

    def strict_flag(self, key: str) -> bool:
        """Go's `ParseBool`, for the few parameters that dockerd reads so. Raises `InvalidParameter`."""
        value = self.text(key)
        if value and value not in _GO_TRUE and value not in _GO_FALSE:
            raise InvalidParameter(
                f'invalid value for {key}: {value}: strconv.ParseBool: parsing "{value}": invalid syntax'
            )
        return value in _GO_TRUE

    def integer(self, key: str) -> int | None:
        """Go's `Atoi`; `None` when absent or empty. Raises `InvalidParameter`."""
        value = self.text(key)
        return atoi(value) if value else None

    def uint32(self, key: str, what: str) -> int:
        """A required number of 32 bits without sign. Raises `InvalidParameter` naming `what`."""
        value = self.text(key)
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            raise InvalidParameter(f'invalid {what} "{value}": invalid syntax')
        if value != digits or int(digits) >= 1 << 32:
            raise InvalidParameter(f'invalid {what} "{value}": value out of range')
        return int(digits)

    def moment(self, key: str) -> int | None:
        """Seconds since the epoch with a fraction, as nanoseconds; `None` when absent. Raises `InvalidParameter`."""
        value = self.text(key)
        if not value:
            return None
        seconds, _, fraction = value.partition(".")
        total = atoi(seconds, "ParseInt") * 1_000_000_000
        if not fraction:
            return total
        if not (fraction.isascii() and fraction.isdigit()):
            raise InvalidParameter(f'strconv.ParseInt: parsing "{fraction}": invalid syntax')
        return total + int(fraction[:9].ljust(9, "0"))

    def filters(self, endpoint: str) -> Filters:
        """The checked `filters` parameter. Raises `InvalidParameter`."""
        return parse_filters(self.text("filters"), endpoint)

    def platform(self, key: str = "platform") -> Document | None:
        """A platform given as JSON; `None` when absent. Raises `InvalidParameter`."""
        value = self.text(key)
        return decode_platform(value) if value else None

    @property
    def auth(self) -> RegistryAuth:
        """The credentials that came along."""
        return credentials.decode_header(self.request.headers.get("x-registry-auth", ""))

    async def body(self, type_name: str, *, required: bool = False) -> Document:
        """The JSON object in the body; see `read_object`."""
        return await read_object(self.request, type_name, required=required)

    @property
    def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece."""
        return self.request.body

    def older(self, major: int, minor: int) -> bool:
        """Whether the client speaks an API older than `major.minor`."""
        return self.version < (major, minor)


Answer = Response | StreamResponse | None


def atoi(value: str, function: str = "Atoi") -> int:
    """A decimal number of 64 bits with Go's errors. Raises `InvalidParameter`."""
    digits = value[1:] if value[:1] in ("+", "-") else value
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidParameter(f'strconv.{function}: parsing "{value}": invalid syntax')
    number = int(value) if len(digits) < 30 else 1 << 64
    if not -(1 << 63) <= number < 1 << 63:
        raise InvalidParameter(f'strconv.{function}: parsing "{value}": value out of range')
    return number


def decode_platform(text: str) -> Document:
    """A platform document with operating system and architecture. Raises `InvalidParameter`."""
    try:
        document: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from None
    if not isinstance(document, dict):
        raise InvalidParameter("failed to parse platform: not an object")
    if document.get("os") and document.get("architecture"):
        return document
    none = not document.get("os") and not document.get("architecture")
    if none and (document.get("variant") or document.get("os.version") or document.get("os.features")):
        raise InvalidParameter("optional platform fields provided, but OS and Architecture are missing")
    raise InvalidParameter("both OS and Architecture must be provided")


def json_answer(value: Any, status: int = 200, headers: Headers = ()) -> Response:
    """A document as the answer."""
    return Response(status, (*JSON, *headers) if headers else JSON, orjson.dumps(value) + b"\n")
