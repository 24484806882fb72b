"""Which requests each signer signs."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from windlass.cluster import signing
from windlass.cluster.certificates import Authority, new_key

NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
CA = Authority.create("ca", NOW)


def request(common_name: str, organization: str, *names: x509.GeneralName) -> bytes:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(new_key(), hashes.SHA256()).public_bytes(Encoding.PEM)


NODE = ("system:node:a", "system:nodes")
DNS, MAIL = x509.DNSName("a"), x509.RFC822Name("a@b.c")
CLIENT_USES, SERVER_USES = ("digital signature", "client auth"), ("digital signature", "server auth")


@pytest.mark.parametrize(
    ("signer", "pem", "usages", "signs"),
    [
        (signing.CLIENT, request("ada", "dev"), CLIENT_USES, True),
        (signing.CLIENT, request("ada", "dev"), SERVER_USES, False),
        (signing.KUBELET_CLIENT, request(*NODE), CLIENT_USES, True),
        (signing.KUBELET_CLIENT, request(*NODE, DNS), CLIENT_USES, False),
        (signing.KUBELET_CLIENT, request("ada", "system:nodes"), CLIENT_USES, False),
        (signing.KUBELET_CLIENT, request("system:node:a", "system:masters"), CLIENT_USES, False),
        (signing.KUBELET_SERVING, request(*NODE, DNS), SERVER_USES, True),
        (signing.KUBELET_SERVING, request(*NODE), SERVER_USES, False),
        (signing.KUBELET_SERVING, request(*NODE, DNS, MAIL), SERVER_USES, False),
        (signing.KUBELET_SERVING, request(*NODE, DNS), (*SERVER_USES, "client auth"), False),
        ("example.com/own", request("ada", "dev"), CLIENT_USES, False),
    ],
)
def test_each_signer_signs_its_own(signer: str, pem: bytes, usages: tuple[str, ...], signs: bool) -> None:
    loaded = signing.load_request(pem)
    if not signs:
        with pytest.raises(signing.RefusedRequest):
            signing.sign(loaded, CA, signer=signer, usages=usages, now=NOW)
        return
    made = signing.sign(loaded, CA, signer=signer, usages=usages, now=NOW, expiration_seconds=60)
    certificate = x509.load_pem_x509_certificate(made)
    assert CA.signed(certificate)
    assert certificate.subject == loaded.subject
    assert certificate.not_valid_after_utc == NOW + datetime.timedelta(seconds=600)


@pytest.mark.parametrize("pem", [b"", b"garbage", request("a", "b").replace(b"M", b"N", 3)])
def test_what_is_no_request_is_refused(pem: bytes) -> None:
    with pytest.raises(signing.RefusedRequest):
        signing.load_request(pem)
