"""Scores: how well nodes suit a pod, 0 to 100 from each plugin, added up by upstream's weights.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from typing import Final

import numpy as np

from windlass.kube.scheduler.counters import Counters, by_domain
from windlass.kube.scheduler.filters import matches_terms, tolerates
from windlass.kube.scheduler.podinfo import PodInfo
from windlass.kube.scheduler.table import Mask, NodeTable, Vector

BEST: Final = 100.0
WEIGHTS: Final = {
    "TaintToleration": 3.0,
    "NodeAffinity": 2.0,
    "NodeResourcesFit": 1.0,
    "NodeResourcesBalancedAllocation": 1.0,
    "PodTopologySpread": 2.0,
    "InterPodAffinity": 2.0,
    "ImageLocality": 1.0,
}
_LEAST_IMAGE, _MOST_IMAGE = 23 << 20, 1000 << 20


def total(table: NodeTable, counters: Counters, info: PodInfo, feasible: Mask) -> Vector:
    """The sum of all scores; what is not feasible counts for nothing."""
    found = np.zeros(len(table.names))
    found += WEIGHTS["NodeResourcesFit"] * least_allocated(table, info)
    found += WEIGHTS["NodeResourcesBalancedAllocation"] * balanced(table, info)
    if len(table.taints) > 1:
        found += WEIGHTS["TaintToleration"] * taint_toleration(table, info, feasible)
    if info.preferred_nodes:
        found += WEIGHTS["NodeAffinity"] * node_affinity(table, info, feasible)
    found += WEIGHTS["PodTopologySpread"] * topology_spread(table, counters, info, feasible)
    found += WEIGHTS["InterPodAffinity"] * inter_pod_affinity(table, counters, info, feasible)
    if table.images:
        found += WEIGHTS["ImageLocality"] * image_locality(table, info)
    return np.where(feasible, found, -1.0)


def _fractions(table: NodeTable, info: PodInfo) -> tuple[Vector, Vector]:
    """The parts of cpu and memory that would be used with the pod."""
    cpu, memory = table.columns["cpu"], table.columns["memory"]
    with np.errstate(divide="ignore", invalid="ignore"):
        of_cpu = (table.scored[:, 0] + info.scored[0]) / table.allocatable[:, cpu]
        of_memory = (table.scored[:, 1] + info.scored[1]) / table.allocatable[:, memory]
    return np.nan_to_num(of_cpu, nan=1.0, posinf=1.0), np.nan_to_num(of_memory, nan=1.0, posinf=1.0)


def least_allocated(table: NodeTable, info: PodInfo) -> Vector:
    """NodeResourcesFit, LeastAllocated: the emptier the better."""
    of_cpu, of_memory = _fractions(table, info)
    found: Vector = (np.clip(1 - of_cpu, 0, 1) + np.clip(1 - of_memory, 0, 1)) / 2 * BEST
    return found


def balanced(table: NodeTable, info: PodInfo) -> Vector:
    """NodeResourcesBalancedAllocation: the more alike the parts of cpu and memory in use, the better."""
    of_cpu, of_memory = _fractions(table, info)
    deviation = np.abs(np.clip(of_cpu, 0, 1) - np.clip(of_memory, 0, 1)) / 2
    found: Vector = (1 - deviation) * BEST
    return found


def _normalized(values: Vector, feasible: Mask, *, reverse: bool = False) -> Vector:
    top = float(values[feasible].max()) if feasible.any() else 0.0
    if top <= 0:
        return np.full(len(values), BEST if reverse else 0.0)
    scaled = values / top * BEST
    return BEST - scaled if reverse else scaled


def taint_toleration(table: NodeTable, info: PodInfo, feasible: Mask) -> Vector:
    """Fewer PreferNoSchedule taints that are not tolerated are better."""
    by_class = np.array(
        [
            sum(1 for taint in taints if taint[2] == "PreferNoSchedule" and not tolerates(info.tolerations, taint))
            for taints in table.taints
        ],
        dtype=np.float64,
    )
    return _normalized(by_class[table.taint_class], feasible, reverse=True)


def node_affinity(table: NodeTable, info: PodInfo, feasible: Mask) -> Vector:
    """The weights of the preferred terms that a node matches."""
    found = np.zeros(len(table.names))
    for each in info.preferred_nodes:
        found += matches_terms(table, [each["preference"]]) * float(each["weight"])
    return _normalized(found, feasible)


def topology_spread(table: NodeTable, counters: Counters, info: PodInfo, feasible: Mask) -> Vector:
    """Domains with fewer pods of the same kind are better, by the constraints that may be broken."""
    found = np.zeros(len(table.names))
    constraints = [each for each in info.spread if not each.required]
    if not constraints:
        return found
    for constraint in constraints:
        ids, number = table.domains(constraint.topology)
        sums = by_domain(table, counters.matching(constraint.term), constraint.topology)
        found += np.where(ids < 0, 0.0, sums * np.log(number + 2) + constraint.max_skew - 1)
    least = float(found[feasible].min()) if feasible.any() else 0.0
    most = float(found[feasible].max()) if feasible.any() else 0.0
    if most == 0:
        return np.full(len(found), BEST)
    return np.clip(BEST * (most + least - found) / most, 0, BEST)


def inter_pod_affinity(table: NodeTable, counters: Counters, info: PodInfo, feasible: Mask) -> Vector:
    """What the pod prefers of others, and what others prefer of it."""
    found = np.zeros(len(table.names))
    for affinity in info.preferred_affinity:
        found += by_domain(table, counters.matching(affinity.term), affinity.topology) * affinity.weight
    for affinity, counts in counters.having(info, required=False):
        found += by_domain(table, counts, affinity.topology) * affinity.weight
    if not found.any() or not feasible.any():
        return found
    least, most = float(found[feasible].min()), float(found[feasible].max())
    if most == least:
        return np.zeros(len(found))
    return BEST * (found - least) / (most - least)


def image_locality(table: NodeTable, info: PodInfo) -> Vector:
    """Nodes that have the pod's images are better, large images more so."""
    found = np.zeros(len(table.names))
    for image in info.images:
        nodes = table.images.get(image) or table.images.get(f"{image}:latest") or {}
        spread = len(nodes) / max(table.size, 1)
        for row, size in nodes.items():
            found[row] += size * spread
    most = _MOST_IMAGE * max(len(info.images), 1)
    return np.clip((found - _LEAST_IMAGE) / (most - _LEAST_IMAGE), 0, 1) * BEST
