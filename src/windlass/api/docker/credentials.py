"""Registry credentials that clients send along (`X-Registry-Auth`)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

from windlass.api.docker.backend import RegistryAuth
from windlass.errors import InvalidParameter

_TO_URL_SAFE = str.maketrans("+/", "-_")


def decode_header(text: str) -> RegistryAuth:
    """The credentials of an `X-Registry-Auth` header: base64url of JSON, with or without padding.

    A header that cannot be read counts as none, as in dockerd: old clients send all kinds of things.
    """
    if not text:
        return RegistryAuth()
    try:
        plain = text.rstrip("=").translate(_TO_URL_SAFE)
        data = base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
        return from_document(orjson.loads(data))
    except (binascii.Error, ValueError, InvalidParameter):
        return RegistryAuth()


def from_document(document: Any) -> RegistryAuth:
    """The credentials of an `AuthConfig`. Raises `InvalidParameter`."""
    if document is None:
        return RegistryAuth()
    if not isinstance(document, dict):
        raise InvalidParameter("invalid JSON: the credentials must be an object")
    fields = {name.lower(): value for name, value in document.items()}

    def text(name: str) -> str:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidParameter(
                f"invalid JSON: json: cannot unmarshal into Go struct field AuthConfig.{name} of type string"
            )
        return value or ""

    username, password = text("username"), text("password")
    if not username and text("auth"):
        try:
            username, _, password = base64.b64decode(text("auth"), validate=True).decode().partition(":")
        except ValueError:
            raise InvalidParameter("invalid JSON: the field auth is not base64 of user:password") from None
    return RegistryAuth(username, password, text("serveraddress"), text("identitytoken"), text("registrytoken"))
