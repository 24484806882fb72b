"""What a job says of failures of its pods, and when it is done before all of them are.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy and #success-policy
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from windlass.kube.api.resource import Object
from windlass.kube.controllers.job import indexes
from windlass.kube.controllers.job.indexes import Indexes

FAIL_JOB, FAIL_INDEX, IGNORE, COUNT = "FailJob", "FailIndex", "Ignore", "Count"


class Verdict(NamedTuple):
    """What a pod's failure means. `action`: of the rule that matched, "" if none did."""

    action: str = ""
    counts: bool = True
    message: str = ""


_DEFAULT: Final = Verdict()


def judge(policy: Object | None, pod: Object) -> Verdict:
    """The first rule that a failed pod matches decides."""
    for index, rule in enumerate((policy or {}).get("rules") or ()):
        action = rule["action"]
        what = _matched(rule, pod)
        if not what:
            continue
        message = f"{what} matching {action} rule at index {index}" if action == FAIL_JOB else ""
        return Verdict(action, action != IGNORE, message)
    return _DEFAULT


def _matched(rule: Object, pod: Object) -> str:
    """What of a pod matches a rule, "" if nothing does."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    name = f"{metadata['namespace']}/{metadata['name']}"
    if (wanted := rule.get("onExitCodes")) is not None:
        for each in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())):
            code = ((each.get("state") or {}).get("terminated") or {}).get("exitCode") or 0
            if code and wanted.get("containerName") in (None, each["name"]) and _has_code(wanted, code):
                return f"Container {each['name']} for pod {name} failed with exit code {code}"
        return ""
    for condition in status.get("conditions") or ():
        for pattern in rule.get("onPodConditions") or ():
            if (condition["type"], condition["status"]) == (pattern["type"], pattern.get("status", "True")):
                return f"Pod {name} has condition {condition['type']}"
    return ""


def _has_code(wanted: Object, code: int) -> bool:
    values: Sequence[Any] = wanted.get("values") or ()
    return code in values if wanted["operator"] == "In" else code not in values


def met_criteria(policy: Object | None, succeeded: Indexes, completions: int) -> str:
    """Which rule of a success policy is met, as its message; "" if none is."""
    if not policy or not succeeded:
        return ""
    for index, rule in enumerate(policy.get("rules") or ()):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = indexes.parse(rule["succeededIndexes"], completions)
            if wanted and (wanted <= succeeded or (count is not None and len(wanted & succeeded) >= count)):
                return f"Matched rules at index {index}"
        elif count is not None and len(succeeded) >= count:
            return f"Matched rules at index {index}"
    return ""
