"""DefaultPreemption: whose place a more important pod takes.

On each node where ending less important pods would help, as many of them as possible are spared, those of disruption
budgets that allow nothing more first. Of these nodes the best is chosen: fewest budgets broken, least important
victims, fewest of them, those that started last.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from windlass.kube.api import selectors
from windlass.kube.scheduler import filters
from windlass.kube.scheduler.counters import Counters
from windlass.kube.scheduler.podinfo import PodInfo
from windlass.kube.scheduler.table import Mask, NodeTable

Object = dict[str, Any]
_MOST_CANDIDATES = 100


class Candidate(NamedTuple):
    """A node, the pods that would have to go, and how many budgets that breaks."""

    row: int
    victims: Sequence[PodInfo]
    broken: int


def find(
    table: NodeTable, counters: Counters, info: PodInfo, resolvable: Mask, budgets: Sequence[Object]
) -> Candidate | None:
    """The best place, None where ending pods does not help."""
    candidates = []
    rows = [int(row) for row in np.flatnonzero(resolvable & table.valid)]
    for row in rows:
        if not any(each.priority < info.priority for each in table.pods[row].values()):
            continue
        found = _on_node(table, counters, info, row, budgets)
        if found is not None:
            candidates.append(found)
            if len(candidates) >= _MOST_CANDIDATES:
                break
    return min(candidates, key=_rank, default=None)


def _rank(candidate: Candidate) -> tuple[Any, ...]:
    priorities = [each.priority for each in candidate.victims]
    starts = [(each.pod.get("status") or {}).get("startTime") or "" for each in candidate.victims]
    latest = "".join(chr(0x10FFFF - ord(letter)) for letter in max(starts, default=""))
    return candidate.broken, max(priorities), sum(priorities), len(priorities), latest


def _fits(table: NodeTable, counters: Counters, info: PodInfo, row: int) -> bool:
    return all(not refusal.mask[row] for refusal in filters.run(table, counters, info))


def _on_node(
    table: NodeTable, counters: Counters, info: PodInfo, row: int, budgets: Sequence[Object]
) -> Candidate | None:
    """The fewest pods that would have to go from a node. The table is as before on return."""
    lesser = [each for each in table.pods[row].values() if each.priority < info.priority]
    taken: list[PodInfo] = []

    def take(each: PodInfo) -> None:
        table.remove_pod(row, each.uid)
        counters.add(row, each, -1)
        taken.append(each)

    def put_back(each: PodInfo) -> None:
        table.add_pod(row, each)
        counters.add(row, each)
        taken.remove(each)

    try:
        for each in lesser:
            take(each)
        if not _fits(table, counters, info, row):
            return None
        protected = _protected(lesser, budgets)
        victims: list[PodInfo] = []
        # The most important ones are spared first, and among them those that budgets protect.
        for each in sorted(lesser, key=lambda one: (one.uid not in protected, -one.priority)):
            put_back(each)
            if not _fits(table, counters, info, row):
                take(each)
                victims.append(each)
        if not victims:
            return None
        return Candidate(row, victims, sum(each.uid in protected for each in victims))
    finally:
        for each in list(taken):
            put_back(each)


def _protected(pods: Iterable[PodInfo], budgets: Sequence[Object]) -> set[str]:
    """Pods whose end would break a disruption budget."""
    left = {id(budget): int((budget.get("status") or {}).get("disruptionsAllowed") or 0) for budget in budgets}
    found = set()
    for info in pods:
        for budget in budgets:
            if budget["metadata"]["namespace"] != info.namespace:
                continue
            chosen = (budget.get("spec") or {}).get("selector")
            if chosen is None or not selectors.matches_label_selector(chosen, info.labels):
                continue
            if left[id(budget)] <= 0:
                found.add(info.uid)
            left[id(budget)] -= 1
    return found
