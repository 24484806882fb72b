"""Scores: how well nodes suit a pod, 0 to 100 from each plugin, added up by upstream's weights.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from windlass.kube.api.nodeselection import tolerates
from windlass.kube.scheduler.counters import Counters, by_domain
from windlass.kube.scheduler.filters import matches_terms
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


class Strategy(NamedTuple):
    """How NodeResourcesFit scores.

    Attributes:
        kind: LeastAllocated, MostAllocated or RequestedToCapacityRatio.
        weights: resources and their weights.
        shape: for the last kind, utilizations in percent and scores of 0 to 10, ascending.
    """

    kind: str
    weights: tuple[tuple[str, int], ...] = (("cpu", 1), ("memory", 1))
    shape: tuple[tuple[int, int], ...] = ()


STRATEGIES: Final = {"LeastAllocated": Strategy("LeastAllocated")}


def total(
    table: NodeTable,
    counters: Counters,
    info: PodInfo,
    feasible: Mask,
    weights: Mapping[str, float] = WEIGHTS,
    strategy: Strategy = STRATEGIES["LeastAllocated"],
    hard_affinity_weight: int = 1,
) -> Vector:
    """The sum of all scores; what is not feasible counts for nothing."""
    found = np.zeros(len(table.names))
    if weight := weights.get("NodeResourcesFit"):
        found += weight * resources_fit(table, info, strategy)
    if weight := weights.get("NodeResourcesBalancedAllocation"):
        found += weight * balanced(table, info)
    if len(table.taints) > 1 and (weight := weights.get("TaintToleration")):
        found += weight * taint_toleration(table, info, feasible)
    if info.preferred_nodes and (weight := weights.get("NodeAffinity")):
        found += weight * node_affinity(table, info, feasible)
    if weight := weights.get("PodTopologySpread"):
        found += weight * topology_spread(table, counters, info, feasible)
    if weight := weights.get("InterPodAffinity"):
        found += weight * inter_pod_affinity(table, counters, info, feasible, hard_affinity_weight)
    if table.images and (weight := weights.get("ImageLocality")):
        found += weight * image_locality(table, info)
    return np.where(feasible, found, -1.0)


def _fraction(table: NodeTable, info: PodInfo, resource: str) -> Vector:
    """The part of a resource that would be used with the pod."""
    column = table.column(resource)
    with np.errstate(divide="ignore", invalid="ignore"):
        if resource in ("cpu", "memory"):
            place = 0 if resource == "cpu" else 1
            found = (table.scored[:, place] + info.scored[place]) / table.allocatable[:, column]
        else:
            found = (table.used[:, column] + info.requests.get(resource, 0)) / table.allocatable[:, column]
    return np.nan_to_num(found, nan=1.0, posinf=1.0)


def resources_fit(table: NodeTable, info: PodInfo, strategy: Strategy) -> Vector:
    """NodeResourcesFit: the emptier the better, or the fuller, or by a shape."""
    found, weight_sum = np.zeros(len(table.names)), 0
    for resource, weight in strategy.weights:
        if resource not in ("cpu", "memory") and not info.requests.get(resource):
            continue
        fraction = np.clip(_fraction(table, info, resource), 0, 1)
        if strategy.kind == "LeastAllocated":
            points = 1 - fraction
        elif strategy.kind == "MostAllocated":
            points = fraction
        else:
            utilizations, heights = zip(*strategy.shape, strict=True)
            points = np.interp(fraction * 100, utilizations, heights) / 10
        found += points * weight
        weight_sum += weight
    return found / max(weight_sum, 1) * BEST


def balanced(table: NodeTable, info: PodInfo) -> Vector:
    """NodeResourcesBalancedAllocation: the more alike the parts of cpu and memory in use, the better."""
    of_cpu, of_memory = _fraction(table, info, "cpu"), _fraction(table, info, "memory")
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
    constraints = [each for each in info.spread or info.default_spread if not each.required]
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


def inter_pod_affinity(
    table: NodeTable, counters: Counters, info: PodInfo, feasible: Mask, hard_weight: int = 1
) -> Vector:
    """What the pod prefers of others, and what others prefer of it."""
    found = np.zeros(len(table.names))
    for affinity in info.preferred_affinity:
        found += by_domain(table, counters.matching(affinity.term), affinity.topology) * affinity.weight
    for affinity, counts in counters.having(info, required=False):
        # Required affinity is counted with a weight of none.
        found += by_domain(table, counts, affinity.topology) * (affinity.weight or hard_weight)
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
