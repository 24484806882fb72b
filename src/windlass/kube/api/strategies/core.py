"""The core group's data and bookkeeping: namespaces, nodes, secrets, config maps, events, quotas, accounts."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.api import names, objects, quantity
from windlass.kube.api.identity import User
from windlass.kube.api.resource import Object
from windlass.kube.api.status import FieldError, forbidden_field, invalid_value, required
from windlass.kube.api.strategies.common import Plain, WithStatus, immutable, one_of, spec_of

_MAX_DATA = 1024 * 1024
NAME_LABEL = "kubernetes.io/metadata.name"


class Namespaces(WithStatus):
    """core/v1 Namespace: it goes when the namespace controller has emptied it."""

    has_dependents = True

    def __init__(self) -> None:
        super().__init__(names.dns1123_label)

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        metadata = objects.meta(obj)
        if name := metadata.get("name"):
            labels = metadata.get("labels")
            if not isinstance(labels, dict):
                labels = metadata["labels"] = {}
            labels[NAME_LABEL] = name

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`."""
        self.default(obj)
        spec = spec_of(obj)
        finalizers = spec.setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
        obj["status"] = {"phase": "Active"}

    def prepare_for_update(self, new: Object, old: Object, user: User) -> None:
        """See `Strategy.prepare_for_update`."""
        super().prepare_for_update(new, old, user)
        if "spec" in old:
            new["spec"] = old["spec"]

    def begin_deletion(self, obj: Object) -> None:
        """See `Strategy.begin_deletion`."""
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}

    def holds(self, obj: Object) -> bool:
        """See `Strategy.holds`."""
        return bool((obj.get("spec") or {}).get("finalizers"))

    def grace_period(self, obj: Object, asked: int | None) -> int | None:
        """See `Strategy.grace_period`."""
        return 0

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        return {"status.phase": (obj.get("status") or {}).get("phase", ""), "name": objects.name_of(obj)}

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset({"status.phase", "name"})


