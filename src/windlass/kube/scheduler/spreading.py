"""Topology spread for pods that ask for none: those of one service or owner go to different zones and nodes.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/#internal-default-constraints
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from windlass.kube.api import selectors
from windlass.kube.api.identity import Requirement
from windlass.kube.api.reader import Reader
from windlass.kube.scheduler.podinfo import PodInfo, Spread, Term

Object = dict[str, Any]

TOPOLOGIES: Final = (("kubernetes.io/hostname", 3, False), ("topology.kubernetes.io/zone", 5, False))
_OWNERS: Final = {
    "ReplicaSet": ("apps", "replicasets"),
    "StatefulSet": ("apps", "statefulsets"),
    "ReplicationController": ("", "replicationcontrollers"),
}
_MOST: Final = 4096


class DefaultSpreading:
    """Finds the constraints; what it found is kept until a service changes (`forget`).

    `topologies`: keys with the most skew, and whether they are required.
    """

    def __init__(self, cache: Reader, topologies: Sequence[tuple[str, int, bool]] = TOPOLOGIES) -> None:
        self._cache = cache
        self._topologies = topologies
        self._found: dict[tuple[str, str, frozenset[tuple[str, str]]], Sequence[Spread]] = {}

    def forget(self) -> None:
        """A service or an owner has changed."""
        self._found.clear()

    def of(self, info: PodInfo) -> Sequence[Spread]:
        """A pod's constraints, none where nothing says which pods belong together."""
        owner: Object = next(
            (each for each in info.pod["metadata"].get("ownerReferences") or () if each.get("controller")), {}
        )
        key = info.namespace, owner.get("uid", ""), frozenset(info.labels.items())
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MOST:
                self._found.clear()
            found = self._found[key] = self._constraints(info, owner)
        return found

    def _constraints(self, info: PodInfo, owner: Object) -> Sequence[Spread]:
        labels: dict[str, str] = {}
        for service in self._cache.list("", "services", info.namespace):
            chosen = (service.get("spec") or {}).get("selector")
            if chosen and all(info.labels.get(name) == value for name, value in chosen.items()):
                labels |= chosen
        wanted = [Requirement(name, "In", (value,)) for name, value in sorted(labels.items())]
        if owner.get("kind") in _OWNERS:
            live = self._cache.get(*_OWNERS[owner["kind"]], info.namespace, owner["name"])
            selector = ((live or {}).get("spec") or {}).get("selector")
            if owner["kind"] == "ReplicationController" and selector:
                selector = {"matchLabels": selector}
            if selector:
                wanted += selectors.from_label_selector(selector) or ()
        if not wanted:
            return ()
        term = Term(frozenset({info.namespace}), tuple(dict.fromkeys(wanted)))
        return [
            Spread(term, topology, skew, required, min_domains=1, honors_affinity=True, honors_taints=False)
            for topology, skew, required in self._topologies
        ]
