"""csrapproving, csrsigning, csrcleaner: nodes' certificate requests are approved, approved ones signed, old ones go.

    kube-apiserver-client-kubelet   the asker may create certificatesigningrequests/selfnodeclient (its own next one)
                                    or …/nodeclient (anybody's first one): RBAC says who that is; not as long as a node
                                    of that name is alive
    kubelet-serving                 the asker's own, for addresses and names that its Node has
    windlass.dev/agent              the asking node's own

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
"""

from __future__ import annotations

import base64
import datetime
from typing import Any

from windlass.cluster.certificates import Authority
from windlass.cluster.signing import (
    AGENT,
    AGENT_PREFIX,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    NODE_GROUP,
    NODE_PREFIX,
    SIGNERS,
    RefusedRequest,
    check,
    common_name,
    load_request,
    names_of,
    sign,
)
from windlass.kube.api import times
from windlass.kube.api.authorization.chain import decide
from windlass.kube.api.custom.establishing import condition
from windlass.kube.api.identity import Attributes, Authorizer, User
from windlass.kube.api.resource import Object
from windlass.kube.client import Client
from windlass.kube.controllers.runner import Controller, Key

_GROUP, _PLURAL = "certificates.k8s.io", "certificatesigningrequests"
_HOUR = 3600.0


class CertificateController(Controller):
    """All three, for each request in turn."""

    name = "certificate-controller"

    def __init__(self, client: Client, authority: Authority, authorizer: Authorizer) -> None:
        super().__init__(client)
        self._authority = authority
        self._authorizer = authorizer

    def subscribe(self) -> None:
        """Certificate requests, and Nodes, whose addresses are what some of them wait for."""
        self.watch(_GROUP, _PLURAL)
        self.watch("", "nodes", self._of_node)

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
            if wait := self._until_silent(request):
                return min(wait, rest)
            if message := await self._approval(request):
                await self._note(name, "Approved", "AutoApproved", message)
            return rest
        if (request.get("status") or {}).get("certificate") or spec["signerName"] not in SIGNERS:
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

    def _until_silent(self, request: Object) -> float:
        """Seconds until a node that somebody else asks for has been silent for as long as its lease lasts; 0 if it has.

        So a second machine of the same name does not take the first one's place while that is alive.
        """
        spec = request["spec"]
        if spec["signerName"] != KUBELET_CLIENT:
            return 0.0
        try:
            name = common_name(load_request(base64.b64decode(spec["request"])))
        except RefusedRequest:
            return 0.0
        if name == spec.get("username"):
            return 0.0
        lease = self.cache.get("coordination.k8s.io", "leases", "kube-node-lease", name.removeprefix(NODE_PREFIX)) or {}
        state = lease.get("spec") or {}
        if not state.get("renewTime"):
            return 0.0
        end = times.parse_time(state["renewTime"]) + float(state.get("leaseDurationSeconds") or 0)
        return max(end - self.client.env.now(), 0.0)

    def _of_node(self, node: Object) -> list[Key]:
        user = NODE_PREFIX + node["metadata"]["name"]
        return [
            ("", each["metadata"]["name"])
            for each in self.cache.list(_GROUP, _PLURAL)
            if each["spec"].get("username") == user
            and each["spec"]["signerName"] == KUBELET_SERVING
            and not condition(each, "Approved")
        ]

    async def _approval(self, request: Object) -> str:
        """The words with which a request is approved, "" where it has to wait for a person."""
        spec = request["spec"]
        signer = spec["signerName"]
        if signer not in (KUBELET_CLIENT, KUBELET_SERVING, AGENT):
            return ""
        try:
            asked = load_request(base64.b64decode(spec["request"]))
            if check(asked, signer, spec.get("usages") or ()):
                return ""
            name, names = common_name(asked), names_of(asked)
        except RefusedRequest:
            return ""
        user = User(
            spec.get("username") or "",
            spec.get("uid") or "",
            tuple(spec.get("groups") or ()),
            {key: tuple(values) for key, values in (spec.get("extra") or {}).items()},
        )
        if signer == KUBELET_CLIENT:
            if name == user.name and await self._may(user, "selfnodeclient"):
                return "Auto approving self kubelet client certificate after SubjectAccessReview."
            if await self._may(user, "nodeclient"):
                return "Auto approving kubelet client certificate after SubjectAccessReview."
            return ""
        if NODE_GROUP not in user.groups or not user.name.startswith(NODE_PREFIX):
            return ""
        node = user.name.removeprefix(NODE_PREFIX)
        if signer == AGENT:
            return "Auto approving the agent of the node that asks." if name == AGENT_PREFIX + node else ""
        if name == user.name and names and set(names) <= self._names_of_node(node):
            return "Auto approving kubelet serving certificate: its names are those of the node that asks."
        return ""

    async def _may(self, user: User, subresource: str) -> bool:
        attributes = Attributes(user, "create", _GROUP, "*", _PLURAL, subresource)
        return (await decide(self._authorizer, attributes)).allowed

    def _names_of_node(self, name: str) -> set[str]:
        """The addresses and names that a Node says it has."""
        node = self.cache.get("", "nodes", "", name) or {}
        return {str(each.get("address")) for each in (node.get("status") or {}).get("addresses") or ()}

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
