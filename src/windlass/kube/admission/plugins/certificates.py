"""Certificate requests: who may approve and sign for a signer, and which subject nobody may ask for.

    CertificateApproval             …/approval  needs the verb approve on the signer
    CertificateSigning              …/status    needs the verb sign on it, where certificate or failure change
    CertificateSubjectRestriction   kube-apiserver-client never for system:masters

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#certificateapproval
"""

from __future__ import annotations

import base64
import binascii

from cryptography.x509.oid import NameOID

from windlass.cluster.signing import CLIENT, RefusedRequest, load_request
from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Answer, Plugin
from windlass.kube.api import status
from windlass.kube.api.authorization.chain import decide
from windlass.kube.api.identity import MASTERS, Attributes, Authorizer
from windlass.kube.api.resource import Object

_GROUP, _PLURAL = "certificates.k8s.io", "certificatesigningrequests"


class _ForSigner(Plugin):
    """Asks whether the user may do `verb` for the request's signer."""

    subresource = ""
    verb = ""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Updates of the subresource."""
        return (group, resource, subresource, operation) == (_GROUP, _PLURAL, self.subresource, "UPDATE")

    def concerns(self, old: Object, new: Object) -> bool:
        """Whether a change needs the permission."""
        return True

    def validate(self, request: AdmissionRequest) -> Answer:
        """Refuse who may not."""
        assert request.old is not None
        return self._validate(request, request.old) if self.concerns(request.old, request.target) else None

    async def _validate(self, request: AdmissionRequest, old: Object) -> None:
        signer = str(old["spec"]["signerName"])
        # A whole domain may be allowed at once.
        for name in (signer, f"{signer.partition('/')[0]}/*"):
            attributes = Attributes(request.user, self.verb, _GROUP, "*", "signers", name=name)
            if (await decide(self._authorizer, attributes)).allowed:
                return
        why = f'user not permitted to {self.verb} requests with signerName "{signer}"'
        raise status.forbidden(_PLURAL, _GROUP, request.name, why)


class CertificateApproval(_ForSigner):
    """See the module."""

    name = "CertificateApproval"
    subresource, verb = "approval", "approve"


class CertificateSigning(_ForSigner):
    """See the module."""

    name = "CertificateSigning"
    subresource, verb = "status", "sign"

    def concerns(self, old: Object, new: Object) -> bool:
        """Whether a certificate or a failure is written."""
        return _signed(old) != _signed(new)


def _signed(obj: Object) -> tuple[object, list[Object]]:
    found = obj.get("status") or {}
    return found.get("certificate") or "", [e for e in found.get("conditions") or () if e.get("type") == "Failed"]


class CertificateSubjectRestriction(Plugin):
    """See the module."""

    name = "CertificateSubjectRestriction"

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """New requests."""
        return (group, resource, subresource, operation) == (_GROUP, _PLURAL, "", "CREATE")

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse administrators' certificates."""
        spec = request.target.get("spec") or {}
        if spec.get("signerName") != CLIENT:
            return
        try:
            asked = load_request(base64.b64decode(spec.get("request") or ""))
        except (RefusedRequest, binascii.Error) as error:
            raise status.forbidden(_PLURAL, _GROUP, request.name, f"failed to parse CSR: {error}") from None
        groups = [str(each.value) for each in asked.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        if MASTERS in groups:
            why = f"use of {CLIENT} signer with {MASTERS} group is not allowed"
            raise status.forbidden(_PLURAL, _GROUP, request.name, why)


def certificate_plugins(authorizer: Authorizer) -> list[Plugin]:
    """All three."""
    return [CertificateApproval(authorizer), CertificateSigning(authorizer), CertificateSubjectRestriction()]
