"""Filters: which nodes a pod can go to at all. Each is a function from a table to a mask, with its reason in words.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from windlass.kube.scheduler.counters import Counters, by_domain
from windlass.kube.scheduler.podinfo import PodInfo, Term, ports_conflict
from windlass.kube.scheduler.table import Mask, NodeTable

Object = dict[str, Any]
UNSCHEDULABLE_TAINT = ("node.kubernetes.io/unschedulable", "", "NoSchedule")


class Refusal(NamedTuple):
    """Nodes that a filter takes away.

    Attributes:
        plugin: the filter's name.
        reason: in upstream's words; for each row where it is a list.
        resolvable: whether ending pods could help.
    """

    plugin: str
    mask: Mask
    reason: str
    resolvable: bool = True


def tolerates(tolerations: Iterable[Object], taint: tuple[str, str, str]) -> bool:
    """Whether a taint (key, value, effect) does not matter."""
    key, value, effect = taint
    for each in tolerations:
        if each.get("effect") not in (None, "", effect):
            continue
        if (each.get("operator") or "Equal") == "Exists":
            if each.get("key") in (None, "", key):
                return True
        elif each.get("key") == key and (each.get("value") or "") == value:
            return True
    return False


def run(table: NodeTable, counters: Counters, info: PodInfo) -> Iterator[Refusal]:
    """All filters but those of volumes, in upstream's order. Each mask is of nodes that are refused."""
    yield from _node_unschedulable(table, info)
    yield from _node_name(table, info)
    yield from _taint_toleration(table, info)
    yield from _node_affinity(table, info)
    yield from _node_ports(table, info)
    yield from _node_resources_fit(table, info)
    yield from _pod_topology_spread(table, counters, info)
    yield from _inter_pod_affinity(table, counters, info)


