"""csrapproving, csrsigning, csrcleaner: kubelets' certificate requests are approved, approved ones signed, old ones go.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
"""

from __future__ import annotations

import base64
import datetime
from typing import Any

from windlass.cluster.certificates import Authority
from windlass.cluster.signing import RefusedRequest, load_request, sign
from windlass.kube.api import times
from windlass.kube.api.custom.establishing import condition
from windlass.kube.api.resource import Object
from windlass.kube.client import Client
from windlass.kube.controllers.runner import Controller, Key

_GROUP, _PLURAL = "certificates.k8s.io", "certificatesigningrequests"
_SIGNERS = frozenset(
    {
        "kubernetes.io/kube-apiserver-client",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/legacy-unknown",
    }
)
_KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
_BOOTSTRAPPERS = "system:bootstrappers"
_HOUR = 3600.0


class CertificateController(Controller):
    """All three, for each request in turn."""

    name = "certificate-controller"

    def __init__(self, client: Client, authority: Authority) -> None:
        super().__init__(client)
        self._authority = authority

    def subscribe(self) -> None:
        """Certificate requests."""
        self.watch(_GROUP, _PLURAL)

    async def reconcile(self, key: Key) -> float | None:
        """Approve, sign, or clean."""
        name = key[1]
        request = self.cache.get(_GROUP, _PLURAL, "", name)
        if request is None:
            return None
        rest = self._rest_of_life(request)
        if rest <= 0:
            await self.client.delete(_GROUP, _PLURAL, "", name)
            return None
        spec = request["spec"]
        if condition(request, "Denied") or condition(request, "Failed"):
            return rest
        if not condition(request, "Approved"):
            if self._is_kubelets_own(request):
                await self._note(name, "Approved", "AutoApproved", "Auto approving kubelet client certificate")
            return rest
        if (request.get("status") or {}).get("certificate") or spec["signerName"] not in _SIGNERS:
            return rest
        try:
            pem = sign(
                load_request(base64.b64decode(spec["request"])),
                self._authority,
                signer=spec["signerName"],
                usages=spec.get("usages") or (),
                expiration_seconds=spec.get("expirationSeconds"),
                now=datetime.datetime.now(datetime.UTC),
            )
        except RefusedRequest as error:
            await self._note(name, "Failed", "SignerValidationFailure", str(error))
            return rest

        def change(live: Object) -> None:
            live["status"] = {**(live.get("status") or {}), "certificate": base64.b64encode(pem).decode()}

        await self.client.update(_GROUP, _PLURAL, "", name, change, subresource="status")
        return rest

    @staticmethod
    def _is_kubelets_own(request: Object) -> bool:
        """A node's first certificate, asked for with a bootstrap token, or its next one, asked for by itself."""
        spec = request["spec"]
        if spec.get("signerName") != _KUBELET:
            return False
        groups = spec.get("groups") or ()
        return _BOOTSTRAPPERS in groups or "system:nodes" in groups

    def _rest_of_life(self, request: Object) -> float:
        age = self.client.env.now() - times.parse_time(request["metadata"]["creationTimestamp"])
        if condition(request, "Denied") or condition(request, "Failed"):
            return _HOUR - age
        if condition(request, "Approved"):
            return _HOUR - age if (request.get("status") or {}).get("certificate") else 24 * _HOUR - age
        return 24 * _HOUR - age

    async def _note(self, name: str, type: str, reason: str, message: str) -> None:
        now = self.client.env.timestamp()

        def change(live: Object) -> None:
            found: dict[str, Any] = {
                "type": type,
                "status": "True",
                "reason": reason,
                "message": message,
                "lastUpdateTime": now,
                "lastTransitionTime": now,
            }
            conditions = (live.get("status") or {}).get("conditions") or []
            live["status"] = {**(live.get("status") or {}), "conditions": [*conditions, found]}

        await self.client.update(_GROUP, _PLURAL, "", name, change, subresource="approval", check=False)
