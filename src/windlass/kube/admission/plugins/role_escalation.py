"""RoleEscalation: nobody gives away more than they have, by writing roles or by binding them.

Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
"""

from __future__ import annotations

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Answer, Plugin
from windlass.kube.api import status
from windlass.kube.api.authorization.chain import decide
from windlass.kube.api.authorization.rbac import RBAC, check_bind, check_escalation
from windlass.kube.api.identity import MASTERS, Attributes, Authorizer

_GROUP = "rbac.authorization.k8s.io"
_ROLES = frozenset({"roles", "clusterroles"})
_BINDINGS = frozenset({"rolebindings", "clusterrolebindings"})


class RoleEscalation(Plugin):
    """See the module."""

    name = "RoleEscalation"

    def __init__(self, rbac: RBAC, authorizer: Authorizer) -> None:
        self._rbac = rbac
        self._authorizer = authorizer

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Roles and bindings that are written."""
        return group == _GROUP and operation in ("CREATE", "UPDATE") and resource in _ROLES | _BINDINGS

    def validate(self, request: AdmissionRequest) -> Answer:
        """Refuse what gives more than the writer has."""
        return None if MASTERS in request.user.groups else self._validate(request)

    async def _validate(self, request: AdmissionRequest) -> None:
        obj, old, resource = request.target, request.old, request.resource.plural
        if resource in _ROLES:
            if old is not None and obj.get("rules") == old.get("rules"):
                return
            if await self._may(request, "escalate", resource, request.name):
                return
            why = check_escalation(self._rbac, request.user, request.namespace, obj.get("rules") or ())
            if why:
                raise status.forbidden(resource, _GROUP, request.name, why)
            return
        if old is not None and obj.get("subjects") == old.get("subjects"):
            return
        reference = obj.get("roleRef") or {}
        kind = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
        if await self._may(request, "bind", kind, reference.get("name", "")):
            return
        refusal = check_bind(self._rbac, request.user, obj)
        if refusal is not None:
            raise refusal

    async def _may(self, request: AdmissionRequest, verb: str, resource: str, name: str) -> bool:
        attributes = Attributes(request.user, verb, _GROUP, "*", resource, "", request.namespace, name)
        return (await decide(self._authorizer, attributes)).allowed
