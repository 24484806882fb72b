"""Audit policy: how much is recorded of a request, and at which stages. The first rule that matches decides.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/#audit-policy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.errors import WindlassError
from windlass.kube.api.identity import Attributes

LEVELS = ("None", "Metadata", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")


class BadAuditPolicy(WindlassError):
    """The policy file cannot be followed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to record of a request."""

    level: str = "None"
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False

    def records(self, stage: str) -> bool:
        """Whether an event is written at this stage."""
        return self.level != "None" and stage not in self.omit_stages


NOTHING = Choice()


class Policy:
    """The rules of audit.k8s.io/v1 Policy."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        if document.get("kind") != "Policy" or document.get("apiVersion") != "audit.k8s.io/v1":
            raise BadAuditPolicy("an audit policy has apiVersion audit.k8s.io/v1 and kind Policy")
        if not document.get("rules"):
            raise BadAuditPolicy("an audit policy has at least one rule")
        always = frozenset(document.get("omitStages") or ())
        fields = bool(document.get("omitManagedFields"))
        self._rules: list[tuple[Mapping[str, Any], Choice]] = []
        for position, rule in enumerate(document["rules"]):
            if rule.get("level") not in LEVELS:
                raise BadAuditPolicy(f"rules[{position}].level: supported values: {', '.join(LEVELS)}")
            stages = always | frozenset(rule.get("omitStages") or ())
            if not stages <= set(STAGES):
                raise BadAuditPolicy(f"rules[{position}].omitStages: supported values: {', '.join(STAGES)}")
            own = rule.get("omitManagedFields")
            self._rules.append((rule, Choice(rule["level"], stages, fields if own is None else bool(own))))

    def choose(self, asked: Attributes) -> Choice:
        """What to record of this request."""
        return next((choice for rule, choice in self._rules if _matches(rule, asked)), NOTHING)


def _matches(rule: Mapping[str, Any], asked: Attributes) -> bool:
    users, groups, verbs = (rule.get(key) or () for key in ("users", "userGroups", "verbs"))
    if users and asked.user.name not in users:
        return False
    if groups and not set(groups) & set(asked.user.groups):
        return False
    if verbs and asked.verb not in verbs:
        return False
    resources, namespaces, urls = (rule.get(key) or () for key in ("resources", "namespaces", "nonResourceURLs"))
    if not resources and not namespaces and not urls:
        return True
    if not asked.is_resource:
        return any(url in ("*", asked.path) or _begins(url, asked.path) for url in urls)
    if urls and not resources and not namespaces:
        return False
    if namespaces and asked.namespace not in namespaces:
        return False
    return not resources or any(_resource(item, asked) for item in resources)


def _begins(url: str, path: str) -> bool:
    return url.endswith("*") and path.startswith(url.rstrip("*"))


def _resource(item: Mapping[str, Any], asked: Attributes) -> bool:
    if (item.get("group") or "") != asked.group:
        return False
    names: Sequence[str] = item.get("resourceNames") or ()
    if names and asked.name not in names:
        return False
    resources = item.get("resources") or ()
    full = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    wanted = {"*", full} if not asked.subresource else {full, f"{asked.resource}/*", f"*/{asked.subresource}", "*"}
    return not resources or bool(wanted & set(resources))
