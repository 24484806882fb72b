"""Roles, budgets, priorities, certificates, leases, autoscalers: who may, and how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.api import names, selectors
from windlass.kube.api.identity import User
from windlass.kube.api.resource import Object
from windlass.kube.api.status import FieldError, forbidden_field, invalid_value, not_supported, required
from windlass.kube.api.strategies.common import Full, Generational, Plain, WithStatus, immutable, one_of, spec_of
from windlass.kube.api.strategies.workloads import int_or_percent

_RBAC = "rbac.authorization.k8s.io"


class Roles(Plain):
    """rbac.authorization.k8s.io/v1 Role and ClusterRole."""

    def __init__(self, *, namespaced: bool) -> None:
        super().__init__(names.path_segment)
        self._namespaced = namespaced

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors: list[FieldError] = []
        for index, rule in enumerate(obj.get("rules") or ()):
            path = f"rules[{index}]"
            if not rule.get("verbs"):
                errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
            urls = rule.get("nonResourceURLs")
            if urls:
                if self._namespaced:
                    detail = "namespaced rules cannot apply to non-resource URLs"
                    errors.append(invalid_value(f"{path}.nonResourceURLs", urls, detail))
                if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                    detail = "rules cannot apply to both regular resources and non-resource URLs"
                    errors.append(invalid_value(f"{path}.nonResourceURLs", urls, detail))
                continue
            if not rule.get("apiGroups"):
                errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
            if not rule.get("resources"):
                errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
        return errors


class Bindings(Plain):
    """rbac.authorization.k8s.io/v1 RoleBinding and ClusterRoleBinding."""

    def __init__(self, *, namespaced: bool) -> None:
        super().__init__(names.path_segment)
        self._namespaced = namespaced

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        reference = obj.get("roleRef")
        if isinstance(reference, dict) and not reference.get("apiGroup"):
            reference["apiGroup"] = _RBAC
        for subject in obj.get("subjects") or ():
            if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
                subject["apiGroup"] = _RBAC

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        reference = obj.get("roleRef") or {}
        errors: list[FieldError] = []
        if reference.get("apiGroup") != _RBAC:
            errors.append(not_supported("roleRef.apiGroup", reference.get("apiGroup") or "", [_RBAC]))
        kinds = ("Role", "ClusterRole") if self._namespaced else ("ClusterRole",)
        if reference.get("kind") not in kinds:
            errors.append(not_supported("roleRef.kind", reference.get("kind") or "", kinds))
        name = reference.get("name") or ""
        if not name:
            errors.append(required("roleRef.name"))
        else:
            errors += [invalid_value("roleRef.name", name, text) for text in names.path_segment(name)]
        for index, subject in enumerate(obj.get("subjects") or ()):
            path = f"subjects[{index}]"
            if not subject.get("name"):
                errors.append(required(f"{path}.name"))
            kind = subject.get("kind")
            if kind == "ServiceAccount":
                if subject.get("name"):
                    errors += [
                        invalid_value(f"{path}.name", subject["name"], text)
                        for text in names.dns1123_subdomain(subject["name"])
                    ]
                if subject.get("apiGroup"):
                    errors.append(not_supported(f"{path}.apiGroup", subject["apiGroup"], [""]))
                if not subject.get("namespace"):
                    errors.append(required(f"{path}.namespace"))
            elif kind in ("User", "Group"):
                if subject.get("apiGroup") != _RBAC:
                    errors.append(not_supported(f"{path}.apiGroup", subject.get("apiGroup") or "", [_RBAC]))
            else:
                errors.append(not_supported(f"{path}.kind", kind or "", ["ServiceAccount", "User", "Group"]))
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new))
        return errors + immutable(new.get("roleRef"), old.get("roleRef"), "roleRef", "cannot change roleRef")


class DisruptionBudgets(Full):
    """policy/v1 PodDisruptionBudget."""

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj.get("spec") or {}
        least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
        errors: list[FieldError] = []
        if least is not None and most is not None:
            errors.append(invalid_value("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
        for name, value in (("minAvailable", least), ("maxUnavailable", most)):
            if value is not None:
                errors += int_or_percent(value, f"spec.{name}")
        if spec.get("selector") is not None:
            errors += selectors.validate_label_selector(spec["selector"], "spec.selector")
        return errors


class PriorityClasses(Generational):
    """scheduling.k8s.io/v1 PriorityClass."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        obj.setdefault("preemptionPolicy", "PreemptLowerPriority")
        obj.setdefault("value", 0)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
        errors: list[FieldError] = []
        system = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
        if name.startswith("system-") and system.get(name) != value:
            detail = "priority class names with 'system-' prefix are reserved for system use only. error: "
            detail += f"{name} is not a known system priority class"
            errors.append(forbidden_field("metadata.name", detail))
        elif value > 1000000000 and name not in system:
            errors.append(
                forbidden_field(
                    "value",
                    "maximum allowed value of a user defined priority is 1000000000",
                )
            )
        return errors + one_of(obj.get("preemptionPolicy"), ("Never", "PreemptLowerPriority"), "preemptionPolicy")

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors: list[FieldError] = []
        if new.get("value", 0) != old.get("value", 0):
            errors.append(forbidden_field("value", "may not be changed in an update."))
        return errors + immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")


