"""How many pods of each node match a term: counted once, and then kept up with every pod that comes and goes.

So inter-pod affinity and topology spread are sums over arrays, however many pods there are.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from windlass.kube.api.selectors import Matcher
from windlass.kube.scheduler.podinfo import Affinity, PodInfo, Term
from windlass.kube.scheduler.table import NodeTable, Vector

_MOST = 512


class Counters:
    """Counts over one table. `matching` counts pods that a term means, `having` pods that have an anti-affinity."""

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._matching: dict[Term, tuple[Matcher, Vector]] = {}
        self._having: dict[tuple[Affinity, bool], tuple[Matcher, Vector]] = {}

    def add(self, row: int, info: PodInfo, sign: int = 1) -> None:
        """A pod came to a node, or (-1) left it."""
        for term, (matches, counts) in self._matching.items():
            if (term.namespaces is None or info.namespace in term.namespaces) and matches(info.labels):
                self._fit(counts, term)[row] += sign
        for affinity in info.anti_affinity:
            self._count_having(affinity, True)[row] += sign
        for affinity in info.preferred_affinity:
            self._count_having(affinity, False)[row] += sign
        for affinity in info.affinity:
            self._count_having(affinity, False)[row] += sign

    def _fit(self, counts: Vector, term: Term) -> Vector:
        if len(counts) < len(self._table.names):
            counts = np.concatenate([counts, np.zeros(len(self._table.names) - len(counts))])
            self._matching[term] = (self._matching[term][0], counts)
        return counts

    def _count_having(self, affinity: Affinity, required: bool) -> Vector:
        found = self._having.get((affinity, required))
        if found is None or len(found[1]) < len(self._table.names):
            counts = np.zeros(len(self._table.names))
            if found is not None:
                counts[: len(found[1])] = found[1]
            found = self._having[affinity, required] = (affinity.term.matcher(), counts)
        return found[1]

    def matching(self, term: Term) -> Vector:
        """For each node, how many of its pods a term means."""
        found = self._matching.get(term)
        if found is None:
            if len(self._matching) >= _MOST:
                self._matching.clear()
            matches = term.matcher()
            counts = np.zeros(len(self._table.names))
            for row in self._table.rows.values():
                for info in self._table.pods[row].values():
                    if (term.namespaces is None or info.namespace in term.namespaces) and matches(info.labels):
                        counts[row] += 1
            self._matching[term] = (matches, counts)
            return counts
        return self._fit(found[1], term)

    def having(self, info: PodInfo, *, required: bool) -> Iterable[tuple[Affinity, Vector]]:
        """Terms of pods that run which mean this pod, and for each node how many of its pods have them."""
        for (affinity, is_required), (matches, counts) in self._having.items():
            term = affinity.term
            if is_required != required or not counts.any():
                continue
            if (term.namespaces is None or info.namespace in term.namespaces) and matches(info.labels):
                if len(counts) < len(self._table.names):
                    counts = self._count_having(affinity, is_required)
                yield affinity, counts


def by_domain(table: NodeTable, counts: Vector, topology: str) -> Vector:
    """For each node, the sum over its domain; 0 for nodes in none."""
    ids, number = table.domains(topology)
    inside = ids >= 0
    if not number:
        return np.zeros(len(ids))
    sums = np.bincount(ids[inside], weights=counts[: len(ids)][inside], minlength=number)
    return np.where(inside, sums[np.maximum(ids, 0)], 0.0)
