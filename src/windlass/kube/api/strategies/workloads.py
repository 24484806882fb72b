"""Everything with a pod template: deployments, replica sets, stateful sets, daemon sets, controllers, jobs.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.kube.api import cron, names, objects, selectors
from windlass.kube.api.identity import User
from windlass.kube.api.resource import Object
from windlass.kube.api.status import (
    FieldError,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from windlass.kube.api.strategies.common import IMMUTABLE, Full, Plain, immutable, non_negative, one_of, spec_of
from windlass.kube.api.strategies.pod_defaults import default_pod_spec
from windlass.kube.api.strategies.pod_rules import validate_pod_spec

_UID_LABEL, _NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"


def _template(spec: dict[str, Any]) -> dict[str, Any]:
    found = spec.setdefault("template", {})
    found.setdefault("metadata", {})
    template: dict[str, Any] = found.setdefault("spec", {})
    return template


def _labels(spec: Mapping[str, Any]) -> Mapping[str, str]:
    return ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}


def validate_selector(spec: Mapping[str, Any], *, path: str = "spec") -> list[FieldError]:
    """A selector that is there, is well formed, and selects the template's own pods."""
    selector = spec.get("selector")
    errors: list[FieldError] = []
    if selector is None:
        errors.append(required(f"{path}.selector"))
        selector = {}
    else:
        errors += selectors.validate_label_selector(selector, f"{path}.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errors.append(invalid_value(f"{path}.selector", selector, "empty selector is invalid for deployment"))
    if not errors and not selectors.matches_label_selector(selector, _labels(spec)):
        errors.append(
            invalid_value(
                f"{path}.template.metadata.labels", dict(_labels(spec)), "`selector` does not match template `labels`"
            )
        )
    return errors


def validate_template(
    spec: Mapping[str, Any], *, path: str = "spec.template", policies: tuple[str, ...] = ("Always",)
) -> list[FieldError]:
    """A pod template whose pods may restart as the workload needs it."""
    template = spec.get("template") or {}
    found = template.get("spec") or {}
    metadata = template.get("metadata") or {}
    errors = names.validate_labels(metadata.get("labels") or {}, f"{path}.labels")
    errors += names.validate_annotations(metadata.get("annotations") or {}, f"{path}.annotations")
    claims = [(each.get("metadata") or {}).get("name", "") for each in spec.get("volumeClaimTemplates") or ()]
    errors += validate_pod_spec(found, f"{path}.spec", template=True, claims=claims)
    policy = found.get("restartPolicy")
    if policy not in policies and policy in ("Always", "OnFailure", "Never"):
        errors.append(not_supported(f"{path}.spec.restartPolicy", policy, policies))
    if found.get("activeDeadlineSeconds") is not None and policies == ("Always",):
        errors.append(
            forbidden_field(
                f"{path}.spec.activeDeadlineSeconds", "activeDeadlineSeconds in the template is not supported"
            )
        )
    return errors


_PERCENT = re.compile(r"\d{1,9}%")


def int_or_percent(value: Any, path: str) -> list[FieldError]:
    """A count, or a share such as "25%"."""
    if isinstance(value, str):
        if not _PERCENT.fullmatch(value):
            return [
                invalid_value(
                    path,
                    value,
                    "a valid percent string must be a numeric string followed by an ending '%' "
                    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                )
            ]
        return []
    return non_negative(value, path)


def _is_zero(value: Any) -> bool:
    return value in (0, "0%")


class Workload(Full):
    """What deployments, replica sets and stateful sets share."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        spec.setdefault("replicas", 1)
        default_pod_spec(_template(spec))
        self.default_spec(spec)

    def default_spec(self, spec: dict[str, Any]) -> None:
        """What the kind adds."""

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors = non_negative(spec.get("replicas"), "spec.replicas")
        errors += validate_selector(spec)
        errors += validate_template(spec)
        errors += self.validate_spec(spec)
        return errors

    def validate_spec(self, spec: Mapping[str, Any]) -> list[FieldError]:
        """What the kind adds."""
        return []

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new)) if new["spec"] != old["spec"] else []
        return errors + immutable(new["spec"].get("selector"), old["spec"].get("selector"), "spec.selector")


class Deployments(Workload):
    """apps/v1 Deployment."""

    def default_spec(self, spec: dict[str, Any]) -> None:
        """See `Workload.default_spec`."""
        strategy = spec.setdefault("strategy", {})
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)

    def validate_spec(self, spec: Mapping[str, Any]) -> list[FieldError]:
        """See `Workload.validate_spec`."""
        strategy = spec.get("strategy") or {}
        errors = one_of(strategy.get("type"), ("Recreate", "RollingUpdate"), "spec.strategy.type")
        rolling = strategy.get("rollingUpdate")
        if strategy.get("type") == "Recreate" and rolling is not None:
            errors.append(
                forbidden_field(
                    "spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"
                )
            )
        elif rolling is not None:
            for name in ("maxUnavailable", "maxSurge"):
                errors += int_or_percent(rolling.get(name, 0), f"spec.strategy.rollingUpdate.{name}")
            if _is_zero(rolling.get("maxUnavailable")) and _is_zero(rolling.get("maxSurge")):
                detail = "may not be 0 when `maxSurge` is 0"
                errors.append(
                    invalid_value("spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], detail)
                )
        errors += non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
        errors += non_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
        deadline = spec.get("progressDeadlineSeconds")
        if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
            errors.append(
                invalid_value("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")
            )
        return errors


class ReplicaSets(Workload):
    """apps/v1 ReplicaSet."""

    def validate_spec(self, spec: Mapping[str, Any]) -> list[FieldError]:
        """See `Workload.validate_spec`."""
        return non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        return {"status.replicas": str((obj.get("status") or {}).get("replicas", 0))}

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset({"status.replicas"})


class StatefulSets(Workload):
    """apps/v1 StatefulSet."""

    def default_spec(self, spec: dict[str, Any]) -> None:
        """See `Workload.default_spec`."""
        spec.setdefault("podManagementPolicy", "OrderedReady")
        strategy = spec.setdefault("updateStrategy", {})
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
        spec.setdefault("revisionHistoryLimit", 10)
        policy = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        policy.setdefault("whenDeleted", "Retain")
        policy.setdefault("whenScaled", "Retain")
        for claim in spec.get("volumeClaimTemplates") or ():
            claim.setdefault("apiVersion", "v1")
            claim.setdefault("kind", "PersistentVolumeClaim")
            claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
            claim.setdefault("status", {}).setdefault("phase", "Pending")

    def validate_spec(self, spec: Mapping[str, Any]) -> list[FieldError]:
        """See `Workload.validate_spec`."""
        errors = one_of(spec.get("podManagementPolicy"), ("OrderedReady", "Parallel"), "spec.podManagementPolicy")
        strategy = spec.get("updateStrategy") or {}
        errors += one_of(strategy.get("type"), ("RollingUpdate", "OnDelete"), "spec.updateStrategy.type")
        partition = (strategy.get("rollingUpdate") or {}).get("partition")
        errors += non_negative(partition, "spec.updateStrategy.rollingUpdate.partition")
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new)) if new["spec"] != old["spec"] else []
        free = (
            "replicas",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "minReadySeconds",
            "ordinals",
            "persistentVolumeClaimRetentionPolicy",
        )
        kept = [{key: value for key, value in each["spec"].items() if key not in free} for each in (new, old)]
        if kept[0] != kept[1]:
            errors.append(
                forbidden_field(
                    "spec",
                    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
                    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                    "'minReadySeconds' are forbidden",
                )
            )
        return errors


class DaemonSets(Full):
    """apps/v1 DaemonSet."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        default_pod_spec(_template(spec))
        strategy = spec.setdefault("updateStrategy", {})
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", 10)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors = validate_selector(spec) + validate_template(spec)
        strategy = spec.get("updateStrategy") or {}
        errors += one_of(strategy.get("type"), ("RollingUpdate", "OnDelete"), "spec.updateStrategy.type")
        rolling = strategy.get("rollingUpdate")
        if rolling is not None:
            for name in ("maxUnavailable", "maxSurge"):
                errors += int_or_percent(rolling.get(name, 0), f"spec.updateStrategy.rollingUpdate.{name}")
            if _is_zero(rolling.get("maxUnavailable")) and _is_zero(rolling.get("maxSurge")):
                detail = "cannot be 0 when maxSurge is 0"
                errors.append(
                    invalid_value("spec.updateStrategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], detail)
                )
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        errors = list(self.validate(new)) if new["spec"] != old["spec"] else []
        return errors + immutable(new["spec"].get("selector"), old["spec"].get("selector"), "spec.selector")


class ReplicationControllers(Full):
    """core/v1 ReplicationController: its selector is a plain map, taken from the template where it is absent."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        spec.setdefault("replicas", 1)
        if spec.get("template"):
            default_pod_spec(_template(spec))
        if labels := dict(_labels(spec)):
            if not spec.get("selector"):
                spec["selector"] = labels
            objects.meta(obj).setdefault("labels", labels)

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors = non_negative(spec.get("replicas"), "spec.replicas")
        selector = spec.get("selector")
        if not selector:
            errors.append(required("spec.selector"))
        if not spec.get("template"):
            errors.append(required("spec.template"))
            return errors
        if selector and any(_labels(spec).get(key) != value for key, value in selector.items()):
            detail = "`selector` does not match template `labels`"
            errors.append(invalid_value("spec.template.metadata.labels", dict(_labels(spec)), detail))
        return errors + validate_template(spec)


class ControllerRevisions(Plain):
    """apps/v1 ControllerRevision."""

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        errors = non_negative(obj.get("revision"), "revision")
        if obj.get("data") is None:
            errors.append(required("data", "data is mandatory"))
        return errors

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        return [*self.validate(new), *immutable(new.get("data"), old.get("data"), "data")]


def default_job(spec: dict[str, Any]) -> None:
    """The defaults of a job's spec."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = spec["parallelism"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 2**31 - 1 if spec.get("backoffLimitPerIndex") is not None else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    policy = spec.get("podFailurePolicy")
    spec.setdefault("podReplacementPolicy", "Failed" if policy else "TerminatingOrFailed")
    for rule in (policy or {}).get("rules") or ():
        for condition in rule.get("onPodConditions") or ():
            condition.setdefault("status", "True")
    default_pod_spec(_template(spec))


def validate_job(spec: Mapping[str, Any], path: str = "spec") -> list[FieldError]:
    """The rules of a job's spec."""
    errors: list[FieldError] = []
    for name in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        errors += non_negative(spec.get(name), f"{path}.{name}")
    mode = spec.get("completionMode")
    errors += one_of(mode, ("NonIndexed", "Indexed"), f"{path}.completionMode")
    if mode == "Indexed" and spec.get("completions") is None:
        detail = "when completion mode is Indexed"
        errors.append(required(f"{path}.completions", detail))
    if spec.get("backoffLimitPerIndex") is not None and mode != "Indexed":
        errors.append(
            invalid_value(
                f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], "requires indexed completion mode"
            )
        )
    errors += validate_template(spec, path=f"{path}.template", policies=("OnFailure", "Never"))
    return errors


class Jobs(Full):
    """batch/v1 Job: its selector is the server's, by a label that no other job has."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        default_job(spec_of(obj))

    def prepare_for_create(self, obj: Object, user: User) -> None:
        """See `Strategy.prepare_for_create`."""
        obj["status"] = {}
        spec = obj["spec"]
        if spec.get("manualSelector"):
            return
        uid, name = obj["metadata"]["uid"], objects.name_of(obj)
        labels = spec["template"]["metadata"].setdefault("labels", {})
        for key, value in (("controller-uid", uid), ("job-name", name), (_UID_LABEL, uid), (_NAME_LABEL, name)):
            labels.setdefault(key, value)
        spec["selector"] = {"matchLabels": {_UID_LABEL: uid}}

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors = validate_selector(spec) if spec.get("manualSelector") else []
        return errors + validate_job(spec)

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        """See `Strategy.validate_update`."""
        spec, before = new["spec"], old["spec"]
        if spec == before:
            return ()
        errors = validate_job(spec)
        for name in ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "successPolicy"):
            errors += immutable(spec.get(name), before.get(name), f"spec.{name}")
        if spec.get("completionMode") != "Indexed" or spec.get("completions") != spec.get("parallelism"):
            errors += immutable(spec.get("completions"), before.get("completions"), "spec.completions")
        may_change = before.get("suspend") and not (old.get("status") or {}).get("startTime")
        if not may_change and spec.get("template") != before.get("template"):
            errors.append(invalid_value("spec.template", spec.get("template"), IMMUTABLE))
        return errors

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """See `Strategy.selectable_fields`."""
        return {"status.successful": str((obj.get("status") or {}).get("succeeded", 0))}

    def field_labels(self) -> frozenset[str]:
        """See `Strategy.field_labels`."""
        return frozenset({"status.successful"})


class CronJobs(Full):
    """batch/v1 CronJob."""

    def default(self, obj: Object) -> None:
        """See `Strategy.default`."""
        spec = spec_of(obj)
        spec.setdefault("concurrencyPolicy", "Allow")
        spec.setdefault("suspend", False)
        spec.setdefault("successfulJobsHistoryLimit", 3)
        spec.setdefault("failedJobsHistoryLimit", 1)
        job = spec.setdefault("jobTemplate", {})
        job.setdefault("metadata", {})
        default_pod_spec(_template(job.setdefault("spec", {})))

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        """See `Strategy.validate_name`: eleven characters are for the suffix of its jobs."""
        errors = super().validate_name(name, prefix=prefix)
        return [*errors, "must be no more than 52 characters"] if len(name) > 52 else errors

    def validate(self, obj: Object) -> Sequence[FieldError]:
        """See `Strategy.validate`."""
        spec = obj["spec"]
        errors: list[FieldError] = []
        schedule = spec.get("schedule") or ""
        if not schedule:
            errors.append(required("spec.schedule"))
        elif problem := schedule_problem(schedule):
            errors.append(invalid_value("spec.schedule", schedule, problem))
        errors += non_negative(spec.get("startingDeadlineSeconds"), "spec.startingDeadlineSeconds")
        errors += one_of(spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"), "spec.concurrencyPolicy")
        for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            errors += non_negative(spec.get(name), f"spec.{name}")
        if (zone := spec.get("timeZone")) is not None and not _is_time_zone(zone):
            errors.append(invalid_value("spec.timeZone", zone, f"unknown time zone {zone}"))
        job = (spec.get("jobTemplate") or {}).get("spec") or {}
        return errors + validate_template(job, path="spec.jobTemplate.spec.template", policies=("OnFailure", "Never"))


def schedule_problem(text: str) -> str:
    """What is wrong with a cron schedule, "" where nothing is."""
    if "TZ" in text:
        return "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
    try:
        cron.parse(text)
    except cron.BadSchedule as error:
        return str(error)
    return ""


def _is_time_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if not name or name.lower() == "local" or name.startswith(("/", "-", "+")) or ".." in name:
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return name == "UTC"
    return True