def _node_unschedulable(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    if table.unschedulable.any() and not tolerates(info.tolerations, UNSCHEDULABLE_TAINT):
        yield Refusal("NodeUnschedulable", table.unschedulable, "node(s) were unschedulable", resolvable=False)


def _node_name(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    if info.node:
        mask = np.ones(len(table.names), dtype=np.bool_)
        if (row := table.rows.get(info.node)) is not None:
            mask[row] = False
        yield Refusal("NodeName", mask, "node(s) didn't match the requested node name", resolvable=False)


def _taint_toleration(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    refused: list[int] = []
    reason = ""
    for number, taints in enumerate(table.taints):
        for taint in taints:
            if taint[2] != "PreferNoSchedule" and not tolerates(info.tolerations, taint):
                refused.append(number)
                reason = reason or f"node(s) had untolerated taint {{{taint[0]}: {taint[1]}}}"
                break
    if refused:
        mask = np.isin(table.taint_class, refused)
        if mask.any():
            # As since v1.34, all untolerated taints are one reason.
            yield Refusal("TaintToleration", mask, "node(s) had untolerated taint(s)", resolvable=False)


_NAME_FIELD = "metadata.name"


def matches_terms(table: NodeTable, terms: Sequence[Object]) -> Mask:
    """The nodes that one of the terms means."""
    found = np.zeros(len(table.names), dtype=np.bool_)
    for term in terms:
        expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
        if not expressions and not fields:
            continue
        mask = table.valid.copy()
        for expression in expressions:
            mask &= _expression(table, expression)
        for field in fields:
            names = np.array([name in field.get("values", ()) for name in table.names])
            mask &= names if field["operator"] == "In" else ~names
        found |= mask
    return found


def _expression(table: NodeTable, expression: Mapping[str, Any]) -> Mask:
    values = table.label(expression["key"])
    wanted = expression.get("values") or []
    match expression["operator"]:
        case "In":
            return np.fromiter((value in wanted for value in values), dtype=np.bool_, count=len(values))
        case "NotIn":
            return np.fromiter((value not in wanted for value in values), dtype=np.bool_, count=len(values))
        case "Exists":
            return np.fromiter((value is not None for value in values), dtype=np.bool_, count=len(values))
        case "DoesNotExist":
            return np.fromiter((value is None for value in values), dtype=np.bool_, count=len(values))
        case operator:
            bound = int(wanted[0])
            test: Callable[[int], bool] = (lambda x: x > bound) if operator == "Gt" else (lambda x: x < bound)
            return np.fromiter(
                (value is not None and value.lstrip("-").isdigit() and test(int(value)) for value in values),
                dtype=np.bool_,
                count=len(values),
            )


def node_affinity(table: NodeTable, info: PodInfo) -> Mask:
    """The nodes that nodeSelector and required node affinity allow."""
    mask = table.valid.copy()
    for key, value in info.selector.items():
        mask &= table.label(key) == value
    if info.node_terms is not None:
        mask &= matches_terms(table, info.node_terms)
    return mask


def _node_affinity(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    if info.selector or info.node_terms is not None:
        reason = "node(s) didn't match Pod's node affinity/selector"
        yield Refusal("NodeAffinity", ~node_affinity(table, info), reason, resolvable=False)


def _node_ports(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    if not info.ports:
        return
    mask = np.zeros(len(table.names), dtype=np.bool_)
    for row in table.with_ports:
        mask[row] = any(ports_conflict(info.ports, each.ports) for each in table.pods[row].values())
    yield Refusal("NodePorts", mask, "node(s) didn't have free ports for the requested pod ports")


def _node_resources_fit(table: NodeTable, info: PodInfo) -> Iterator[Refusal]:
    for resource, amount in info.requests.items():
        column = table.column(resource)
        mask = table.used[:, column] + amount > table.allocatable[:, column]
        if mask.any():
            reason = "Too many pods" if resource == "pods" else f"Insufficient {resource}"
            never = bool((amount > table.allocatable[:, column])[mask & table.valid].all())
            yield Refusal("NodeResourcesFit", mask, reason, resolvable=not never)


def _pod_topology_spread(table: NodeTable, counters: Counters, info: PodInfo) -> Iterator[Refusal]:
    for constraint in info.spread:
        if not constraint.required:
            continue
        ids, number = table.domains(constraint.topology)
        missing = ids < 0
        if missing[table.valid].any():
            reason = "node(s) didn't match pod topology spread constraints (missing required label)"
            yield Refusal("PodTopologySpread", missing, reason, resolvable=False)
        if not number:
            continue
        counted = table.valid & ~missing
        if constraint.honors_affinity:
            counted &= node_affinity(table, info)
        if constraint.honors_taints:
            for refusal in _taint_toleration(table, info):
                counted &= ~refusal.mask
        counts = counters.matching(constraint.term)[: len(ids)]
        inside = counted
        sums = np.bincount(ids[inside], weights=counts[inside], minlength=number)
        eligible = np.zeros(number, dtype=np.bool_)
        eligible[np.unique(ids[inside])] = True
        least = float(sums[eligible].min()) if eligible.any() else 0.0
        if int(eligible.sum()) < constraint.min_domains:
            least = 0.0
        own = 1 if _means(constraint.term, info) else 0
        skew = np.where(missing, 0, sums[np.maximum(ids, 0)] + own - least)
        reason = "node(s) didn't match pod topology spread constraints"
        yield Refusal("PodTopologySpread", skew > constraint.max_skew, reason)


def _inter_pod_affinity(table: NodeTable, counters: Counters, info: PodInfo) -> Iterator[Refusal]:
    size = len(table.names)
    forbidden = np.zeros(size, dtype=np.bool_)
    for affinity, counts in counters.having(info, required=True):
        forbidden |= by_domain(table, counts, affinity.topology) > 0
    if forbidden.any():
        yield Refusal("InterPodAffinity", forbidden, "node(s) didn't satisfy existing pods anti-affinity rules")
    for affinity in info.anti_affinity:
        mask = by_domain(table, counters.matching(affinity.term), affinity.topology) > 0
        yield Refusal("InterPodAffinity", mask, "node(s) didn't match pod anti-affinity rules")
    if not info.affinity:
        return
    allowed = np.ones(size, dtype=np.bool_)
    nobody = True
    for affinity in info.affinity:
        sums = by_domain(table, counters.matching(affinity.term), affinity.topology)
        nobody = nobody and not counters.matching(affinity.term).any()
        allowed &= sums > 0
    if nobody and all(_means(each.term, info) for each in info.affinity):
        # The first of a group that wants to be together may go anywhere the topology is known.
        allowed = np.ones(size, dtype=np.bool_)
        for affinity in info.affinity:
            allowed &= table.domains(affinity.topology)[0] >= 0
    yield Refusal("InterPodAffinity", ~allowed, "node(s) didn't match pod affinity rules", resolvable=False)


def _means(term: Term, info: PodInfo) -> bool:
    return (term.namespaces is None or info.namespace in term.namespaces) and term.matcher()(info.labels)
