"""Role-based access control over the cluster's Roles and bindings.

    (Cluster)RoleBinding ─ subjects ─▶ index: ("User", "ada") │ ("Group", "dev") → bindings
                         └ roleRef ──▶ role → rules
    request ─ user and groups ─▶ bindings ─▶ rules ─ first that allows ─▶ Verdict

Verdicts are remembered by what was asked; any change of an RBAC object forgets them all, so the common request costs
one dictionary look-up. Rules only ever allow, so order decides nothing but the reason shown.

Nobody grants what they do not hold: `check_escalation` and `check_bind` are what the registry asks before it stores a
role or a binding; verbs "escalate" and "bind" are the exceptions.

Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from windlass.kube.api.authorization.rules import Rule, joined, uncovered
from windlass.kube.api.identity import (
    MASTERS,
    NO_OPINION,
    SERVICE_ACCOUNT_PREFIX,
    Attributes,
    Decision,
    User,
    Verdict,
)
from windlass.kube.api.reader import Object, Reader
from windlass.kube.api.status import StatusError, forbidden, not_found

GROUP = "rbac.authorization.k8s.io"
_RESOURCES = ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding as the index keeps it. `namespace` is "" for the whole cluster."""

    namespace: str
    name: str
    role_kind: str
    role_name: str
    subject: str

    @property
    def reason(self) -> str:
        """Why a request was allowed, as upstream words it."""
        kind = "RoleBinding" if self.namespace else "ClusterRoleBinding"
        name = f"{self.name}/{self.namespace}" if self.namespace else self.name
        return f'RBAC: allowed by {kind} "{name}" of {self.role_kind} "{self.role_name}" to {self.subject}'


