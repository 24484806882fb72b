"""Who we are towards a registry: the `AuthConfig` that clients send in `X-Registry-Auth` and `/auth`.

    X-Registry-Auth: base64url({"username","password","serveraddress"} | {"identitytoken"} | {"registrytoken"})

An identity token is an OAuth2 refresh token, exchanged for short-lived tokens; a registry token is a bearer token used
as it is. The class never prints its secrets.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from windlass.errors import InvalidParameter

_MAX_HEADER = 64 << 10


@dataclass(frozen=True)
class Credentials:
    """What a client gave us for one registry; empty texts are absent."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server_address: str = ""

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of an `Authorization: Basic` header, or ""."""
        if not self.username or not self.password:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credentials()


class HasCredentials(Protocol):
    """What another room's credentials look like."""

    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def server_address(self) -> str: ...
    @property
    def identity_token(self) -> str: ...
    @property
    def registry_token(self) -> str: ...


def as_credentials(auth: HasCredentials | Mapping[str, Any] | None) -> Credentials:
    """Credentials from another room's record, an `AuthConfig` document, or nothing. Raises `InvalidParameter`."""
    if auth is None:
        return ANONYMOUS
    if isinstance(auth, Mapping):
        return credentials_from_json(dict(auth))
    return Credentials(
        auth.username, auth.password, auth.identity_token, auth.registry_token, server_address=auth.server_address
    )


def credentials_from_json(document: Any) -> Credentials:
    """Read an `AuthConfig` object. Raises `InvalidParameter`."""
    if not isinstance(document, dict):
        raise InvalidParameter("invalid X-Registry-Auth header: not an object")
    values = {key: document.get(key) or "" for key in ("username", "password", "identitytoken", "registrytoken")}
    values |= {key: document.get(key) or "" for key in ("serveraddress", "auth")}
    if not all(isinstance(value, str) for value in values.values()):
        raise InvalidParameter("invalid X-Registry-Auth header: a field is not text")
    if values["auth"] and not values["username"]:
        values["username"], values["password"] = decode_basic(values["auth"])
    return Credentials(
        values["username"],
        values["password"],
        values["identitytoken"],
        values["registrytoken"],
        values["serveraddress"],
    )


def decode_registry_auth(header: str) -> Credentials:
    """Decode an `X-Registry-Auth` header: base64, URL-safe or not, padded or not. Raises `InvalidParameter`.

    An absent or empty header, and `{}`, are anonymous.
    """
    if not header:
        return ANONYMOUS
    if len(header) > _MAX_HEADER:
        raise InvalidParameter("invalid X-Registry-Auth header: too long")
    text = header.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        document = orjson.loads(decoded)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameter(f"invalid X-Registry-Auth header: {error}") from None
    return credentials_from_json(document)


def decode_basic(encoded: str) -> tuple[str, str]:
    """User name and password of `base64(user:password)`. Raises `InvalidParameter`."""
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise InvalidParameter("invalid auth configuration file")
    return user, password.rstrip("\0")
