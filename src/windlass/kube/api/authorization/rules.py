"""Policy rules: what one allows, whether one set of rules covers another, how rules read in a refusal.

    {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"], "resourceNames": ["web"]}
    {"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}

Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.kube.api.identity import Attributes


@dataclass(frozen=True, slots=True)
class Rule:
    """One PolicyRule; field names as in rbac.authorization.k8s.io/v1."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()

    @classmethod
    def parse(cls, rule: Mapping[str, Any]) -> Rule:
        """From a rule's JSON."""
        return cls(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
        )

    def allows(self, asked: Attributes) -> bool:
        """Whether the rule alone allows it."""
        if asked.verb not in self.verbs and "*" not in self.verbs:
            return False
        if not asked.is_resource:
            return any(_url_covers(url, asked.path) for url in self.urls)
        return (
            (asked.group in self.groups or "*" in self.groups)
            and self._has_resource(asked.resource, asked.subresource)
            and (not self.names or asked.name in self.names)
        )

    def _has_resource(self, resource: str, subresource: str) -> bool:
        resources = self.resources
        if "*" in resources:
            return True
        if not subresource:
            return resource in resources
        return f"{resource}/{subresource}" in resources or f"*/{subresource}" in resources

    def atoms(self) -> Iterable[Rule]:
        """The rule taken apart into rules of one verb and one thing each."""
        for verb in sorted(self.verbs):
            for url in self.urls:
                yield Rule(frozenset({verb}), urls=(url,))
            for group, resource in itertools.product(sorted(self.groups), sorted(self.resources)):
                for name in sorted(self.names) or [""]:
                    names = frozenset({name} if name else ())
                    yield Rule(frozenset({verb}), frozenset({group}), frozenset({resource}), names)

    def covers(self, atom: Rule) -> bool:
        """Whether everything the atom allows is allowed here."""
        if "*" not in self.verbs and not atom.verbs <= self.verbs:
            return False
        if atom.urls:
            return all(any(_url_covers(own, url) for own in self.urls) for url in atom.urls)
        if "*" not in self.groups and not atom.groups <= self.groups:
            return False
        if not all(self._covers_resource(resource) for resource in atom.resources):
            return False
        return not self.names or (bool(atom.names) and atom.names <= self.names)

    def _covers_resource(self, resource: str) -> bool:
        if resource in self.resources or "*" in self.resources:
            return True
        _, slash, subresource = resource.partition("/")
        return bool(slash) and f"*/{subresource}" in self.resources

    def compact(self) -> str:
        """How a refusal prints it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`."""
        fields = (
            ("APIGroups", self.groups),
            ("Resources", self.resources),
            ("ResourceNames", self.names),
            ("NonResourceURLs", self.urls),
            ("Verbs", self.verbs),
        )
        quoted = [(name, " ".join(f'"{value}"' for value in sorted(values))) for name, values in fields if values]
        return "{" + ", ".join(f"{name}:[{values}]" for name, values in quoted) + "}"

    def to_json(self) -> dict[str, Any]:
        """As SelfSubjectRulesReview shows it."""
        found: dict[str, Any] = {"verbs": sorted(self.verbs)}
        if self.urls:
            return {**found, "nonResourceURLs": list(self.urls)}
        found["apiGroups"] = sorted(self.groups)
        found["resources"] = sorted(self.resources)
        if self.names:
            found["resourceNames"] = sorted(self.names)
        return found


def uncovered(owner: Sequence[Rule], wanted: Sequence[Rule]) -> list[Rule]:
    """The atoms of `wanted` that no rule of `owner` covers."""
    atoms = dict.fromkeys(atom for rule in wanted for atom in rule.atoms())
    return [atom for atom in atoms if not any(rule.covers(atom) for rule in owner)]


def joined(atoms: Iterable[Rule]) -> list[Rule]:
    """Atoms that differ in the verb alone, put together again."""
    verbs: dict[tuple[frozenset[str], frozenset[str], frozenset[str], tuple[str, ...]], set[str]] = {}
    for atom in atoms:
        verbs.setdefault((atom.groups, atom.resources, atom.names, atom.urls), set()).update(atom.verbs)
    return [Rule(frozenset(verb), *rest) for rest, verb in verbs.items()]


def _url_covers(own: str, asked: str) -> bool:
    if own in ("*", asked):
        return True
    return own.endswith("*") and asked.startswith(own.rstrip("*"))
