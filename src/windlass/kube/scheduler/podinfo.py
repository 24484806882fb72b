"""What of a pod matters to the scheduler, read once.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from windlass.kube.api import quantity, selectors
from windlass.kube.api.identity import Requirement
from windlass.kube.api.selectors import Matcher
from windlass.kube.controllers import pod_state
from windlass.kube.node import resources

Object = dict[str, Any]
DEFAULT_MILLI_CPU, DEFAULT_MEMORY = 100, 200 << 20
"""What a container without requests counts as in scores."""


class Term(NamedTuple):
    """Pods that are meant: those of some namespaces whose labels match. Hashable, so that counts are shared.

    `namespaces` is None for all.
    """

    namespaces: frozenset[str] | None
    selector: tuple[Requirement, ...]

    def matcher(self) -> Matcher:
        """A function of labels."""
        return selectors.label_matcher(self.selector)


class Affinity(NamedTuple):
    """A term within a topology, with its weight (0 where it is required)."""

    term: Term
    topology: str
    weight: int = 0


class Spread(NamedTuple):
    """A topology spread constraint."""

    term: Term
    topology: str
    max_skew: int
    required: bool
    min_domains: int
    honors_affinity: bool
    honors_taints: bool


class PodInfo:
    """Attributes:

    key: namespace and name.
    requests: by resource name, in thousandths for cpu and whole units otherwise.
    scored: cpu and memory as scores count them.
    node_terms: lists of node selector terms, of each of which a node must match one.
    default_spread: what holds where the pod has no constraints of its own.
    """

    def __init__(
        self,
        pod: Object,
        namespace_labels: Mapping[str, Mapping[str, str]],
        added_affinity: Mapping[str, Any] | None = None,
    ) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        self.pod = pod
        self.uid: str = metadata["uid"]
        self.namespace: str = metadata["namespace"]
        self.name: str = metadata["name"]
        self.key = (self.namespace, self.name)
        self.labels: Mapping[str, str] = metadata.get("labels") or {}
        self.priority = int(spec.get("priority") or 0)
        self.node: str = spec.get("nodeName") or ""
        self.nominated: str = (pod.get("status") or {}).get("nominatedNodeName") or ""
        self.scheduler: str = spec.get("schedulerName") or "default-scheduler"
        self.gates = [each["name"] for each in spec.get("schedulingGates") or ()]
        self.requests = _requests(spec)
        self.scored = _scored(spec)
        self.tolerations: Sequence[Object] = spec.get("tolerations") or ()
        self.ports = _ports(spec)
        self.images = [each["image"] for each in resources.containers(spec) if each.get("image")]
        self.claims = pod_state.claims_of(pod)
        self.selector: Mapping[str, str] = spec.get("nodeSelector") or {}
        affinity = spec.get("affinity") or {}
        nodes = [each for each in (affinity.get("nodeAffinity"), added_affinity) if each]
        self.node_terms: Sequence[Sequence[Object]] = [
            required["nodeSelectorTerms"]
            for each in nodes
            if (required := each.get("requiredDuringSchedulingIgnoredDuringExecution")) is not None
        ]
        self.preferred_nodes: Sequence[Object] = [
            preferred
            for each in nodes
            for preferred in each.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        own = affinity.get("podAffinity") or {}
        anti = affinity.get("podAntiAffinity") or {}
        read = _Terms(self.namespace, self.labels, namespace_labels)
        self.affinity = read.required(own)
        self.anti_affinity = read.required(anti)
        self.preferred_affinity = read.preferred(own, 1) + read.preferred(anti, -1)
        self.spread = [read.spread(each) for each in spec.get("topologySpreadConstraints") or ()]
        self.default_spread: Sequence[Spread] = ()
        self.preempts = spec.get("preemptionPolicy") != "Never"


class _Terms:
    def __init__(
        self, namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._namespace, self._labels, self._namespace_labels = namespace, labels, namespace_labels

    def required(self, affinity: Object) -> list[Affinity]:
        terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        return [Affinity(self._term(each), each["topologyKey"]) for each in terms]

    def preferred(self, affinity: Object, sign: int) -> list[Affinity]:
        terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        return [
            Affinity(self._term(each["podAffinityTerm"]), each["podAffinityTerm"]["topologyKey"], sign * each["weight"])
            for each in terms
        ]

    def _term(self, term: Object) -> Term:
        names = set(term.get("namespaces") or ())
        chosen = term.get("namespaceSelector")
        if chosen is not None:
            if not chosen:
                return Term(None, self._selector(term))
            names |= {
                name
                for name, labels in self._namespace_labels.items()
                if selectors.matches_label_selector(chosen, labels)
            }
        elif not names:
            names = {self._namespace}
        return Term(frozenset(names), self._selector(term))

    def _selector(self, term: Object) -> tuple[Requirement, ...]:
        found = selectors.from_label_selector(term.get("labelSelector"))
        if found is None:
            return (Requirement("", "In", ()),)  # nothing matches
        for key in term.get("matchLabelKeys") or ():
            if key in self._labels:
                found.append(Requirement(key, "In", (self._labels[key],)))
        for key in term.get("mismatchLabelKeys") or ():
            if key in self._labels:
                found.append(Requirement(key, "NotIn", (self._labels[key],)))
        return tuple(found)

    def spread(self, constraint: Object) -> Spread:
        return Spread(
            Term(frozenset({self._namespace}), self._selector(constraint)),
            constraint["topologyKey"],
            int(constraint["maxSkew"]),
            constraint.get("whenUnsatisfiable") != "ScheduleAnyway",
            int(constraint.get("minDomains") or 1),
            constraint.get("nodeAffinityPolicy") != "Ignore",
            constraint.get("nodeTaintsPolicy") == "Honor",
        )


def _requests(spec: Object) -> dict[str, int]:
    names = {"cpu", "memory", "ephemeral-storage"}
    for container in resources.containers(spec):
        names |= ((container.get("resources") or {}).get("requests") or {}).keys()
    names |= ((spec.get("resources") or {}).get("requests") or {}).keys()
    names |= (spec.get("overhead") or {}).keys()
    found = {"pods": 1}
    for name in names:
        amount = resources.pod_total(spec, "requests", name)[0]
        value = amount.milli if name == "cpu" else amount.value
        if value:
            found[name] = value
    return found


def _scored(spec: Object) -> tuple[int, int]:
    cpu = memory = 0
    for container in spec.get("containers") or ():
        wanted = (container.get("resources") or {}).get("requests") or {}
        cpu += quantity.parse(wanted["cpu"]).milli if "cpu" in wanted else DEFAULT_MILLI_CPU
        memory += quantity.parse(wanted["memory"]).value if "memory" in wanted else DEFAULT_MEMORY
    return cpu, memory


def _ports(spec: Object) -> frozenset[tuple[str, str, int]]:
    """Host ports: protocol, address, number."""
    return frozenset(
        (port.get("protocol") or "TCP", port.get("hostIP") or "0.0.0.0", int(port["hostPort"]))
        for container in resources.containers(spec)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def ports_conflict(one: frozenset[tuple[str, str, int]], other: frozenset[tuple[str, str, int]]) -> bool:
    """Whether two pods cannot have their host ports on one node."""
    any_address = "0.0.0.0"
    for protocol, address, number in one:
        for each in other:
            if each[0] == protocol and each[2] == number and (address == each[1] or any_address in (address, each[1])):
                return True
    return False