class SigningRequests(WithStatus):
    """certificates.k8s.io/v1 CertificateSigningRequest: who asks is written by the server."""

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`."""
        obj["status"] = {}
        spec = spec_of(obj)
        spec["username"] = user.name
        for name in ("uid", "groups", "extra"):
            spec.pop(name, None)
        if user.uid:
            spec["uid"] = user.uid
        if user.groups:
            spec["groups"] = list(user.groups)
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra.items()}

    def prepare_for_update(self, new: Object, old: Object, user: User) -> None:
        """See `Strategy.prepare_for_update`."""
        super().prepare_for_update(new, old, user)
        new["spec"] = old["spec"]

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors: list[FieldError] = []
        if problem := _request_problem(spec.get("request") or ""):
            errors.append(invalid_value("spec.request", "<request>", problem))
        if not spec.get("usages"):
            errors.append(required("spec.usages"))
        signer = spec.get("signerName") or ""
        if not signer:
            errors.append(required("spec.signerName"))
        elif "/" not in signer:
            errors.append(
                invalid_value(
                    "spec.signerName",
                    signer,
                    "must be a fully qualified domain and path of the form 'example.com/signer-name'",
                )
            )
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            errors.append(
                invalid_value(
                    "spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds (10 minutes)"
                )
            )
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        return ()

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        return {"spec.signerName": (obj.get("spec") or {}).get("signerName", "")}

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset({"spec.signerName"})


def _request_problem(text: str) -> str:
    import base64

    from cryptography import x509

    try:
        pem = base64.b64decode(text, validate=True)
        if not pem.lstrip().startswith(b"-----BEGIN CERTIFICATE REQUEST-----"):
            return "PEM block type must be CERTIFICATE REQUEST"
        request = x509.load_pem_x509_csr(pem)
    except ValueError:
        return "PEM block type must be CERTIFICATE REQUEST"
    return "" if request.is_signature_valid else "x509: the request's signature is not its key's"


class Autoscalers(WithStatus):
    """autoscaling HorizontalPodAutoscaler, in both versions."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        spec.setdefault("minReplicas", 1)
        if obj.get("apiVersion") == "autoscaling/v2":
            if not spec.get("metrics"):
                target = {"type": "Utilization", "averageUtilization": 80}
                spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
            behavior = spec.get("behavior")
            for direction in ("scaleUp", "scaleDown"):
                rules = (behavior or {}).get(direction)
                if rules is not None:
                    rules.setdefault("selectPolicy", "Max")
        else:
            spec.setdefault("targetCPUUtilizationPercentage", 80)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
        errors: list[FieldError] = []
        if least is not None and least < 1:
            errors.append(invalid_value("spec.minReplicas", least, "must be greater than or equal to 1"))
        if most < 1:
            errors.append(invalid_value("spec.maxReplicas", most, "must be greater than 0"))
        elif least is not None and most < least:
            errors.append(invalid_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
        reference = spec.get("scaleTargetRef") or {}
        return errors + [
            required(f"spec.scaleTargetRef.{name}") for name in ("kind", "name") if not reference.get(name)
        ]


class Leases(Plain):
    """coordination.k8s.io/v1 Lease."""

    has_dependents = True

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj.get("spec") or {}
        errors: list[FieldError] = []
        seconds: Any = spec.get("leaseDurationSeconds")
        if seconds is not None and seconds <= 0:
            errors.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
        transitions: Any = spec.get("leaseTransitions")
        if transitions is not None and transitions < 0:
            errors.append(invalid_value("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
        return errors


class RuntimeClasses(Plain):
    """node.k8s.io/v1 RuntimeClass."""

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        handler = obj.get("handler") or ""
        return [invalid_value("handler", handler, text) for text in names.dns1123_label(handler)]

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        return immutable(new.get("handler"), old.get("handler"), "handler")
