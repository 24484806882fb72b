"""Client certificates: the common name is the user, organizations are groups.

The handshake has verified that the certificate belongs to one of the server's authorities; which of them, and until
when, is looked at here, since one listener accepts several (clients, the front proxy).

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from windlass.cluster.certificates import issued_by
from windlass.kube.api.authentication.credentials import Credentials, Rejected
from windlass.kube.api.identity import User

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
_REMEMBERED = 1024

Clock = Callable[[], datetime.datetime]


class ClientCertificates:
    """Authenticates by certificates of `authorities` (PEM bundle)."""

    def __init__(self, authorities: bytes, clock: Clock) -> None:
        self._authorities = x509.load_pem_x509_certificates(authorities)
        self._clock = clock
        self._known: dict[bytes, tuple[x509.Certificate, User | None]] = {}

    def authenticate(self, credentials: Credentials, /) -> User | None:
        """The certificate's user; `None` without one or where another authority signed it."""
        if credentials.certificate is None:
            return None
        certificate, user = self._read(credentials.certificate)
        if user is not None:
            now = self._clock()
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                raise Rejected("x509: certificate has expired or is not yet valid")
        return user

    def _read(self, der: bytes) -> tuple[x509.Certificate, User | None]:
        key = hashlib.sha256(der).digest()
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            certificate = x509.load_der_x509_certificate(der)
            trusted = verified(certificate, self._authorities)
            found = self._known[key] = (certificate, _user(certificate) if trusted else None)
        return found


def verified(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> bool:
    """Whether one of the authorities signed it for a client's use."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usages and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
        return False
    return any(issued_by(certificate, authority) for authority in authorities)


def common_name(certificate: x509.Certificate) -> str:
    """The last CN of the subject, "" without one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def _user(certificate: x509.Certificate) -> User | None:
    name = common_name(certificate)
    if not name:
        return None
    groups = tuple(str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    uids = [str(part.value) for part in certificate.subject.get_attributes_for_oid(_UID)]
    extra = {CREDENTIAL_ID: ("X509SHA256=" + certificate.fingerprint(hashes.SHA256()).hex(),)}
    return User(name, uids[0] if uids else "", groups, extra)
