"""NamespaceLifecycle: nothing is made in a namespace that is not there or that goes, and some namespaces never go."""

from __future__ import annotations

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Plugin
from windlass.kube.api import status
from windlass.kube.api.reader import Reader
from windlass.kube.api.status import Cause

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle(Plugin):
    """See the module."""

    name = "NamespaceLifecycle"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Creations in namespaces, and deletions of namespaces."""
        if (group, resource) == ("", "namespaces"):
            return operation == "DELETE"
        return operation == "CREATE" and (group, resource) != (
            "authorization.k8s.io",
            "localsubjectaccessreviews",
        )

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse."""
        resource = request.resource
        if request.operation == "DELETE":
            if request.name in IMMORTAL:
                raise status.forbidden("namespaces", "", request.name, "this namespace may not be deleted")
            return
        if not resource.namespaced or not request.namespace:
            return
        namespace = self._reader.get("", "namespaces", "", request.namespace)
        if namespace is None:
            raise status.not_found("namespaces", "", request.namespace)
        if (namespace.get("status") or {}).get("phase") == "Terminating":
            why = f"unable to create new content in namespace {request.namespace} because it is being terminated"
            error = status.forbidden(resource.plural, resource.group, request.name, why)
            cause = Cause(
                "NamespaceTerminating", f"namespace {request.namespace} is being terminated", "metadata.namespace"
            )
            error.details["causes"] = [cause.to_json()]
            raise error
