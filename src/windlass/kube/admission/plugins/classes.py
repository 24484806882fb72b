"""Default classes: a claim or an ingress that names none gets the one that is marked."""

from __future__ import annotations

from collections.abc import Sequence

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Plugin
from windlass.kube.api import status
from windlass.kube.api.reader import Object, Reader

_STORAGE = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_INGRESS = ("ingressclass.kubernetes.io/is-default-class",)


def marked(found: Sequence[Object], annotations: Sequence[str]) -> list[Object]:
    """The classes marked as default, the newest first."""
    chosen = [
        each
        for each in found
        if any((each["metadata"].get("annotations") or {}).get(name) == "true" for name in annotations)
    ]
    chosen.sort(key=lambda each: each["metadata"]["name"])
    return sorted(chosen, key=lambda each: str(each["metadata"].get("creationTimestamp", "")), reverse=True)


class DefaultStorageClass(Plugin):
    """Sets a claim's storage class."""

    name = "DefaultStorageClass"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """New claims."""
        return (group, resource, subresource, operation) == ("", "persistentvolumeclaims", "", "CREATE")

    def mutate(self, request: AdmissionRequest) -> None:
        """Set it where the claim says nothing; the empty class is said."""
        claim = request.target
        annotations = claim["metadata"].get("annotations") or {}
        if (
            claim["spec"].get("storageClassName") is not None
            or "volume.beta.kubernetes.io/storage-class" in annotations
        ):
            return
        found = marked(self._reader.list("storage.k8s.io", "storageclasses"), _STORAGE)
        if found:
            claim["spec"]["storageClassName"] = found[0]["metadata"]["name"]


class DefaultIngressClass(Plugin):
    """Sets an ingress's class."""

    name = "DefaultIngressClass"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """New ingresses."""
        return (group, resource, subresource, operation) == ("networking.k8s.io", "ingresses", "", "CREATE")

    def mutate(self, request: AdmissionRequest) -> None:
        """Set it where the ingress says nothing."""
        ingress = request.target
        annotations = ingress["metadata"].get("annotations") or {}
        if ingress["spec"].get("ingressClassName") is not None or "kubernetes.io/ingress.class" in annotations:
            return
        found = marked(self._reader.list("networking.k8s.io", "ingressclasses"), _INGRESS)
        if len(found) > 1:
            why = f"{len(found)} default IngressClasses were found, only 1 allowed"
            raise status.forbidden("ingresses", "networking.k8s.io", request.name, why)
        if found:
            ingress["spec"]["ingressClassName"] = found[0]["metadata"]["name"]
