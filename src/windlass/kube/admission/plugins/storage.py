"""Storage: what is used is not taken away, and grows only where its class allows."""

from __future__ import annotations

from windlass.kube.admission.attributes import AdmissionRequest
from windlass.kube.admission.chain import Plugin
from windlass.kube.api import quantity, status
from windlass.kube.api.reader import Reader

_FINALIZERS = {
    "persistentvolumes": "kubernetes.io/pv-protection",
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
}


class StorageObjectInUseProtection(Plugin):
    """Volumes and claims get a finalizer, which their controllers take off when nobody uses them."""

    name = "StorageObjectInUseProtection"

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """New volumes and claims."""
        return group == "" and resource in _FINALIZERS and not subresource and operation == "CREATE"

    def mutate(self, request: AdmissionRequest) -> None:
        """Add the finalizer."""
        finalizers = request.target["metadata"].setdefault("finalizers", [])
        wanted = _FINALIZERS[request.resource.plural]
        if wanted not in finalizers:
            finalizers.append(wanted)


class PersistentVolumeClaimResize(Plugin):
    """A claim grows only where it is bound and its class says so."""

    name = "PersistentVolumeClaimResize"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, group: str, resource: str, subresource: str, operation: str) -> bool:
        """Changed claims."""
        return (group, resource, subresource, operation) == ("", "persistentvolumeclaims", "", "UPDATE")

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse to grow."""
        assert request.old is not None
        now, was = (
            quantity.parse(((each["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0")).nano
            for each in (request.target, request.old)
        )
        if now <= was:
            return
        name = request.target["spec"].get("storageClassName") or ""
        if (request.old.get("status") or {}).get("phase") != "Bound":
            raise status.forbidden(
                "persistentvolumeclaims", "", request.name, "Only bound persistent volume claims can be expanded"
            )
        found = self._reader.get("storage.k8s.io", "storageclasses", "", name) if name else None
        if found is None or not found.get("allowVolumeExpansion"):
            why = (
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize"
            )
            raise status.forbidden("persistentvolumeclaims", "", request.name, why)