class RBAC:
    """The authorizer. Reads through `reader` and keeps its index by subscription."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._verdicts: dict[tuple[Any, ...], Verdict] = {}
        self._index: dict[tuple[str, str], list[Binding]] | None = None
        self._roles: dict[tuple[str, str, str], tuple[Rule, ...]] = {}
        for resource in _RESOURCES:
            reader.subscribe(GROUP, resource, self._changed)

    def authorize(self, attributes: Attributes, /) -> Verdict:
        """ALLOW with the binding as reason, or no opinion."""
        user = attributes.user
        key = (
            user.name, user.groups, attributes.verb, attributes.group, attributes.resource, attributes.subresource,
            attributes.namespace, attributes.name, attributes.path if not attributes.is_resource else None,
        )  # fmt: skip
        verdict = self._verdicts.get(key)
        if verdict is None:
            if len(self._verdicts) >= _REMEMBERED:
                self._verdicts.clear()
            verdict = self._verdicts[key] = self._judge(attributes)
        return verdict

    def rules_for(self, user: User, namespace: str) -> list[Rule]:
        """All rules that hold for the user in a namespace ("" for the cluster's alone)."""
        found: list[Rule] = []
        for binding in self._bindings(user, namespace):
            found.extend(self._rules(binding))
        return found

    def role_rules(self, kind: str, namespace: str, name: str) -> tuple[Rule, ...] | None:
        """The rules of a Role or ClusterRole, `None` where it does not exist."""
        scope = namespace if kind == "Role" else ""
        role = self._reader.get(GROUP, "roles" if kind == "Role" else "clusterroles", scope, name)
        return None if role is None else tuple(Rule.parse(rule) for rule in role.get("rules") or ())

    def _judge(self, attributes: Attributes) -> Verdict:
        for binding in self._bindings(attributes.user, attributes.namespace if attributes.is_resource else ""):
            for rule in self._rules(binding):
                if rule.allows(attributes):
                    return Verdict(Decision.ALLOW, binding.reason)
        return NO_OPINION

    def _bindings(self, user: User, namespace: str) -> Iterator[Binding]:
        index = self._index if self._index is not None else self._build()
        for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
            for binding in index.get(subject, ()):
                if not binding.namespace or binding.namespace == namespace:
                    yield binding

    def _build(self) -> dict[tuple[str, str], list[Binding]]:
        index: dict[tuple[str, str], list[Binding]] = {}
        for resource in ("clusterrolebindings", "rolebindings"):
            for stored in self._reader.list(GROUP, resource):
                for subject in stored.get("subjects") or ():
                    kind, name, shown = _subject(subject, stored["metadata"].get("namespace", ""))
                    index.setdefault((kind, name), []).append(_binding(stored, shown))
        self._index = index
        return index

    def _rules(self, binding: Binding) -> tuple[Rule, ...]:
        key = (binding.role_kind, binding.namespace if binding.role_kind == "Role" else "", binding.role_name)
        rules = self._roles.get(key)
        if rules is None:
            rules = self._roles[key] = self.role_rules(*key) or ()
        return rules

    def _changed(self, _event: str, _changed: Object) -> None:
        self._verdicts.clear()
        self._roles.clear()
        self._index = None


def check_escalation(rbac: RBAC, user: User, namespace: str, rules: Iterable[Mapping[str, Any]]) -> str:
    """Why the user may not write a role with these rules, "" where nothing is beyond their own.

    The caller asks the whole chain for the verb "escalate" on the role before.
    """
    if MASTERS in user.groups:
        return ""
    missing = uncovered(rbac.rules_for(user, namespace), [Rule.parse(rule) for rule in rules])
    if not missing:
        return ""
    lines = sorted(rule.compact() for rule in joined(missing))
    groups = " ".join(f'"{group}"' for group in user.groups)
    begin = f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n'
    return begin + "\n".join(lines)


def check_bind(rbac: RBAC, user: User, binding: Object) -> StatusError | None:
    """Why the user may not write this binding; the caller asks the chain for the verb "bind" on the role before."""
    namespace = binding["metadata"].get("namespace", "")
    reference = binding.get("roleRef") or {}
    kind, name = reference.get("kind", ""), reference.get("name", "")
    if MASTERS in user.groups:
        return None
    rules = rbac.role_rules(kind, namespace, name)
    if rules is None:
        return not_found("roles" if kind == "Role" else "clusterroles", GROUP, name)
    why = check_escalation(rbac, user, namespace, [rule.to_json() for rule in rules])
    resource = "rolebindings" if namespace else "clusterrolebindings"
    return forbidden(resource, GROUP, binding["metadata"].get("name", ""), why) if why else None


def aggregate(role: Object, roles: Iterable[Object]) -> list[dict[str, Any]] | None:
    """The rules of a ClusterRole with an aggregationRule, `None` where it has none.

    Rules of all roles that one of the selectors matches, by name, each rule once; never its own.
    """
    selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if not selectors:
        return None
    found: list[dict[str, Any]] = []
    for other in sorted(roles, key=lambda item: str(item["metadata"]["name"])):
        labels = other["metadata"].get("labels") or {}
        if other["metadata"]["name"] == role["metadata"]["name"]:
            continue
        if any(_selects(selector, labels) for selector in selectors):
            found.extend(rule for rule in other.get("rules") or () if rule not in found)
    return found


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_meets(requirement, labels) for requirement in selector.get("matchExpressions") or ())


def _meets(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = requirement["key"], requirement["operator"], requirement.get("values") or ()
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    return (key in labels) is (operator == "Exists")


def _subject(subject: Mapping[str, Any], namespace: str) -> tuple[str, str, str]:
    kind, name = subject.get("kind", ""), subject.get("name", "")
    if kind == "ServiceAccount":
        home = subject.get("namespace") or namespace
        return "User", f"{SERVICE_ACCOUNT_PREFIX}{home}:{name}", f'{kind} "{name}/{home}"'
    return kind, name, f'{kind} "{name}"'


def _binding(stored: Object, shown: str) -> Binding:
    metadata, reference = stored["metadata"], stored.get("roleRef") or {}
    return Binding(
        metadata.get("namespace", ""), metadata["name"], reference.get("kind", ""), reference.get("name", ""), shown
    )
