"""Pods: their defaults and rules, what may change while they run, and how they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.api import names, objects, quantity
from windlass.kube.api.identity import User
from windlass.kube.api.resource import Object
from windlass.kube.api.status import FieldError, forbidden_field, invalid_value, required
from windlass.kube.api.strategies.common import Full, spec_of
from windlass.kube.api.strategies.pod_defaults import default_pod, default_pod_spec
from windlass.kube.api.strategies.pod_rules import validate_pod_spec

_REFUSAL = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_COMPUTE = ("cpu", "memory")


def qos_class(spec: Mapping[str, Any]) -> str:
    """Guaranteed, Burstable or BestEffort.

    Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
    """
    has_any, guaranteed = False, True
    own = spec.get("resources")
    holders = (
        [own]
        if own
        else [each.get("resources") or {} for kind in ("initContainers", "containers") for each in spec.get(kind) or ()]
    )
    for resources in holders:
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in _COMPUTE:
            limit, request = limits.get(name), requests.get(name)
            if (limit and quantity.parse(limit).nano) or (request and quantity.parse(request).nano):
                has_any = True
            if not limit or (
                (request or limit) != limit and quantity.parse(request).nano != quantity.parse(limit).nano
            ):
                guaranteed = False
    if not has_any:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


class Pods(Full):
    """core/v1 Pod."""

    returns_deleted = True

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        default_pod_spec(spec)
        default_pod(spec)

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`."""
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}
        if obj["spec"].get("schedulingGates"):
            obj["status"]["conditions"] = [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                }
            ]

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors = validate_pod_spec(obj["spec"])
        if obj["spec"].get("ephemeralContainers"):
            errors.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
        if obj["spec"].get("nodeName") and obj["spec"].get("schedulingGates"):
            errors.append(forbidden_field("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        spec, before = new["spec"], old["spec"]
        if spec == before:
            return ()
        errors = validate_pod_spec(spec)
        if len(spec.get("containers") or ()) != len(before.get("containers") or ()):
            errors.append(forbidden_field("spec.containers", "pod updates may not add or remove containers"))
            return errors
        if len(spec.get("initContainers") or ()) != len(before.get("initContainers") or ()):
            errors.append(forbidden_field("spec.initContainers", "pod updates may not add or remove containers"))
            return errors
        deadline, was = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
        if was is not None and deadline is None:
            detail = "must not update from a positive integer to nil value"
            errors.append(invalid_value("spec.activeDeadlineSeconds", deadline, detail))
        elif was is not None and deadline > was:
            errors.append(
                invalid_value("spec.activeDeadlineSeconds", deadline, "must be less than or equal to previous value")
            )
        kept = before.get("tolerations") or []
        if any(each not in (spec.get("tolerations") or []) for each in kept):
            detail = "existing toleration can not be modified except its tolerationSeconds"
            errors.append(forbidden_field("spec.tolerations", detail))
        gates = [each["name"] for each in before.get("schedulingGates") or ()]
        if any(each["name"] not in gates for each in spec.get("schedulingGates") or ()):
            errors.append(forbidden_field("spec.schedulingGates", "only deletion is allowed"))
        masked = objects.copy(spec)
        for name in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
            _mask(masked, before, name)
        if gates:
            for name in ("nodeSelector", "affinity"):
                _mask(masked, before, name)
        if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
            _mask(masked, before, "terminationGracePeriodSeconds")
        for kind in ("containers", "initContainers"):
            for each, other in zip(masked.get(kind) or (), before.get(kind) or (), strict=False):
                each["image"] = other.get("image", "")
        if masked != before:
            errors.append(forbidden_field("spec", f"{_REFUSAL}\n{_difference(masked, before)}"))
        return errors

    def validate_status_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_status_update`."""
        node = (new.get("status") or {}).get("nominatedNodeName")
        return (
            [invalid_value("status.nominatedNodeName", node, text) for text in names.dns1123_subdomain(node)]
            if node
            else ()
        )

    def prepare_for_update(self, new: Object, old: Object, user: User) -> None:
        """See `Strategy.prepare_for_update`."""
        super().prepare_for_update(new, old, user)
        before = old["spec"].get("ephemeralContainers")
        if before is None:
            new["spec"].pop("ephemeralContainers", None)
        else:
            new["spec"]["ephemeralContainers"] = before

    def prepare_for_status_update(self, new: Object, old: Object) -> None:
        """See `Strategy.prepare_for_status_update`."""
        super().prepare_for_status_update(new, old)
        quality = (old.get("status") or {}).get("qosClass")
        if quality and isinstance(new.get("status"), dict):
            new["status"].setdefault("qosClass", quality)

    def warnings(self, obj: Object, old: Object | None) -> Sequence[str]:
        """See `Strategy.warnings`."""
        found = []
        spec = obj.get("spec") or {}
        for kind in ("initContainers", "containers"):
            for index, container in enumerate(spec.get(kind) or ()):
                seen: set[str] = set()
                for number, variable in enumerate(container.get("env") or ()):
                    name = variable.get("name", "")
                    if name in seen:
                        found.append(
                            f'spec.{kind}[{index}].env[{number}]: hides previous definition of "{name}", which may be '
                            "dropped when using apply"
                        )
                    seen.add(name)
        return found

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        return {
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.restartPolicy": spec.get("restartPolicy", ""),
            "spec.schedulerName": spec.get("schedulerName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
            "status.phase": status.get("phase", ""),
            "status.podIP": status.get("podIP", ""),
            "status.nominatedNodeName": status.get("nominatedNodeName", ""),
        }

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset(self.selectable_fields({}))

    def grace_period(self, obj: Object, asked: int | None) -> int | None:
        """See `Strategy.grace_period`: a pod that runs nowhere ends at once."""
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
            return 0
        if asked is not None:
            return max(asked, 0)
        found = spec.get("terminationGracePeriodSeconds")
        return 30 if found is None else max(int(found), 1)


def _mask(masked: dict[str, Any], before: Mapping[str, Any], name: str) -> None:
    if name in before:
        masked[name] = before[name]
    else:
        masked.pop(name, None)


def _difference(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """The fields that differ, one a line, as a reader wants to see them."""
    lines = []
    for name in sorted(new.keys() | old.keys()):
        if new.get(name) != old.get(name):
            lines.append(f"- {name}: {old.get(name)!r}")
            lines.append(f"+ {name}: {new.get(name)!r}")
    return "\n".join(lines)


class PodTemplates(Full):
    """core/v1 PodTemplate."""

    has_status = False
    returns_deleted = True

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        default_pod_spec(obj.setdefault("template", {}).setdefault("spec", {}))

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = (obj.get("template") or {}).get("spec")
        if not spec:
            return [required("template.spec")]
        return validate_pod_spec(spec, "template.spec", template=True)
