"""Certificate signing requests: their making, may this signer sign that request, and the certificate that comes of it.

    kubernetes.io/kube-apiserver-client          any client; no names of servers
    kubernetes.io/kube-apiserver-client-kubelet  O=system:nodes, CN=system:node:…; no alternative names
    kubernetes.io/kubelet-serving                the same subject, with DNS names or addresses, for a server
    kubernetes.io/legacy-unknown                 whatever the request says; nobody should trust it
    windlass.dev/agent                           O=system:windlass:agents, CN=system:windlass:agent:…: what an agent
                                                 reads of the cluster's network beside its kubelet's own

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from windlass.cluster.certificates import Authority, LeafSpec, alternative_names, subject
from windlass.errors import WindlassError

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
AGENT = "windlass.dev/agent"
SIGNERS = (CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY, AGENT)
NODE_PREFIX, NODE_GROUP = "system:node:", "system:nodes"
AGENT_PREFIX, AGENT_GROUP = "system:windlass:agent:", "system:windlass:agents"
_SKEW = datetime.timedelta(minutes=5)
_SHORTEST = 600
_EXTENDED = {
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
}
_BASIC = {"digital signature", "key encipherment"}


class RefusedRequest(WindlassError):
    """The signer does not sign such a request."""


def new_request(key: CertificateIssuerPrivateKeyTypes, spec: LeafSpec) -> bytes:
    """A request (PEM) for the names that a specification has."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject(spec))
    if names := alternative_names(spec):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def common_name(request: x509.CertificateSigningRequest) -> str:
    """The one common name, "" where there is none or several."""
    found = _values(request, NameOID.COMMON_NAME)
    return found[0] if len(found) == 1 else ""


def names_of(request: x509.CertificateSigningRequest) -> list[str]:
    """DNS names and addresses that a request asks for. Raises `RefusedRequest`."""
    return [str(each.value) for each in _names(request)]


def load_request(pem: bytes) -> x509.CertificateSigningRequest:
    """A PKCS#10 request whose signature holds. Raises `RefusedRequest`."""
    try:
        request = x509.load_pem_x509_csr(pem)
        valid = request.is_signature_valid
    except (ValueError, TypeError) as error:
        raise RefusedRequest(f"unable to parse csr: {error}") from error
    if not valid:
        raise RefusedRequest("the request's signature is not valid")
    return request


def check(request: x509.CertificateSigningRequest, signer: str, usages: Sequence[str]) -> str:
    """Why the signer refuses, "" where it signs."""
    if signer == LEGACY:
        return ""
    names = _names(request)
    kinds = {type(name) for name in names}
    asked = set(usages)
    if signer == CLIENT:
        if "client auth" not in asked or not asked <= _BASIC | {"client auth"}:
            return "usages did not match: client auth is needed, only key encipherment and digital signature beside it"
        return ""
    if signer not in (KUBELET_CLIENT, KUBELET_SERVING, AGENT):
        return f"unrecognized signer {signer}"
    usage = "server auth" if signer == KUBELET_SERVING else "client auth"
    group, prefix = (AGENT_GROUP, AGENT_PREFIX) if signer == AGENT else (NODE_GROUP, NODE_PREFIX)
    if _values(request, NameOID.ORGANIZATION_NAME) != [group]:
        return f"subject organization is not {group}"
    if not common_name(request).startswith(prefix):
        return f"subject common name does not begin with {prefix}"
    if usage not in asked or "digital signature" not in asked or not asked <= _BASIC | {usage}:
        return f"usages did not match: {usage} and digital signature are needed, key encipherment is allowed"
    if signer != KUBELET_SERVING:
        return "subjectAltNames are not allowed" if names else ""
    if not kinds & {x509.DNSName, x509.IPAddress}:
        return "DNS or IP subjectAltName is required"
    return "email and URI subjectAltNames are not allowed" if kinds - {x509.DNSName, x509.IPAddress} else ""


def sign(
    request: x509.CertificateSigningRequest,
    authority: Authority,
    *,
    signer: str,
    usages: Sequence[str],
    now: datetime.datetime,
    longest: datetime.timedelta = datetime.timedelta(days=365),
    expiration_seconds: int | None = None,
) -> bytes:
    """The certificate (PEM). Raises `RefusedRequest` where `check` finds a reason."""
    reason = check(request, signer, usages)
    if reason:
        raise RefusedRequest(reason)
    life = longest
    if expiration_seconds is not None:
        life = min(longest, datetime.timedelta(seconds=max(expiration_seconds, _SHORTEST)))
    encipherment = "key encipherment" in usages and isinstance(request.public_key(), rsa.RSAPublicKey)
    certificate = authority.certify(
        request.public_key(),
        subject=request.subject,
        names=_names(request),
        usages=[_EXTENDED[usage] for usage in usages if usage in _EXTENDED],
        begin=now - _SKEW,
        end=now + life,
        digital_signature="digital signature" in usages or signer != LEGACY,
        key_encipherment=encipherment,
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
    except ValueError as error:
        raise RefusedRequest(f"unable to parse csr: {error}") from error


def _values(request: x509.CertificateSigningRequest, kind: x509.ObjectIdentifier) -> list[str]:
    return [str(part.value) for part in request.subject.get_attributes_for_oid(kind)]
