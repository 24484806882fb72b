"""An authenticating proxy: who shows a certificate of the front-proxy authority may name the user in headers.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from windlass.http.query import unquote
from windlass.kube.api.authentication.credentials import Credentials, Rejected
from windlass.kube.api.authentication.x509 import Clock, common_name, verified
from windlass.kube.api.identity import User


@dataclass(frozen=True, slots=True)
class HeaderNames:
    """The flags --requestheader-…-headers, lower case."""

    username: tuple[str, ...] = ("x-remote-user",)
    uid: tuple[str, ...] = ("x-remote-uid",)
    group: tuple[str, ...] = ("x-remote-group",)
    extra_prefix: tuple[str, ...] = ("x-remote-extra-",)


class FrontProxy:
    """Authenticates by headers of a proxy. Repeated headers arrive joined by ", "."""

    def __init__(
        self, authorities: bytes, clock: Clock, allowed_names: Sequence[str] = (), headers: HeaderNames | None = None
    ) -> None:
        self._authorities = x509.load_pem_x509_certificates(authorities)
        self._clock = clock
        self._allowed = frozenset(allowed_names)
        self._headers = headers or HeaderNames()

    def authenticate(self, credentials: Credentials, /) -> User | None:
        """The user that the proxy names; `None` where the headers or the proxy's certificate are missing."""
        headers, names = credentials.headers, self._headers
        user = next((headers[name] for name in names.username if headers.get(name)), "")
        if not user or credentials.certificate is None:
            return None
        certificate = x509.load_der_x509_certificate(credentials.certificate)
        if not verified(certificate, self._authorities):
            return None
        if not certificate.not_valid_before_utc <= self._clock() <= certificate.not_valid_after_utc:
            raise Rejected("x509: certificate has expired or is not yet valid")
        if self._allowed and common_name(certificate) not in self._allowed:
            raise Rejected(f"x509: subject with cn={common_name(certificate)} is not in the allowed list")
        uid = next((headers[name] for name in names.uid if headers.get(name)), "")
        groups = tuple(
            group.strip() for name in names.group for group in headers.get(name, "").split(",") if group.strip()
        )
        extra: dict[str, tuple[str, ...]] = {}
        for prefix in names.extra_prefix:
            for name, value in headers.items():
                if name.startswith(prefix):
                    values = tuple(part.strip() for part in value.split(","))
                    extra[unquote(name.removeprefix(prefix))] = values
        return User(user, uid, groups, extra)
