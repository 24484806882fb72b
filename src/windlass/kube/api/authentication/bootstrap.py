"""Bootstrap tokens: `<id>.<secret>`, kept as Secrets of type bootstrap.kubernetes.io/token in kube-system.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hmac
import re
from collections.abc import Callable, Sequence

from windlass.kube.api.authentication.credentials import Found, Rejected
from windlass.kube.api.identity import User
from windlass.kube.api.reader import Object, Reader

DEFAULT_GROUP = "system:bootstrappers"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    """Authenticates by the cluster's bootstrap tokens."""

    def __init__(self, reader: Reader, clock: Callable[[], datetime.datetime]) -> None:
        self._reader = reader
        self._clock = clock

    def authenticate_token(self, token: str, _audiences: Sequence[str], /) -> Found | None:
        """The token's user, `system:bootstrap:<id>`."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        identifier, secret = match.groups()
        stored = self._reader.get("", "secrets", "kube-system", f"bootstrap-token-{identifier}")
        if stored is None or stored["metadata"].get("deletionTimestamp"):
            return None
        if stored.get("type") != "bootstrap.kubernetes.io/token":
            return None
        if not hmac.compare_digest(_field(stored, "token-secret").encode(), secret.encode()):
            return None
        if _field(stored, "token-id") != identifier or self._expired(_field(stored, "expiration")):
            return None
        if _field(stored, "usage-bootstrap-authentication") != "true":
            return None
        extra_groups = [group for group in _field(stored, "auth-extra-groups").split(",") if group]
        if any(not _GROUP.fullmatch(group) for group in extra_groups):
            raise Rejected("the bootstrap token's groups are invalid")
        return Found(User(f"system:bootstrap:{identifier}", groups=(DEFAULT_GROUP, *sorted(extra_groups))))

    def _expired(self, text: str) -> bool:
        if not text:
            return False
        try:
            return datetime.datetime.fromisoformat(text) <= self._clock()
        except (ValueError, TypeError):
            return True  # what cannot be read must not live forever


def _field(secret: Object, name: str) -> str:
    try:
        return base64.b64decode((secret.get("data") or {}).get(name, "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
