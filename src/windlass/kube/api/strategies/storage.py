"""Volumes, claims, and the classes of both."""

from __future__ import annotations

from collections.abc import Sequence

from windlass.kube.api import quantity
from windlass.kube.api.identity import User
from windlass.kube.api.resource import Object
from windlass.kube.api.status import FieldError, forbidden_field, invalid_value, required
from windlass.kube.api.strategies.common import Generational, Plain, WithStatus, immutable, one_of, spec_of

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_BOUND = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"


class PersistentVolumes(WithStatus):
    """core/v1 PersistentVolume."""

    returns_deleted = True

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
        spec.setdefault("volumeMode", "Filesystem")
        if (path := spec.get("hostPath")) is not None:
            path.setdefault("type", "")

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`."""
        obj["status"] = {"phase": "Pending"}

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors: list[FieldError] = []
        if not spec.get("accessModes"):
            errors.append(required("spec.accessModes"))
        for index, mode in enumerate(spec.get("accessModes") or ()):
            errors += one_of(mode, _MODES, f"spec.accessModes[{index}]")
        storage = (spec.get("capacity") or {}).get("storage")
        if not spec.get("capacity"):
            errors.append(required("spec.capacity"))
        elif storage is not None and quantity.parse(storage).nano <= 0:
            errors.append(invalid_value("spec.capacity[storage]", storage, "must be greater than zero"))
        errors += one_of(
            spec.get("persistentVolumeReclaimPolicy"),
            ("Delete", "Recycle", "Retain"),
            "spec.persistentVolumeReclaimPolicy",
        )
        known = {
            "capacity",
            "accessModes",
            "persistentVolumeReclaimPolicy",
            "volumeMode",
            "storageClassName",
            "claimRef",
            "mountOptions",
            "nodeAffinity",
            "volumeAttributesClassName",
        }
        sources = [name for name in spec if name not in known]
        if not sources:
            errors.append(required("spec", "must specify a volume type"))
        for name in sources[1:]:
            errors.append(forbidden_field(f"spec.{name}", "may not specify more than 1 volume type"))
        if spec.get("local") is not None and not spec.get("nodeAffinity"):
            errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
        return errors


class PersistentVolumeClaims(WithStatus):
    """core/v1 PersistentVolumeClaim."""

    returns_deleted = True

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec_of(obj).setdefault("volumeMode", "Filesystem")

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`."""
        obj["status"] = {"phase": "Pending"}

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors: list[FieldError] = []
        if not spec.get("accessModes"):
            errors.append(required("spec.accessModes", "at least 1 access mode is required"))
        for index, mode in enumerate(spec.get("accessModes") or ()):
            errors += one_of(mode, _MODES, f"spec.accessModes[{index}]")
        storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        if storage is None:
            errors.append(required("spec.resources[storage]"))
        elif quantity.parse(storage).nano <= 0:
            errors.append(invalid_value("spec.resources[storage]", storage, "must be greater than zero"))
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        spec, before = new["spec"], old["spec"]
        errors = list(self.validate(new))
        masked = {**spec}
        for name in ("resources", "volumeAttributesClassName"):
            if name in before:
                masked[name] = before[name]
            else:
                masked.pop(name, None)
        if not before.get("volumeName"):
            masked.pop("volumeName", None)
        if before.get("storageClassName") is None:
            masked.pop("storageClassName", None)
        if masked != before:
            errors.append(forbidden_field("spec", _BOUND))
        requests = [
            ((each.get("resources") or {}).get("requests") or {}).get("storage", "0") for each in (spec, before)
        ]
        now, was = (quantity.parse(each).nano for each in requests)
        if now < was:
            errors.append(
                forbidden_field("spec.resources.requests.storage", "field can not be less than status.capacity")
            )
        return errors


class StorageClasses(Plain):
    """storage.k8s.io/v1 StorageClass."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors = [] if obj.get("provisioner") else [required("provisioner")]
        errors += one_of(obj.get("reclaimPolicy"), ("Delete", "Retain"), "reclaimPolicy")
        return errors + one_of(obj.get("volumeBindingMode"), ("Immediate", "WaitForFirstConsumer"), "volumeBindingMode")

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new))
        for name in ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"):
            if new.get(name) != old.get(name):
                errors.append(forbidden_field(name, f"updates to {name} are forbidden."))
        return errors


class CSIDrivers(Generational):
    """storage.k8s.io/v1 CSIDriver."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        for name, value in (
            ("attachRequired", True),
            ("podInfoOnMount", False),
            ("storageCapacity", False),
            ("fsGroupPolicy", "ReadWriteOnceWithFSType"),
            ("volumeLifecycleModes", ["Persistent"]),
            ("requiresRepublish", False),
            ("seLinuxMount", False),
        ):
            spec.setdefault(name, value)


class VolumeAttachments(WithStatus):
    """storage.k8s.io/v1 VolumeAttachment."""

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj.get("spec") or {}
        return [required(f"spec.{name}") for name in ("attacher", "nodeName") if not spec.get(name)]

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        return immutable(new.get("spec"), old.get("spec"), "spec")


class VolumeAttributesClasses(Plain):
    """storage.k8s.io/v1 VolumeAttributesClass."""

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        return [] if obj.get("driverName") else [required("driverName")]

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        return [
            forbidden_field(name, f"updates to {name} are forbidden.")
            for name in ("driverName", "parameters")
            if new.get(name) != old.get(name)
        ]
