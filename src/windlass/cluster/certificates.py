"""Certificates and keys: an authority signs leaves, and a leaf says by itself when it wants to be made anew.

    Authority ─ issue(LeafSpec) ─▶ Leaf (certificate and key)
        │                            stale(spec, authority, now): expired by two thirds, from a future that a clock
        └ key P-256, 20 years        jump took away, other names or addresses, another authority

Keys are P-256: made in microseconds, accepted everywhere. All times are aware datetimes that the caller passes in. A
leaf begins an hour before it is made, for hosts whose clocks differ; an authority begins at a fixed day long ago, so
that a clock that jumps back does not make it void.

Source: RFC 5280; https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from windlass.errors import WindlassError

DAY = datetime.timedelta(days=1)
AUTHORITY_LIFE = 20 * 365 * DAY
LEAF_LIFE = 365 * DAY
_SKEW = datetime.timedelta(hours=1)
_BEGIN = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


class BadCertificate(WindlassError):
    """A certificate or key file that cannot be read or does not fit its pair."""


@dataclass(frozen=True, slots=True)
class LeafSpec:
    """What a leaf must say.

    Attributes:
        common_name: CN, the user's name for clients.
        organizations: O, the user's groups for clients.
        dns_names, addresses: subject alternative names, for servers.
        server, client: extended key usages.
        life: from now to the end.
    """

    common_name: str
    organizations: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    server: bool = False
    client: bool = False
    life: datetime.timedelta = LEAF_LIFE


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @property
    def certificate_pem(self) -> bytes:
        """PEM of the certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """PEM (PKCS#8, not encrypted) of the key."""
        return encode_key(self.key)

    def stale(self, spec: LeafSpec, authority: Authority, now: datetime.datetime) -> bool:
        """Whether it should be made anew: see the module."""
        certificate = self.certificate
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now < begin or now >= begin + (end - begin) * 2 / 3:
            return True
        return not self.says(spec) or not authority.signed(certificate)

    def says(self, spec: LeafSpec) -> bool:
        """Whether it is for these names."""
        found = self.certificate
        return found.subject == subject(spec) and _alternative_names(found) == alternative_names(spec)


class Authority:
    """Signs certificates with its key."""

    def __init__(self, certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes) -> None:
        self.certificate = certificate
        self.key = key

    @classmethod
    def create(cls, common_name: str, now: datetime.datetime) -> Authority:
        """A new self-signed authority."""
        key = new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(_BEGIN, now - DAY))
            .not_valid_after(now + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        """PEM of the certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """PEM (PKCS#8) of the key."""
        return encode_key(self.key)

    def signed(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate is one of this authority's."""
        return issued_by(certificate, self.certificate)

    def issue(self, spec: LeafSpec, now: datetime.datetime) -> Leaf:
        """A new key and its certificate."""
        key = new_key()
        certificate = self.certify(
            key.public_key(),
            subject=subject(spec),
            names=alternative_names(spec),
            usages=_extended(spec.server, spec.client),
            begin=now - _SKEW,
            end=now + spec.life,
        )
        return Leaf(certificate, key)

    def certify(
        self,
        public_key: CertificatePublicKeyTypes,
        *,
        subject: x509.Name,
        names: Sequence[x509.GeneralName],
        usages: Sequence[x509.ObjectIdentifier],
        begin: datetime.datetime,
        end: datetime.datetime,
        digital_signature: bool = True,
        key_encipherment: bool = False,
    ) -> x509.Certificate:
        """A certificate for a key that somebody else holds; never beyond the authority's own end."""
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.certificate.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(begin, self.certificate.not_valid_before_utc))
            .not_valid_after(min(end, self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signature=digital_signature, encipherment=key_encipherment), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer`'s key signed the certificate, and the names agree."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def encode_key(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """PEM (PKCS#8, not encrypted)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_leaf(certificate: Path, key: Path) -> Leaf | None:
    """A stored pair, `None` where either is missing, broken or belongs to another."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if found.public_key().public_bytes(*spki) != loaded.public_key().public_bytes(*spki):
        return None
    return Leaf(found, loaded)  # type: ignore[arg-type]


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file at once; nobody ever sees half of it or wider permissions."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def subject(spec: LeafSpec) -> x509.Name:
    """The name of a leaf."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in spec.organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, spec.common_name)])


def alternative_names(spec: LeafSpec) -> list[x509.GeneralName]:
    """Its further names, in a fixed order."""
    addresses = sorted({str(ipaddress.ip_address(address)) for address in spec.addresses})
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(set(spec.dns_names))]
    return [*names, *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)]


def _alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _extended(server: bool, client: bool) -> list[x509.ObjectIdentifier]:
    pairs = ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH))
    return [usage for wanted, usage in pairs if wanted]


def _usage(*, signs: bool = False, signature: bool = True, encipherment: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