class Nodes(WithStatus):
    """core/v1 Node."""

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`: a node agent registers its node with the status."""

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors: list[FieldError] = []
        seen = set()
        for index, taint in enumerate((obj.get("spec") or {}).get("taints") or ()):
            path = f"spec.taints[{index}]"
            errors += [
                invalid_value(f"{path}.key", taint.get("key"), t) for t in names.qualified_name(taint.get("key") or "")
            ]
            errors += one_of(taint.get("effect"), ("NoSchedule", "PreferNoSchedule", "NoExecute"), f"{path}.effect")
            key = (taint.get("key"), taint.get("effect"))
            if key in seen:
                from windlass.kube.api.status import duplicate

                errors.append(duplicate(path, taint))
            seen.add(key)
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new))
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        for name in ("podCIDR", "providerID"):
            if before.get(name) and spec.get(name) != before[name]:
                errors.append(
                    forbidden_field(f"spec.{name}", "node updates may not change " + name + ' except from "" to valid')
                )
        return errors

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        return {"spec.unschedulable": "true" if (obj.get("spec") or {}).get("unschedulable") else "false"}

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset({"spec.unschedulable"})


_NEEDED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


class Secrets(Plain):
    """core/v1 Secret."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        obj.setdefault("type", "Opaque")
        texts = obj.pop("stringData", None)
        if texts:
            data = obj.setdefault("data", {})
            for key, text in texts.items():
                data[key] = base64.b64encode(text.encode()).decode()

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        data = obj.get("data") or {}
        errors: list[FieldError] = []
        size = 0
        for key, text in data.items():
            errors += [invalid_value(f"data[{key}]", key, problem) for problem in names.config_key(key)]
            size += len(text or "") * 3 // 4
        if size > _MAX_DATA:
            from windlass.kube.api.status import too_long

            errors.append(too_long("data", _MAX_DATA))
        kind = obj.get("type", "")
        for key in _NEEDED.get(kind, ()):
            if key not in data:
                errors.append(required(f"data[{key}]"))
        if kind == "kubernetes.io/basic-auth" and not ({"username", "password"} & data.keys()):
            errors += [required("data[username]"), required("data[password]")]
        if kind == "kubernetes.io/service-account-token" and not (
            (obj["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name")
        ):
            errors.append(required("metadata.annotations[kubernetes.io/service-account.name]"))
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new))
        errors += immutable(new.get("type"), old.get("type"), "type")
        return errors + _kept(new, old, ("data",))

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        return {"type": obj.get("type", "")}

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset({"type"})


def _kept(new: Object, old: Object, fields: Sequence[str]) -> list[FieldError]:
    """What an object with `immutable: true` may not change."""
    if not old.get("immutable"):
        return []
    errors: list[FieldError] = []
    if not new.get("immutable"):
        errors.append(forbidden_field("immutable", "field is immutable when `immutable` is set"))
    for name in fields:
        if new.get(name) != old.get(name):
            errors.append(forbidden_field(name, "field is immutable when `immutable` is set"))
    return errors


class ConfigMaps(Plain):
    """core/v1 ConfigMap."""

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        errors: list[FieldError] = []
        size = 0
        for field, found in (("data", data), ("binaryData", binary)):
            for key, text in found.items():
                errors += [invalid_value(f"{field}[{key}]", key, problem) for problem in names.config_key(key)]
                size += len((text or "").encode()) if field == "data" else len(text or "") * 3 // 4
                if field == "data" and key in binary:
                    detail = "duplicate of key present in binaryData"
                    errors.append(invalid_value(f"data[{key}]", key, detail))
        if size > _MAX_DATA:
            from windlass.kube.api.status import too_long

            errors.append(too_long("", _MAX_DATA))
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        return [*self.validate(new), *_kept(new, old, ("data", "binaryData"))]


class Events(Plain):
    """core/v1 and events.k8s.io/v1 Event."""

    has_dependents = False

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        about = obj.get("involvedObject") or obj.get("regarding") or {}
        namespace = objects.namespace_of(obj)
        where = "involvedObject.namespace"
        errors: list[FieldError] = []
        if about.get("namespace", "") not in ("", namespace) or (
            not about.get("namespace") and namespace not in ("", "default", "kube-system")
        ):
            errors.append(invalid_value(where, about.get("namespace") or "", "does not match event.namespace"))
        if obj.get("apiVersion") == "events.k8s.io/v1" or obj.get("eventTime"):
            for name, newer in (
                ("reportingComponent", "reportingController"),
                ("reportingInstance", "reportingInstance"),
            ):
                if not (obj.get(name) or obj.get(newer)):
                    errors.append(required(newer))
            if not obj.get("action"):
                errors.append(required("action"))
            if not obj.get("reason"):
                errors.append(required("reason"))
            errors += one_of(obj.get("type"), ("Normal", "Warning"), "type")
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        return ()

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        about = obj.get("involvedObject") or obj.get("regarding") or {}
        source = obj.get("source") or obj.get("deprecatedSource") or {}
        found = {
            "reason": obj.get("reason", ""),
            "type": obj.get("type", ""),
            "source": source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or "",
            "reportingComponent": obj.get("reportingComponent") or obj.get("reportingController") or "",
        }
        for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"):
            found[f"involvedObject.{name}"] = found[f"regarding.{name}"] = about.get(name, "")
        return found

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset(self.selectable_fields({}))


class ServiceAccounts(Plain):
    """core/v1 ServiceAccount."""

    returns_deleted = True


class ResourceQuotas(WithStatus):
    """core/v1 ResourceQuota."""

    returns_deleted = True

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors: list[FieldError] = []
        spec = obj.get("spec") or {}
        for name, text in (spec.get("hard") or {}).items():
            path = f"spec.hard[{name}]"
            errors += [invalid_value(path, name, problem) for problem in names.qualified_name(name)]
            if quantity.parse(text).nano < 0:
                errors.append(invalid_value(path, text, "must be greater than or equal to 0"))
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new))
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        if (spec.get("scopes") or []) != (before.get("scopes") or []):
            errors.append(invalid_value("spec.scopes", spec.get("scopes"), "field is immutable"))
        return errors


class LimitRanges(Plain):
    """core/v1 LimitRange."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        for item in (obj.get("spec") or {}).get("limits") or ():
            if item.get("type") != "Container":
                continue
            default, request = item.get("default") or {}, item.get("defaultRequest") or {}
            for name, value in (item.get("max") or {}).items():
                default.setdefault(name, value)
            for name, value in default.items():
                request.setdefault(name, value)
            for name, value in (item.get("min") or {}).items():
                request.setdefault(name, value)
            if default:
                item["default"] = default
            if request:
                item["defaultRequest"] = request

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors: list[FieldError] = []
        for index, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
            path = f"spec.limits[{index}]"
            if not item.get("type"):
                errors.append(required(f"{path}.type"))
            for name in sorted(
                {key for field in ("min", "max", "default", "defaultRequest") for key in item.get(field) or ()}
            ):
                amounts = [
                    (field, (item.get(field) or {})[name])
                    for field in ("min", "defaultRequest", "default", "max")
                    if name in (item.get(field) or {})
                ]
                for (low, small), (high, large) in itertools.pairwise(amounts):
                    if quantity.parse(small).nano > quantity.parse(large).nano:
                        detail = f"{_WORDS[low]} value {small} is greater than {_WORDS[high]} value {large}"
                        errors.append(invalid_value(f"{path}.{low}[{name}]", small, detail))
        return errors


_WORDS: Mapping[str, Any] = {"min": "min", "max": "max", "default": "default", "defaultRequest": "default request"}
